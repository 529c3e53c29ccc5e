package job

import (
	"fmt"

	"keyferry/internal/topology"
)

// Why a job is paused: ReasonSlice until NextTryAtMs, ReasonTargetOOM and, on the way back,
// ReasonSourceOOM until there is room, ReasonOperator until it is resumed, ReasonTargetForgot and its kin
// until an operator has decided.
const (
	ReasonTargetOOM = "target-oom"
	ReasonSourceOOM = "source-oom"
	ReasonOperator  = "operator"
	ReasonSlice     = "slice"

	// The server to which keys go lacks some that it was given; until an operator decides.
	ReasonTargetForgot = "target-forgot"
	ReasonSourceForgot = "source-forgot" // on the way back
)

// WaitsForRoom reports that a job goes on by itself when the server has room to which its keys
// go. It reads nothing that LIMIT may change while the job's action goes on.
func WaitsForRoom(j *topology.Job) bool {
	return j.Phase == topology.Paused && (j.Reason == ReasonTargetOOM || j.Reason == ReasonSourceOOM)
}

// Forgotten reports that a job waits for an operator's word on keys that are lost.
func Forgotten(j *topology.Job) bool {
	return j.Phase == topology.Paused && (j.Reason == ReasonTargetForgot || j.Reason == ReasonSourceForgot)
}

// Resting reports a job between two slices.
func Resting(j *topology.Job) bool { return j.Phase == topology.Paused && j.Reason == ReasonSlice }

// Step is the job machine: the job after the event. The caller stores what it returns and
// then acts by the new phase. An operator's event that makes no sense in the phase is an
// error and changes nothing; any other is a mistake in the program and panics.
func Step(j topology.Job, e Event) (topology.Job, error) {
	j = j.Clone()
	j.KeysMoved, j.BytesMoved = max(j.KeysMoved, e.Moved), max(j.BytesMoved, e.Bytes)
	j.ErrorCounts = AddCounts(j.ErrorCounts, e.Counts)
	switch e.Kind {
	case PauseBy:
		return pause(j)
	case ResumeBy:
		return resume(j, e)
	case CancelBy:
		return cancel(j, e)
	case LimitBy:
		return limit(j, e)
	case Failure:
		failure(&j, e)
	case Hopeless:
		hopeless(&j, e)
	case TargetFull:
		targetFull(&j, e)
	case TargetForgot:
		targetForgot(&j, e)
	default:
		planned(&j, e)
	}
	return j, nil
}

// planned is the job's own way: what the phases lead to when nothing goes wrong and nobody
// steps in.
func planned(j *topology.Job, e Event) {
	switch {
	case j.Phase == topology.Queued && e.Kind == Start:
		becomePreflight(j, e.AtMs)
	case j.Phase == topology.Preflight && e.Kind == Checked:
		becomePreparing(j, e.RunID, e.TargetID)
	case j.Phase == topology.Preflight && e.Kind == Counted:
		becomePurging(j)
	case j.Phase == topology.Preparing && e.Kind == Acked:
		becomeBulk(j)
	case j.Phase == topology.Bulk && e.Kind == PassEnd:
		becomeTail(j)
	case j.Phase == topology.Tail && e.Kind == PassEnd && e.Found > 0:
		becomeTail(j) // another pass
	case j.Phase == topology.Tail && e.Kind == PassEnd:
		becomeVerifying(j)
	case j.Phase == topology.Verifying && e.Kind == PassEnd:
		becomeTail(j) // the proof did not hold: a grant, a restart
	case j.Phase == topology.Verifying && e.Kind == Verified:
		becomeDone(j, e.AtMs)
	case j.Phase == topology.Reverting && !j.Back && e.Kind == Reversed:
		becomeReversed(j, e.RunID, e.TargetID)
	case j.Phase == topology.Reverting && j.Onward && e.Kind == Reversed:
		becomeReversedAgain(j, e.RunID, e.TargetID)
	case j.Phase == topology.Reverting && j.Back && e.Kind == Home:
		becomeReverted(j, e.AtMs)
	case j.Phase == topology.Backoff && e.Kind == Due,
		WaitsForRoom(j) && e.Kind == Room,
		Resting(j) && e.Kind == SliceBegin:
		becomeResumed(j)
	case e.Kind == SliceEnd && (j.Phase == topology.Bulk || j.Phase == topology.Tail || j.Phase == topology.Reverting && j.Back):
		sliceEnd(j, e)
	default:
		panic(fmt.Sprintf("job: %s in phase %s", e.Kind, j.Phase))
	}
}

// goOnAt is where a job that was stopped in its present phase goes on. Whatever it was
// doing at the source is done again from a pass, but never what comes before Published.
func goOnAt(j *topology.Job) topology.Phase {
	at := j.Phase
	switch at {
	case topology.Backoff, topology.Paused, topology.Failed:
		at = j.ResumeTo // of a rest it may be the tail phase
	}
	switch at {
	case topology.Tail, topology.Verifying:
		return topology.Bulk
	}
	return at
}

func ended(j *topology.Job) error { return fmt.Errorf("job %s is %s", j.ID, j.Phase) }

func pause(j topology.Job) (topology.Job, error) {
	if j.Phase.Ended() {
		return j, ended(&j)
	}
	if j.Phase == topology.Paused && j.Reason == ReasonOperator {
		return j, nil
	}
	becomePaused(&j, ReasonOperator)
	return j, nil
}

// resume goes on where the job was. Forward, it goes on to the target, also from the way back:
// that may have turned out to be one that no key can go.
func resume(j topology.Job, e Event) (topology.Job, error) {
	switch {
	case !e.Forward || j.Phase.Ended() || goOnAt(&j) != topology.Reverting:
	case j.Back:
		becomeOnward(&j)
		return j, nil
	default:
		becomeForward(&j)
		return j, nil
	}
	switch j.Phase {
	case topology.Paused, topology.Failed, topology.Backoff:
		becomeResumed(&j)
		j.Attempt = 0 // the operator's word begins a new run of attempts
		return j, nil
	}
	return j, fmt.Errorf("job %s is %s: nothing to resume", j.ID, j.Phase)
}

// cancel ends a job that has moved nothing. Another has keys on both sides: it is reverted
// when the operator says so, else it stays as it is, paused, and can be resumed.
func cancel(j topology.Job, e Event) (topology.Job, error) {
	switch {
	case j.Phase.Ended():
		return j, ended(&j)
	case !j.Published || e.Clean && !j.Back:
		becomeCancelled(&j, e.AtMs)
	case e.Revert && j.Phase == topology.Reverting && !j.Onward: // it is at it
	case e.Revert:
		becomeReverting(&j)
	case j.Onward:
		becomePaused(&j, "cancelled by operator before it turned round to move on: the slots are served from both groups; RESUME moves on to the target, CANCEL REVERT brings the rest back")
	case goOnAt(&j) == topology.Reverting:
		becomePaused(&j, "cancelled by operator on the way back: the slots are served from both groups; RESUME brings the rest back, RESUME FORWARD moves on to the target")
	default:
		becomePaused(&j, fmt.Sprintf("cancelled by operator after %d keys had moved: the slots are served from both groups; RESUME finishes the move", j.KeysMoved))
	}
	return j, nil
}

// limit changes the ceilings and leaves the job in its phase.
func limit(j topology.Job, e Event) (topology.Job, error) {
	if j.Phase.Ended() {
		return j, ended(&j)
	}
	before := j.Slice.Rest
	e.Limits.Apply(&j)
	if Resting(&j) { // the rest has begun when it has; an end in the past is one at once
		j.NextTryAtMs += (j.Slice.Rest - before).Milliseconds()
	}
	return j, nil
}
