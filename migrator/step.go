package migrator

import (
	"fmt"

	"keyferry/internal/topology"
)

// EventKind is what can happen to a job.
type EventKind uint8

const (
	Start      EventKind = iota // the manager has taken it up
	Checked                     // preflight found nothing against it
	Acked                       // every loop routes the slots as moving and has drained
	PassEnd                     // a full pass is over; Found keys were seen at the source
	Verified                    // the proof stands
	Failure                     // an attempt failed; waiting may mend it
	Hopeless                    // waiting can't mend it
	TargetFull                  // the target is out of memory
	Room                        // it has room again
	Due                         // the pause of Backoff is over
	PauseBy                     // operator
	ResumeBy                    // operator
	CancelBy                    // operator; Clean: nothing has moved and nothing can; Revert
	LimitBy                     // operator; Limits
	Turned                      // a reverting job holds its slots and may turn round
	Home                        // … and every key is back: the proof stands
	SliceEnd                    // the job has worked for as long as its Slice says
	SliceBegin                  // … and has rested
)

var eventNames = [...]string{"start", "checked", "acked", "pass-end", "verified", "failure", "hopeless", "target-full", "room", "due", "pause", "resume", "cancel", "limit", "turned", "home", "slice-end", "slice-begin"}

func (k EventKind) String() string { return eventNames[k] }

// Event is one thing that happened, with all that Step needs to know of the world.
type Event struct {
	Kind     EventKind
	AtMs     int64              // Unix time
	Found    int64              // PassEnd
	Progress bool               // Failure: keys have moved since the last one
	WaitMs   int64              // Failure: how long to back off if it does
	Err      *topology.JobError // Failure, Hopeless, TargetFull: the last of the attempt
	First    *topology.JobError // … and the first; nil: the same
	Counts   map[string]int64   // errors since the last event, by origin and code
	RunID    string             // Checked, Turned: of the server from which keys move; see serverInfo.life
	Clean    bool               // CancelBy
	Revert   bool               // CancelBy
	Limits   *Limits            // LimitBy
	Moved    int64              // keys and bytes moved so far
	Bytes    int64
}

// Why a job is paused: ReasonSlice until NextTryAtMs, ReasonTargetOOM and, on the way back,
// ReasonSourceOOM until there is room, ReasonOperator until it is resumed.
const (
	ReasonTargetOOM = "target-oom"
	ReasonSourceOOM = "source-oom"
	ReasonOperator  = "operator"
	ReasonSlice     = "slice"
)

// waitsForRoom reports that a job goes on by itself when the server has room to which its keys
// go. It reads nothing that may change beside an action.
func waitsForRoom(j *topology.Job) bool {
	return j.Phase == topology.Paused && (j.Reason == ReasonTargetOOM || j.Reason == ReasonSourceOOM)
}

// Step is the job machine: the job after the event. It has no clock and does nothing; the
// caller stores what it returns and then acts by the new phase (see runner.act). An
// operator's event that makes no sense in the phase is an error and changes nothing; any
// other is a mistake in the program and panics.
func Step(j topology.Job, e Event) (topology.Job, error) {
	j = j.Clone()
	j.KeysMoved, j.BytesMoved = max(j.KeysMoved, e.Moved), max(j.BytesMoved, e.Bytes)
	j.ErrorCounts = addCounts(j.ErrorCounts, e.Counts)
	switch e.Kind {
	case PauseBy:
		return pause(j)
	case ResumeBy:
		return resume(j)
	case CancelBy:
		return cancel(j, e)
	case LimitBy:
		return limit(j, e)
	case Failure:
		return failure(j, e), nil
	case Hopeless:
		return hopelessly(j, e), nil
	case TargetFull:
		return targetFull(j, e), nil
	}
	switch {
	case j.Phase == topology.Queued && e.Kind == Start:
		j.Phase, j.StartedAtMs = topology.Preflight, e.AtMs
	case j.Phase == topology.Preflight && e.Kind == Checked:
		j.Phase, j.Published, j.SourceRunID = topology.Preparing, true, e.RunID
	case j.Phase == topology.Preparing && e.Kind == Acked:
		j.Phase = topology.Bulk
	case j.Phase == topology.Bulk && e.Kind == PassEnd:
		j.Phase, j.Attempt = topology.Tail, 0
	case j.Phase == topology.Tail && e.Kind == PassEnd && e.Found > 0:
		j.Attempt = 0 // another pass
	case j.Phase == topology.Tail && e.Kind == PassEnd:
		j.Phase, j.Attempt = topology.Verifying, 0
	case j.Phase == topology.Verifying && e.Kind == PassEnd:
		j.Phase = topology.Tail // the proof did not hold: a grant, a restart
	case j.Phase == topology.Verifying && e.Kind == Verified:
		j.Phase, j.Published, j.EndedAtMs = topology.Done, false, e.AtMs
		j.Reason, j.ResumeTo = "", ""
	case j.Phase == topology.Reverting && !j.Back && e.Kind == Turned:
		j.Back, j.SourceRunID, j.MovedForth, j.Attempt = true, e.RunID, j.KeysMoved, 0
	case j.Phase == topology.Reverting && j.Back && e.Kind == Home:
		j.Phase, j.Published, j.EndedAtMs = topology.Reverted, false, e.AtMs
		j.Reason, j.ResumeTo = "", ""
	case j.Phase == topology.Backoff && e.Kind == Due:
		j.Phase, j.ResumeTo, j.NextTryAtMs = j.ResumeTo, "", 0
	case waitsForRoom(&j) && e.Kind == Room:
		j.Phase, j.ResumeTo, j.Reason = j.ResumeTo, "", ""
	case e.Kind == SliceEnd && (j.Phase == topology.Bulk || j.Phase == topology.Tail || j.Phase == topology.Reverting && j.Back):
		j = sliceEnd(j, e)
	case resting(&j) && e.Kind == SliceBegin:
		j.Phase, j.ResumeTo, j.Reason, j.NextTryAtMs = j.ResumeTo, "", "", 0
	default:
		panic(fmt.Sprintf("migrator: %s in phase %s", e.Kind, j.Phase))
	}
	return j, nil
}

func limit(j topology.Job, e Event) (topology.Job, error) {
	if j.Phase.Ended() {
		return j, fmt.Errorf("job %s is %s", j.ID, j.Phase)
	}
	before := j.Slice.Rest
	e.Limits.Apply(&j)
	if resting(&j) { // it has begun when it has; an end in the past is one at once
		j.NextTryAtMs += (j.Slice.Rest - before).Milliseconds()
	}
	return j, nil
}

// sliceEnd counts a slice. It is as good as progress: a job whose slices end is not one that
// fails again and again. With no rest to take it goes on as it is.
func sliceEnd(j topology.Job, e Event) topology.Job {
	j.Slices++
	j.Attempt = 0
	if j.Slice.Rest > 0 {
		j.ResumeTo = j.Phase
		j.Phase, j.Reason, j.NextTryAtMs = topology.Paused, ReasonSlice, e.AtMs+j.Slice.Rest.Milliseconds()
	}
	return j
}

// resting reports a job between two slices.
func resting(j *topology.Job) bool { return j.Phase == topology.Paused && j.Reason == ReasonSlice }

// goOnAt is where a job that was stopped in its present phase goes on. Whatever it was
// doing at the source is done again from a pass, but never what comes before Published.
func goOnAt(j topology.Job) topology.Phase {
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

func pause(j topology.Job) (topology.Job, error) {
	if j.Phase.Ended() {
		return j, fmt.Errorf("job %s is %s", j.ID, j.Phase)
	}
	if j.Phase == topology.Paused && j.Reason == ReasonOperator {
		return j, nil
	}
	j.ResumeTo, j.NextTryAtMs = goOnAt(j), 0
	j.Phase, j.Reason = topology.Paused, ReasonOperator
	return j, nil
}

func resume(j topology.Job) (topology.Job, error) {
	switch j.Phase {
	case topology.Paused, topology.Failed, topology.Backoff:
		j.Phase, j.ResumeTo, j.Reason = j.ResumeTo, "", ""
		j.Attempt, j.NextTryAtMs, j.EndedAtMs = 0, 0, 0
		return j, nil
	}
	return j, fmt.Errorf("job %s is %s: nothing to resume", j.ID, j.Phase)
}

// cancel ends a job that has moved nothing. Another has keys on both sides: it is reverted
// when the operator says so, else it stays as it is, paused, and can be resumed.
func cancel(j topology.Job, e Event) (topology.Job, error) {
	if j.Phase.Ended() {
		return j, fmt.Errorf("job %s is %s", j.ID, j.Phase)
	}
	if !j.Published || e.Clean && !j.Back {
		j.Phase, j.Published, j.EndedAtMs = topology.Cancelled, false, e.AtMs
		j.Reason, j.ResumeTo, j.NextTryAtMs = ReasonOperator, "", 0
		return j, nil
	}
	back := goOnAt(j) == topology.Reverting
	if e.Revert {
		if j.Phase != topology.Reverting {
			j.Phase, j.ResumeTo, j.Reason = topology.Reverting, "", ""
			j.Attempt, j.NextTryAtMs, j.EndedAtMs = 0, 0, 0
		}
		return j, nil
	}
	j.ResumeTo, j.NextTryAtMs = goOnAt(j), 0
	j.Phase = topology.Paused
	if back {
		j.Reason = "cancelled by operator on the way back: the slots are served from both groups; RESUME brings the rest back"
		return j, nil
	}
	j.Reason = fmt.Sprintf("cancelled by operator after %d keys had moved: the slots are served from both groups; RESUME finishes the move", j.KeysMoved)
	return j, nil
}
