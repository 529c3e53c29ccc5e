// Package router says where a request goes: key → slot → group.
//
// A Table is immutable and belongs to one epoch of the topology. Every data-plane loop
// holds a pointer to one and reads it without a lock; a new one reaches the loop as a
// message.
package router

import (
	"fmt"

	"keyferry/internal/resp"
	"keyferry/internal/topology"
	"keyferry/slotlock"
)

// ReservedPrefix begins the names of the gateway's own keys at the servers, and no others: a client
// that names such a key is refused, none is shown one, and no job moves one.
const ReservedPrefix = "__keyferry__:"

// Reserved reports whether a name is the gateway's own.
func Reserved(name []byte) bool {
	return len(name) >= len(ReservedPrefix) && string(name[:len(ReservedPrefix)]) == ReservedPrefix
}

// Group is one group. Its index in Table.Groups is its number within that table only.
type Group = topology.Group

// Job is a slot move as the data plane needs it.
type Job struct {
	ID    string
	Locks *slotlock.Table
	Whole *slotlock.Whole // its slots that are moved in one piece; nil: none
}

// Slot is the route of one slot.
type Slot struct {
	Owner  int16 // group that serves it, or from which it moves; -1: nobody
	Target int16 // group that it moves to; -1: it does not move
	Job    int16 // index into Table.Jobs while it moves
}

// Move is a job of now or of the past as SCAN needs it: which slots changed place, where
// to, and when.
type Move struct {
	Slots    []topology.Range
	Source   int    // group number
	Target   int    // group number; -1: the group is gone
	From, To uint64 // epochs; To is 0 while it goes on
}

// Table is the routing of one epoch.
type Table struct {
	Epoch     uint64
	Scheme    Scheme
	Databases int
	Groups    []Group
	Jobs      []Job
	Slots     []Slot // indexed by slot
	Moves     []Move // that begin or end after the epoch ForgottenTo: all; older: some

	ForgottenTo uint64
}

// Outcome is what Route decided.
type Outcome uint8

const (
	// Serve: all keys are in one stable slot: send it to the slot's owner.
	Serve Outcome = iota
	// Resolve: all keys are in one slot that moves: ask the job's lock table.
	Resolve
	// Split: the keys are in several slots, and the command can be cut and merged.
	Split
	// TakeFirst: the keys are in several slots, which are asked one after the other.
	TakeFirst
	// CrossSlot: the keys are in several slots and the command can't be cut.
	CrossSlot
	// Unserved: no group owns the slot.
	Unserved
)

// Route decides where a request goes that is for the group of its keys (resp.Serve.ByKey). It
// is the one place that does, and the only inputs are the table, the command and the slots of
// its keys, of which there is at least one. The outcomes:
//
//	Serve      one stable slot                    → its owner
//	Resolve    one moving slot                    → lock table, then source or target
//	Split      several slots, MGET MSET DEL UNLINK EXISTS TOUCH
//	TakeFirst  several slots, BLPOP and its kin, LMPOP, ZMPOP
//	CrossSlot  several slots, any other command
//	Unserved   one slot that no group owns
//
// slot is meant for Serve, Resolve and Unserved. (Forward to a peer gateway joins the
// list with the cluster store.) What else there is to a command, that it may block for one,
// its handler knows.
func (t *Table) Route(c *resp.Command, args [][]byte, keys []int) (o Outcome, slot int) {
	slot = t.Scheme.Slot(args[keys[0]])
	for _, k := range keys[1:] {
		if t.Scheme.Slot(args[k]) == slot {
			continue
		}
		if c.Serve.Splits() {
			return Split, -1
		}
		if c.TakesFirst() {
			return TakeFirst, -1
		}
		return CrossSlot, -1
	}
	return t.RouteSlot(slot), slot
}

// RouteSlot is Route for a part whose slot is known: Serve, Resolve or Unserved.
func (t *Table) RouteSlot(slot int) Outcome {
	switch s := &t.Slots[slot]; {
	case s.Owner < 0:
		return Unserved
	case s.Target >= 0:
		return Resolve
	}
	return Serve
}

func numberOf(t *Table, index map[string]int16, id string) int {
	if i, ok := index[id]; ok {
		return t.Groups[i].Number
	}
	return -1
}

// Serving are the groups that serve slots or are about to, as indexes of Groups.
func (t *Table) Serving() []int16 {
	serves := make([]bool, len(t.Groups))
	for _, x := range t.Slots {
		if x.Owner >= 0 {
			serves[x.Owner] = true
		}
		if x.Target >= 0 {
			serves[x.Target] = true
		}
	}
	var groups []int16
	for i, yes := range serves {
		if yes {
			groups = append(groups, int16(i))
		}
	}
	return groups
}

// Build derives the table of a topology. locks looks up the lock table of each job whose
// slots move, and which of its slots are moved in one piece; whoever calls has seen to it
// that there is one.
func Build(top topology.Topology, locks func(job string) (*slotlock.Table, *slotlock.Whole)) (*Table, error) {
	scheme, err := ParseScheme(top.Scheme)
	if err != nil {
		return nil, err
	}
	t := &Table{Epoch: top.Epoch, Scheme: scheme, Databases: top.Databases, Slots: make([]Slot, scheme.Slots()), ForgottenTo: top.ForgottenTo}
	index := make(map[string]int16, len(top.Groups))
	for i, g := range top.Groups {
		index[g.ID] = int16(i)
		t.Groups = append(t.Groups, g)
	}
	jobs := make(map[string]int16)
	for _, m := range top.Moves {
		t.addMoves(m, index)
		if m.To > 0 {
			continue
		}
		lt, whole := locks(m.Job)
		if lt == nil {
			return nil, fmt.Errorf("router: job %s moves slots and has no lock table", m.Job)
		}
		jobs[m.Job] = int16(len(t.Jobs))
		t.Jobs = append(t.Jobs, Job{ID: m.Job, Locks: lt, Whole: whole})
	}
	for _, v := range top.SlotViews() {
		r := Slot{Owner: -1, Target: -1, Job: -1}
		switch {
		case v.Moves():
			r = Slot{Owner: index[v.From], Target: index[v.To], Job: jobs[v.Job]}
		case v.State == topology.Stable:
			r.Owner = index[v.Owner]
		}
		for s := v.First; s <= v.Last; s++ {
			t.Slots[s] = r
		}
	}
	return t, nil
}

// addMoves adds a move as SCAN sees it: one that has turned round is two, forth until then
// and back from then on.
func (t *Table) addMoves(m topology.Move, index map[string]int16) {
	forth := Move{Slots: m.Slots, Source: numberOf(t, index, m.Source), Target: numberOf(t, index, m.Target), From: m.From, To: m.To}
	if !m.Back {
		t.Moves = append(t.Moves, forth)
		return
	}
	back := Move{Slots: m.Slots, Source: forth.Target, Target: forth.Source, From: m.TurnedAt, To: m.To}
	forth.To = m.TurnedAt
	t.Moves = append(t.Moves, forth, back)
}
