package job

import "keyferry/internal/topology"

// Only the functions of this file change a job's phase. Each begins with enter, which clears
// what the phase before owned, and then sets what its own phase owns:
//
//	Reason, ResumeTo    Backoff (ResumeTo only), Paused, Failed, Cancelled (Reason only)
//	NextTryAtMs         Backoff, and Paused between two slices
//	EndedAtMs           Failed and the ends: Done, Reverted, Cancelled
//	Published           false until Preparing and from the ends on, true between them
//	Purging             of Preflight, and while a job is stopped there
//	Back, MovedForth    set when a reverting job turns round, until it turns round once more
//	Onward              of a reverting job that has turned round and is to do so once more
//	SourceRunID, TargetRunID   of Preparing, and again of each reversal
//
// Attempt counts failures in a row and is no phase's: it goes back to 0 with progress, that
// is, when a pass has been brought to its end, a slice is over, or an operator steps in.

// enter changes the phase and clears what the former one owned. Whoever needs goOnAt asks
// before.
func enter(j *topology.Job, p topology.Phase) {
	j.Phase = p
	j.Reason, j.ResumeTo = "", ""
	j.NextTryAtMs, j.EndedAtMs = 0, 0
}

// end enters a phase that nothing leads out of: the slots are stable from here on.
func end(j *topology.Job, p topology.Phase, atMs int64) {
	enter(j, p)
	j.Published = false
	j.EndedAtMs = atMs
}

func becomePreflight(j *topology.Job, atMs int64) {
	enter(j, topology.Preflight)
	j.StartedAtMs = atMs
}

// becomePurging is stored before the first key is removed: a count of fewer is right from then on.
func becomePurging(j *topology.Job) {
	enter(j, topology.Preflight)
	j.Purging = true
}

// becomePreparing publishes the slots as moving. The lives are those of source and target, as
// preflight saw them.
func becomePreparing(j *topology.Job, source, target string) {
	enter(j, topology.Preparing)
	j.Published, j.Purging = true, false
	j.SourceRunID, j.TargetRunID = source, target
}

func becomeBulk(j *topology.Job) { enter(j, topology.Bulk) }

// becomeTail is for a pass that has come to its end, wherever the job was: that is progress.
func becomeTail(j *topology.Job) {
	enter(j, topology.Tail)
	j.Attempt = 0
}

func becomeVerifying(j *topology.Job) {
	enter(j, topology.Verifying)
	j.Attempt = 0
}

// becomeDone is stored together with the flip of the slots to the target.
func becomeDone(j *topology.Job, atMs int64) { end(j, topology.Done, atMs) }

// becomeReverting stops the move forth. Where the keys go is not changed before the job
// turns round.
func becomeReverting(j *topology.Job) {
	enter(j, topology.Reverting)
	j.Attempt, j.Onward = 0, false
}

// becomeForward undoes becomeReverting of a job that has not turned round: its keys go where they
// went. It may have been called back before every loop had heard of its slots.
func becomeForward(j *topology.Job) {
	enter(j, topology.Preparing)
	j.Attempt = 0
}

// becomeOnward has a job that has turned round do so once more.
func becomeOnward(j *topology.Job) {
	enter(j, topology.Reverting)
	j.Attempt, j.Onward = 0, true
}

// becomeReversedAgain lets the keys go to the target again. The lives are as in becomeReversed.
func becomeReversedAgain(j *topology.Job, from, to string) {
	enter(j, topology.Bulk)
	j.Back, j.Onward, j.MovedForth = false, false, 0
	j.SourceRunID, j.TargetRunID = from, to
	j.Attempt = 0
}

// becomeReversed lets the keys go the other way from here on. The lives are those of the
// server that they come from now, the job's target, and of that which they go to.
func becomeReversed(j *topology.Job, from, to string) {
	enter(j, topology.Reverting)
	j.Back = true
	j.MovedForth = j.KeysMoved
	j.SourceRunID, j.TargetRunID = from, to
	j.Attempt = 0
}

func becomeReverted(j *topology.Job, atMs int64) { end(j, topology.Reverted, atMs) }

// becomeCancelled is for a job of which no key has moved, and none can.
func becomeCancelled(j *topology.Job, atMs int64) {
	end(j, topology.Cancelled, atMs)
	j.Reason = ReasonOperator
}

// becomeBackoff waits until a time before the next attempt.
func becomeBackoff(j *topology.Job, untilMs int64) {
	to := goOnAt(j)
	enter(j, topology.Backoff)
	j.ResumeTo, j.NextTryAtMs = to, untilMs
}

// becomeFailed waits for an operator.
func becomeFailed(j *topology.Job, reason string, atMs int64) {
	to := goOnAt(j)
	enter(j, topology.Failed)
	j.Reason, j.ResumeTo, j.EndedAtMs = reason, to, atMs
}

// becomePaused waits until the reason is gone, or for an operator.
func becomePaused(j *topology.Job, reason string) {
	to := goOnAt(j)
	enter(j, topology.Paused)
	j.Reason, j.ResumeTo = reason, to
}

// becomeResting pauses until the next slice. Other than any other pause it goes on in the
// very phase: nothing may appear at the source meanwhile, so a tail pass goes on with its proof.
func becomeResting(j *topology.Job, untilMs int64) {
	to := j.Phase
	enter(j, topology.Paused)
	j.Reason, j.ResumeTo, j.NextTryAtMs = ReasonSlice, to, untilMs
}

// becomeResumed goes on where Backoff, Paused and Failed have said.
func becomeResumed(j *topology.Job) { enter(j, j.ResumeTo) }
