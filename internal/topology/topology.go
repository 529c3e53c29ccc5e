package topology

import "slices"

// Topology is what requests are routed by: groups, owners of slots, slots in motion. It is a
// value, and part of a State. A routing table is built from it, and from nothing else, once
// for each epoch.
type Topology struct {
	Epoch     uint64 `json:"epoch"`      // grows by one with every change of what follows
	ClusterID string `json:"cluster_id"` // random, fixed at creation
	Scheme    string `json:"scheme"`     // "redis" or "codis": how keys map to slots; fixed at creation
	SlotCount int    `json:"slot_count"` // 16384 or 1024, given by Scheme
	Databases int    `json:"databases"`  // logical databases served, as in redis.conf

	Groups []Group      `json:"groups"` // sorted by ID
	Slots  []Assignment `json:"slots"`  // sorted, disjoint, adjacent ranges of one group merged
	Moves  []Move       `json:"moves"`  // in order of their beginning; of ended ones the newest are kept
	// ForgottenTo is the epoch up to which a move may have gone on that is no longer among
	// Moves.
	ForgottenTo uint64    `json:"forgotten_to,omitempty"`
	Accepted    uint64    `json:"accepted,omitempty"`   // the epoch in which an operator has last accepted the store: see Accept
	Past        []Birth   `json:"past,omitempty"`       // the newest births, in their order: see Birth
	NextGroup   int       `json:"next_group,omitempty"` // the number that the next group gets, if free
	Gateways    []Gateway `json:"gateways"`
}

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

// Clone is a deep copy.
func (t Topology) Clone() Topology {
	t.Groups = slices.Clone(t.Groups)
	t.Slots = slices.Clone(t.Slots)
	t.Gateways = slices.Clone(t.Gateways)
	t.Past = slices.Clone(t.Past)
	t.Moves = slices.Clone(t.Moves)
	for i := range t.Moves {
		t.Moves[i].Slots = slices.Clone(t.Moves[i].Slots)
	}
	return t
}

// Group finds a group by id.
func (t *Topology) Group(id string) (Group, bool) {
	for _, g := range t.Groups {
		if g.ID == id {
			return g, true
		}
	}
	return Group{}, false
}
