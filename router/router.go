// Package router says where a request goes: key → slot → group.
//
// A Table is immutable and belongs to one epoch of the topology. Every data-plane loop
// holds a pointer to one and reads it without a lock; a new one reaches the loop as a
// message.
package router

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"keyferry/internal/resp"
	"keyferry/internal/topology"
	"keyferry/slotlock"
)

// ReservedPrefix begins the names of the gateway's own keys at the servers, and no others: a client
// that names such a key is refused, none is shown one, and no job moves one.
const ReservedPrefix = "__keyferry__:"

// StampKey is the one of these that lasts: whoever counts keys leaves it out.
const StampKey = topology.StampKey

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

// Peer is another gateway, to which commands go on slots that it moves. Commands reach it as they
// reach a server.
type Peer struct {
	Name        string
	Incarnation uint64
	Endpoint    topology.Endpoint
	Ends        []int16 // the groups between which it moves slots, the source of each move before its target
	id          string
}

// Slot is the route of one slot.
//
//	                      Owner   Target  Via    Job
//	nobody serves it      -1      -1      -1     -1
//	stable                group   -1      Owner  -1
//	moved by this gateway source  target  -1     its lock table decides
//	moved by a peer       source  target  peer   -1
type Slot struct {
	Owner  int16 // group that serves it, or from which it moves; -1: nobody
	Target int16 // group that it moves to; -1: it does not move
	Via    int16 // upstream that commands are sent to; -1: the lock table says, or nobody serves it
	Job    int16 // index into Table.Jobs while this gateway moves it, else -1
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
	Peers     []Peer   // every other gateway that is part of the cluster
	Jobs      []Job    // of this gateway
	Slots     []Slot   // indexed by slot
	Doors     []string // where clients reach the gateways that take part and don't drain, by name; nil: one gateway, or not all say
	Moves     []Move   // that begin or end after the epoch ForgottenTo: all; older: some

	ForgottenTo uint64
}

// Outcome is what Route decided.
type Outcome uint8

const (
	// Serve: all keys are in one slot whose commands go to one upstream: its owner while it is stable,
	// or the peer that moves it.
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
//	Serve      one slot that is stable            → its owner
//	           one that a peer moves              → that peer
//	Resolve    one moving slot                    → lock table, then source or target
//	Split      several slots, MGET MSET DEL UNLINK EXISTS TOUCH
//	TakeFirst  several slots, BLPOP and its kin, LMPOP, ZMPOP
//	CrossSlot  several slots, any other command
//	Unserved   one slot that no group owns
//
// slot is meant for Serve, Resolve and Unserved. What else there is to a command, that it may block
// for one, its handler knows.
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
	case s.Via >= 0:
		return Serve
	case s.Owner < 0:
		return Unserved
	}
	return Resolve
}

// Upstream is what commands are sent to: a group's server, or a peer.
type Upstream struct {
	ID       string // of the group, or of the peer
	Endpoint topology.Endpoint
	Peer     *Peer // nil: it is a group
}

// Upstreams is how many there are. Those from 0 on are the groups, in their order; the peers follow.
func (t *Table) Upstreams() int { return len(t.Groups) + len(t.Peers) }

// Upstream is one of them.
func (t *Table) Upstream(i int16) Upstream {
	if n := int(i) - len(t.Groups); n >= 0 {
		p := &t.Peers[n]
		return Upstream{p.ID(), p.Endpoint, p}
	}
	g := &t.Groups[i]
	return Upstream{g.ID, g.Endpoint, nil}
}

// Moving reports that some slots move, under this gateway or another.
func (t *Table) Moving() bool {
	return len(t.Jobs) > 0 || slices.ContainsFunc(t.Peers, func(p Peer) bool { return len(p.Ends) > 0 })
}

// IsPeer reports that an upstream is a peer.
func (t *Table) IsPeer(upstream int16) bool { return int(upstream) >= len(t.Groups) }

// UpstreamOf finds an upstream by its id; -1 if there is none.
func (t *Table) UpstreamOf(id string) int16 {
	for i := range t.Groups {
		if t.Groups[i].ID == id {
			return int16(i)
		}
	}
	for i := range t.Peers {
		if t.Peers[i].ID() == id {
			return int16(len(t.Groups) + i)
		}
	}
	return -1
}

// ID is a peer's as an upstream, "@" and its name and incarnation, which no group can have: a gateway that
// was started again is another upstream.
func (p *Peer) ID() string { return p.id }

// PeerOf is the name of the peer that an id of an upstream stands for; false: it is a group's.
func PeerOf(id string) (gateway string, ok bool) {
	if len(id) == 0 || id[0] != '@' {
		return "", false
	}
	gateway, _, _ = strings.Cut(id[1:], ":")
	return gateway, true
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

// View is whose table is built.
type View struct {
	Gateway string // its name; "": the only one
	// Locks looks up the lock table of a job of this gateway whose slots move, and which of its slots
	// are moved in one piece; whoever calls has seen to it that there is one.
	Locks func(job string) (*slotlock.Table, *slotlock.Whole)
	// Secret is what gateways tell each other by.
	Secret topology.Secret
}

// Owns reports that a move is this gateway's own.
func (v View) Owns(m topology.Move) bool {
	return v.Gateway == "" || m.Owner == "" || m.Owner == v.Gateway
}

// Build derives the table of a topology as a gateway sees it.
func Build(top topology.Topology, view View) (*Table, error) {
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
	t.Doors = doors(top)
	if view.Gateway != "" {
		for _, g := range top.AdmittedGateways() {
			if g.Name != view.Gateway {
				t.addPeer(view, g)
			}
		}
	}
	jobs := make(map[string]Slot) // of each move that goes on: how its slots are routed
	for _, m := range top.Moves {
		t.addMoves(m, index)
		if m.To > 0 {
			continue
		}
		if jobs[m.Job], err = t.route(top, view, m, index); err != nil {
			return nil, err
		}
	}
	for _, v := range top.SlotViews() {
		r := Slot{Owner: -1, Target: -1, Via: -1, Job: -1}
		switch {
		case v.Moves():
			r = jobs[v.Job]
		case v.State == topology.Stable:
			r.Owner = index[v.Owner]
			r.Via = r.Owner
		}
		for s := v.First; s <= v.Last; s++ {
			t.Slots[s] = r
		}
	}
	return t, nil
}

// doors are in the order of the gateways' names, so that every gateway tells the same.
func doors(top topology.Topology) (addrs []string) {
	in := top.AdmittedGateways()
	if len(in) < 2 {
		return nil
	}
	for _, g := range in {
		switch {
		case g.Clients == "":
			return nil
		case !g.Draining:
			addrs = append(addrs, g.Clients)
		}
	}
	return addrs
}

// route adds what the slots of a move need, its lock table or its peer, and says how they are routed.
func (t *Table) route(top topology.Topology, view View, m topology.Move, index map[string]int16) (Slot, error) {
	r := Slot{Owner: index[m.Source], Target: index[m.Target], Via: -1, Job: -1}
	if m.Back {
		r.Owner, r.Target = r.Target, r.Owner
	}
	if !view.Owns(m) {
		r.Via = t.peer(top, view, m.Owner)
		p := &t.Peers[int(r.Via)-len(t.Groups)]
		p.Ends = append(p.Ends, r.Owner, r.Target)
		return r, nil
	}
	lt, whole := view.Locks(m.Job)
	if lt == nil {
		return r, fmt.Errorf("router: job %s moves slots and has no lock table", m.Job)
	}
	r.Job = int16(len(t.Jobs))
	t.Jobs = append(t.Jobs, Job{ID: m.Job, Locks: lt, Whole: whole})
	return r, nil
}

// peer is the upstream of a gateway that moves slots. One that is out is added: nobody answers there, and
// whoever is sent there waits until another one has taken over.
func (t *Table) peer(top topology.Topology, view View, name string) int16 {
	for i := range t.Peers {
		if t.Peers[i].Name == name {
			return int16(len(t.Groups) + i)
		}
	}
	g, _ := top.Gateway(name)
	return t.addPeer(view, g)
}

func (t *Table) addPeer(view View, g topology.Gateway) int16 {
	t.Peers = append(t.Peers, Peer{Name: g.Name, Incarnation: g.Incarnation, id: "@" + g.Name + ":" + strconv.FormatUint(g.Incarnation, 10), Endpoint: topology.Endpoint{Addr: g.Peers, Secret: view.Secret}})
	return int16(len(t.Groups) + len(t.Peers) - 1)
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
