package migrator

import (
	"keyferry/internal/topology"
	"keyferry/migrator/preflight"
)

// The structs of this file are parts of Status: values, which are read at one moment and
// never change. Their JSON is flat, as if all were fields of Status.

// Epochs are those of the job's move, as long as the State remembers it; 0: not yet.
type Epochs struct {
	MovesFrom uint64 `json:"moves_from,omitempty"` // keys of its slots may have changed place from here on
	MovesTo   uint64 `json:"moves_to,omitempty"`   // … to here
	TurnedAt  uint64 `json:"turned_at,omitempty"`  // and go back since
}

func epochs(mv topology.Move) Epochs {
	return Epochs{MovesFrom: mv.From, MovesTo: mv.To, TurnedAt: mv.TurnedAt}
}

// Seen is what this process has come by in moving the job.
type Seen struct {
	Pass         int64 `json:"pass"`
	Scanned      int64 `json:"keys_scanned"`
	Touched      int64 `json:"keys_moved_on_touch"`
	MetBusy      int64 `json:"keys_met_in_use"`
	StaleDropped int64 `json:"stale_copies_dropped"`
}

// Speed is how fast the job is, and how far from its end.
type Speed struct {
	Doing     string `json:"doing,omitempty"` // what it does while it moves nothing, and how far it is
	RateNow   int64  `json:"keys_per_s"`
	KeysLeft  int64  `json:"estimated_keys_left"` // -1: not known
	EtaS      int64  `json:"eta_s"`               // -1: not known
	BatchKeys int64  `json:"batch_keys"`
}

// Holding is which keys the mover has locked, for how long, and who waits for them.
type Holding struct {
	Waiting    int64    `json:"keys_waited_for"`
	InDoubt    []string `json:"keys_in_doubt,omitempty"`
	BigKeys    int64    `json:"big_keys"`
	BigKeyList []BigKey `json:"big_key_list,omitempty"`
	HoldP50us  int64    `json:"lock_hold_p50_us"`
	HoldP99us  int64    `json:"lock_hold_p99_us"`
	HoldMaxUs  int64    `json:"lock_hold_max_us"`
}

// RecentErrors are those that have not ended an attempt, yet.
type RecentErrors struct {
	ResolverErr *topology.JobError `json:"resolver_error,omitempty"`
	NowFirstErr *topology.JobError `json:"attempt_first_error,omitempty"` // of the attempt under way
	NowLastErr  *topology.JobError `json:"attempt_last_error,omitempty"`
}

// Certain is what was made sure of before the source gave keys up.
type Certain struct {
	Verified   int64  `json:"keys_verified,omitempty"`  // by this process
	Differing  int64  `json:"keys_differing,omitempty"` // taken back again
	DurableNow string `json:"durability_now,omitempty"` // what is had, and why not more
}

// Trouble is what somebody should know, or do.
type Trouble struct {
	Findings []preflight.Finding `json:"findings,omitempty"` // of the last preflight
	Stalled  *Stall              `json:"stalled,omitempty"`  // no progress for long
	Advice   string              `json:"advice,omitempty"`   // what to do about what the job waits for, or has failed with
}
