// Package topology holds what a cluster is: its groups, which group serves which
// slot, the migration jobs and the gateways; and the Store that keeps it.
//
// The whole of it is one State value with one epoch. A change is a new State with
// the next epoch, compared-and-set into the Store before anybody acts on it; all
// else (routing tables, running movers) is derived from the State that is stored.
package topology

import (
	"maps"
	"slices"
)

// State is everything about one cluster. It is a value: whoever changes it works on
// a Clone and hands that to Store.CompareAndSet.
type State struct {
	Epoch     uint64 `json:"epoch"`      // grows by one with every stored change
	ClusterID string `json:"cluster_id"` // random, fixed at creation
	Scheme    string `json:"scheme"`     // "redis" or "codis": how keys map to slots; fixed at creation
	SlotCount int    `json:"slot_count"` // 16384 or 1024, given by Scheme
	Databases int    `json:"databases"`  // logical databases served, as in redis.conf

	Groups  []Group      `json:"groups"`   // sorted by ID
	Slots   []Assignment `json:"slots"`    // sorted, disjoint, adjacent ranges of one group merged
	Jobs    []Job        `json:"jobs"`     // in order of creation; ended ones are kept, the newest MaxEndedJobs of them
	NextJob uint64       `json:"next_job"` // the number of the next job's id
	// ForgottenTo is the epoch up to which a job may have moved keys that is no longer
	// among Jobs.
	ForgottenTo uint64    `json:"forgotten_to,omitempty"`
	NextGroup   int       `json:"next_group,omitempty"` // the number that the next group gets, if free
	Gateways    []Gateway `json:"gateways"`
}

// MaxEndedJobs bounds how many ended jobs a State remembers.
const MaxEndedJobs = 200

// MaxGroupNumber bounds the groups of a cluster: a number has ten bits of a SCAN cursor.
const MaxGroupNumber = 1<<10 - 1

// Group is one primary (and, later, its replicas) that serves slots.
type Group struct {
	ID       string `json:"id"`
	Number   int    `json:"number,omitempty"` // 0 ≤ Number ≤ MaxGroupNumber, its own: what a SCAN cursor knows it by
	Endpoint        // of the primary
}

// String names the group in messages, with where its primary is.
func (g Group) String() string { return g.ID + " (" + g.Addr + ")" }

// Range is a run of slots, both ends included.
type Range struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// Assignment says that a group owns a run of slots.
type Assignment struct {
	Range
	Group string `json:"group"`
}

// Gateway is one keyferry process. Its incarnation is new with every start, so that
// a restarted gateway can tell its former self's connections from its own.
type Gateway struct {
	Name        string `json:"name"`
	Incarnation uint64 `json:"incarnation"`
}

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

// Job is one migration: some slots of one source group to one target group.
type Job struct {
	ID     string  `json:"id"`
	Slots  []Range `json:"slots"`
	Source string  `json:"source"`
	Target string  `json:"target"`

	Phase    Phase  `json:"phase"`
	Reason   string `json:"reason,omitempty"`    // why paused, failed or cancelled
	ResumeTo Phase  `json:"resume_to,omitempty"` // where Backoff, Paused and Failed go on
	// Published is true from the moment that the slots are routed as moving until the
	// flip (or a cancel before any move). Invariant: !Published => no key was moved.
	Published bool `json:"published"`
	// Keys of its slots may have changed place from the epoch MovesFrom to the epoch
	// MovesTo; 0: not yet begun, not yet ended. Kept by PutJob.
	MovesFrom uint64 `json:"moves_from,omitempty"`
	MovesTo   uint64 `json:"moves_to,omitempty"`
	// Back is true from the moment that a reverting job has turned round: its keys move
	// from Target to Source, which owns the slots as ever. TurnedAt is the epoch of that,
	// kept by PutJob.
	Back     bool   `json:"back,omitempty"`
	TurnedAt uint64 `json:"turned_at,omitempty"`
	// MovedForth is KeysMoved when it turned round.
	MovedForth int64 `json:"moved_forth,omitempty"`

	RateKeysPerS  float64 `json:"rate_keys_per_s,omitempty"`  // operator's ceiling; 0: none
	RateBytesPerS float64 `json:"rate_bytes_per_s,omitempty"` // of DUMPs; 0: none
	Parallel      int     `json:"parallel"`                   // mover workers
	MaxP99Ms      int     `json:"max_p99_ms,omitempty"`       // the mover yields when clients wait longer; 0: as configured; -1: it does not look; -2: than 1.3 times what they do without it

	Slice  Slice `json:"slice,omitzero"`   // it works and rests by turns; zero: it doesn't rest
	Slices int64 `json:"slices,omitempty"` // that came to their end

	Durability  string  `json:"durability,omitempty"`   // before the source gives a key up: none, replica, aof; "": as the target can
	VerifyShare float64 `json:"verify_share,omitempty"` // of the keys that are compared before the source gives them up
	Purge       bool    `json:"purge,omitempty"`        // keys of the slots that the target holds are removed by preflight

	Attempt     int       `json:"attempt"`                  // failed attempts in a row
	MaxAttempts int       `json:"max_attempts"`             // then Failed
	NextTryAtMs int64     `json:"next_try_at_ms,omitempty"` // Unix time; in Backoff, and while Paused between slices
	FirstError  *JobError `json:"first_error,omitempty"`    // of the present run of attempts
	LastError   *JobError `json:"last_error,omitempty"`

	Attempts    []Attempt        `json:"attempts,omitempty"`     // that failed; see MaxAttemptsKept
	ErrorCounts map[string]int64 `json:"error_counts,omitempty"` // by origin and code: "target OOM"

	SourceRunID string `json:"source_run_id,omitempty"` // the source's process and replication id when the job began to move

	CreatedAtMs int64 `json:"created_at_ms"`
	StartedAtMs int64 `json:"started_at_ms,omitempty"`
	EndedAtMs   int64 `json:"ended_at_ms,omitempty"`

	// What the job had done when its last transition was stored; live numbers are the
	// runner's.
	KeysMoved  int64 `json:"keys_moved"`
	BytesMoved int64 `json:"bytes_moved"`
}

// Checkpoint is how far a job's passes have come. It is saved often and without a new
// epoch, since losing it costs time and never a key.
type Checkpoint struct {
	Job        string `json:"job"`
	Pass       int    `json:"pass"`
	DB         int    `json:"db"`
	Cursor     uint64 `json:"cursor"`
	RunID      string `json:"run_id"` // a cursor is trusted only for this process and replication id of the source
	KeysMoved  int64  `json:"keys_moved"`
	BytesMoved int64  `json:"bytes_moved"`
	SavedAtMs  int64  `json:"saved_at_ms"`
}

// Clone is a deep copy.
func (s State) Clone() State {
	s.Groups = slices.Clone(s.Groups)
	s.Slots = slices.Clone(s.Slots)
	s.Gateways = slices.Clone(s.Gateways)
	s.Jobs = slices.Clone(s.Jobs)
	for i := range s.Jobs {
		s.Jobs[i] = s.Jobs[i].Clone()
	}
	return s
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

// Group finds a group by id.
func (s *State) Group(id string) (Group, bool) {
	for _, g := range s.Groups {
		if g.ID == id {
			return g, true
		}
	}
	return Group{}, false
}

// Job finds a job by id; the pointer is into s. nil if there is none.
func (s *State) Job(id string) *Job {
	for i := range s.Jobs {
		if s.Jobs[i].ID == id {
			return &s.Jobs[i]
		}
	}
	return nil
}
