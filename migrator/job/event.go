package job

import "keyferry/internal/topology"

// EventKind is what can happen to a job.
type EventKind uint8

const (
	Start        EventKind = iota // the manager has taken it up
	Checked                       // preflight has no findings that stop it
	Counted                       // preflight has counted as many keys in the way as PURGE states
	Acked                         // every loop routes the slots as moving and has drained
	PassEnd                       // a full pass is over; Found keys were seen at the source
	Verified                      // the proof stands
	Failure                       // an attempt failed; waiting may mend it
	Hopeless                      // waiting can't mend it
	TargetFull                    // the target is out of memory
	TargetForgot                  // the target lacks what it was given
	Room                          // it has room again
	Due                           // the pause of Backoff is over
	PauseBy                       // operator
	ResumeBy                      // operator
	CancelBy                      // operator; Clean: nothing has moved and nothing can; Revert
	LimitBy                       // operator; Limits
	Reversed                      // a reverting job holds its slots and may turn round
	Home                          // … and every key is back: the proof stands
	SliceEnd                      // the job has worked for as long as its Slice says
	SliceBegin                    // … and has rested
)

var eventNames = [...]string{"start", "checked", "counted", "acked", "pass-end", "verified", "failure", "hopeless", "target-full", "target-forgot", "room", "due", "pause", "resume", "cancel", "limit", "turned", "home", "slice-end", "slice-begin"}

// String is the name that a job's history and the transcripts use.
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
	RunID    string             // Checked, Reversed: the life of the server from which keys move
	TargetID string             // … and of that to which they move
	Clean    bool               // CancelBy
	Revert   bool               // CancelBy
	Forward  bool               // ResumeBy: to the target, also from the way back
	Limits   *Limits            // LimitBy
	Moved    int64              // keys and bytes moved so far
	Bytes    int64
}

// Record is the line of the job's history for an event that led from a phase to j.
func Record(from topology.Phase, j topology.Job, ev Event) topology.JobEvent {
	e := topology.JobEvent{Job: j.ID, AtMs: ev.AtMs, Event: ev.Kind.String(), From: from, To: j.Phase, Reason: j.Reason,
		KeysMoved: j.KeysMoved, BytesMoved: j.BytesMoved}
	if ev.Err != nil {
		e.Attempt, e.Error, e.First = j.Attempt, ev.Err, firstOf(ev)
	}
	return e
}
