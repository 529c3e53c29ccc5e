package topology

import (
	"maps"
	"slices"
)

// Phase is the state of a migration job. The transitions between phases are the
// functions of job.Step and nothing else.
type Phase string

const (
	Queued    Phase = "queued"    // accepted and stored; nothing has been looked at
	Preflight Phase = "preflight" // both ends are being checked; the slots are stable at the source
	Preparing Phase = "preparing" // the slots are published as moving; not every loop has acknowledged
	Bulk      Phase = "bulk"      // keys are being moved; unmoved ones are served and created at the source
	Tail      Phase = "tail"      // every touch resolves to the target: nothing new appears at the source
	Verifying Phase = "verifying" // a full pass found no key at the source; last checks before the flip
	Backoff   Phase = "backoff"   // an attempt failed; the next one is due at NextTryAtMs
	Paused    Phase = "paused"    // by an operator or for Reason; resumed by RESUME or when the reason is gone
	Done      Phase = "done"      // the slots are stable at the target
	Failed    Phase = "failed"    // tries are spent or waiting can't mend it; resumable
	Reverting Phase = "reverting" // what has moved is drained back; Job.Back says how far that is
	Reverted  Phase = "reverted"  // every key is at the source again; the slots are stable there
	Cancelled Phase = "cancelled" // ended before any key had moved; the slots are stable at the source
)

// Ended reports whether the job will never act again.
func (p Phase) Ended() bool { return p == Done || p == Cancelled || p == Reverted }

// JobError is one error of a job with where it came from.
type JobError struct {
	Origin string `json:"origin"` // source, target, store, gateway
	Code   string `json:"code"`   // first word of the server's error ("OOM"), or "IO", "TIMEOUT"
	Text   string `json:"text"`
	AtMs   int64  `json:"at_ms"` // Unix time
}

// Attempt is one failed attempt of a job, with the errors that it began and ended with.
type Attempt struct {
	N         int       `json:"n"` // in its run of attempts without progress between them
	AtMs      int64     `json:"at_ms"`
	Phase     Phase     `json:"phase"` // in which it failed
	First     *JobError `json:"first"`
	Last      *JobError `json:"last"`
	KeysMoved int64     `json:"keys_moved"` // by the job until then
}

// MaxAttemptsKept bounds Job.Attempts: the first one ever, which says how the trouble
// began, and the newest. JobEvents have all.
const MaxAttemptsKept = 8

// Job is the record of one migration: some slots of one source group go to one target group.
// It is a value. Whoever runs the job is the only one to change it, and does so by storing
// what job.Step makes of it; what routing needs of it is its Move.
type Job struct {
	ID    string `json:"id"`              // "m" and a number, given by AddJob
	Owner string `json:"owner,omitempty"` // the gateway that runs it; "": the only one
	JobRequest
	JobLimits
	JobProgress
	JobTrouble
}

// JobRequest is what was asked for. It never changes.
type JobRequest struct {
	Slots  []Range `json:"slots"` // sorted, disjoint, merged
	Source string  `json:"source"`
	Target string  `json:"target"`

	Durability  string  `json:"durability,omitempty"`   // before the source gives a key up: none, replica, aof; "": as the target can
	VerifyShare float64 `json:"verify_share,omitempty"` // of the keys that are compared before the source gives them up
	Purge       bool    `json:"purge,omitempty"`        // keys of the slots that the target holds are removed by preflight
	PurgeKeys   int64   `json:"purge_keys,omitempty"`   // … if they are so many
	MaxAttempts int     `json:"max_attempts"`           // failed attempts in a row, then Failed; 0: it never fails by that
	CreatedAtMs int64   `json:"created_at_ms"`          // Unix time
}

// JobLimits are an operator's ceilings, which may change while the job runs.
type JobLimits struct {
	RateKeysPerS  float64 `json:"rate_keys_per_s,omitempty"`  // 0: none
	RateBytesPerS float64 `json:"rate_bytes_per_s,omitempty"` // of DUMPs; 0: none
	Parallel      int     `json:"parallel"`                   // mover workers
	MaxP99Ms      int     `json:"max_p99_ms,omitempty"`       // the mover yields when clients wait longer; 0: as configured; -1: it does not look; -2: than 1.3 times what they do without it
	Slice         Slice   `json:"slice,omitzero"`             // it works and rests by turns; zero: it doesn't rest
}

// JobProgress is where the job stands. The functions of job.Step set it, and set all of it
// that a phase owns.
type JobProgress struct {
	Phase    Phase  `json:"phase"`
	Reason   string `json:"reason,omitempty"`    // why paused, failed or cancelled
	ResumeTo Phase  `json:"resume_to,omitempty"` // where Backoff, Paused and Failed go on
	// Published is true from the moment that the slots are routed as moving until the
	// flip (or a cancel before any move). Invariant: !Published => no key was moved.
	Published bool `json:"published"`
	// Purging is true from when as many keys were counted as PURGE states, until the job is published.
	// From then on there may be fewer, since it removes them.
	Purging bool `json:"purging,omitempty"`
	// Back is true from the moment that a reverting job has turned round: its keys move
	// from Target to Source, which owns the slots as ever.
	Back bool `json:"back,omitempty"`
	// Onward asks a job that has turned round to do so once more, and to move on to Target.
	// Invariant: Onward => Back.
	Onward bool `json:"onward,omitempty"`
	// MovedForth is KeysMoved when it turned round.
	MovedForth  int64  `json:"moved_forth,omitempty"`
	SourceRunID string `json:"source_run_id,omitempty"`  // the source's process and replication id when the job began to move
	TargetRunID string `json:"target_run_id,omitempty"`  // … and the target's; both exchanged when the job turns round
	Slices      int64  `json:"slices,omitempty"`         // that came to their end
	NextTryAtMs int64  `json:"next_try_at_ms,omitempty"` // Unix time; in Backoff, and while Paused between slices
	StartedAtMs int64  `json:"started_at_ms,omitempty"`
	EndedAtMs   int64  `json:"ended_at_ms,omitempty"`

	// What the job had done when its last transition was stored; live numbers are the
	// runner's.
	KeysMoved  int64 `json:"keys_moved"`
	BytesMoved int64 `json:"bytes_moved"`
}

// JobTrouble is what went wrong. FirstError and LastError are of the present run of attempts,
// which ends with progress; Attempts and ErrorCounts are of the whole job.
type JobTrouble struct {
	Attempt     int              `json:"attempt"` // failed attempts in a row
	FirstError  *JobError        `json:"first_error,omitempty"`
	LastError   *JobError        `json:"last_error,omitempty"`
	Attempts    []Attempt        `json:"attempts,omitempty"`     // that failed; see MaxAttemptsKept
	ErrorCounts map[string]int64 `json:"error_counts,omitempty"` // by origin and code: "target OOM"
}

// Clone is a deep copy.
func (j Job) Clone() Job {
	j.Slots = slices.Clone(j.Slots)
	j.FirstError = cloneErr(j.FirstError)
	j.LastError = cloneErr(j.LastError)
	j.Attempts = slices.Clone(j.Attempts)
	for i := range j.Attempts {
		a := &j.Attempts[i]
		a.First, a.Last = cloneErr(a.First), cloneErr(a.Last)
	}
	j.ErrorCounts = maps.Clone(j.ErrorCounts)
	return j
}

func cloneErr(e *JobError) *JobError {
	if e == nil {
		return nil
	}
	c := *e
	return &c
}

// Checkpoint is how far a job's passes have come. It is saved often and without a new
// revision, since losing it costs time and never a key.
type Checkpoint struct {
	Job        string `json:"job"`
	Pass       int    `json:"pass"`
	DB         int    `json:"db"`
	Cursor     uint64 `json:"cursor"`
	Target     string `json:"target,omitempty"` // what the target has to show; see keymove.Account
	RunID      string `json:"run_id"`           // a cursor is trusted only for this process and replication id of the source
	KeysMoved  int64  `json:"keys_moved"`
	BytesMoved int64  `json:"bytes_moved"`
	SavedAtMs  int64  `json:"saved_at_ms"`
}
