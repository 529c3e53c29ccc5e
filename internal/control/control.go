package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"keyferry/internal/topology"
	"keyferry/router"
	"keyferry/slotlock"
)

// Migrator is what the control plane needs of whoever carries out jobs; migrator.Manager is
// it. The methods are called by Run's goroutine, one at a time, but for CheckPrimary and Unserved.
type Migrator interface {
	// Begin is called once, before anything is followed. What it starts ends with ctx.
	Begin(ctx context.Context)
	// LocksOf gives the lock table of a move that goes on, and which of its slots are moved
	// in one piece (nil: none), and makes them when the move is new. It is called before
	// any loop routes by the move.
	LocksOf(m topology.Move) (*slotlock.Table, *slotlock.Whole)
	// Follow hears of each State that is seen, before the loops route by it.
	Follow(st topology.State)
	// Routed hears that every loop routes by st. drained is closed when nothing is in
	// flight that was sent without a lock to the sources of moves that are new; nil when
	// the loops' table is the one before. left is closed when nothing more is done for moves that
	// have been given to another gateway; nil: there are none.
	Routed(st topology.State, drained <-chan struct{}) (left <-chan struct{})
	// CheckPrimary asks a group's server whether it can be the group's primary, and is none of
	// the others'.
	CheckPrimary(ctx context.Context, g topology.Group, others []topology.Group) error
	// CheckOwner asks whether a server is another cluster's or another group's.
	CheckOwner(ctx context.Context, g topology.Group) error
	// Claim makes a server a group's of this cluster, before the group is stored; Disclaim takes that back.
	Claim(ctx context.Context, g topology.Group, take bool) error
	Disclaim(ctx context.Context, g topology.Group)
	// Unserved tells of keys that a group's server has in databases that are not served; "":
	// there are none.
	Unserved(ctx context.Context, g topology.Group) (string, error)
	// Wait returns when all that Begin and Follow have started has ended.
	Wait()
}

// Control is the control plane. It lives as long as its gateway: Open, Attach, Run.
//
// Invariants: table was built from the epoch of state or an earlier one; acked is never
// newer than table. What is stored is never changed here but by topology.Update.
type Control struct {
	store       topology.Store
	me          Member
	incarnation uint64
	lost        <-chan struct{} // closed when the registration may have ended; set by join
	migrator    Migrator        // set by Attach
	acks        *acks

	mu       sync.Mutex                     // protects what follows; never held while anybody else is called
	state    topology.State                 // the newest that was seen
	table    *router.Table                  // the newest that was built; written by Attach and Run
	acked    uint64                         // the epoch that every loop routes by
	others   map[string]topology.Registered // the gateways that are alive, by name
	refusing map[string]bool                // gateways that Refused deals with
	patience time.Time                      // until when nobody is taken for dead
	news     chan struct{}                  // closed and replaced when any of these changes
}

// Member is what a gateway is in its cluster.
type Member struct {
	topology.Gateway
	Secret topology.Secret // that gateways know each other by

	// Members is how it knows of others. Nil: no other gateway can be in the cluster, since its
	// store is this process's own; then what follows does not matter.
	Members topology.Members
	TTL     time.Duration // after which it is taken for dead when it is not heard of
	Failed  func(error)   // hears of what does not work, and is tried again
}

// ErrFenced ends Run: the store says that this incarnation of the gateway is no part of the cluster
// any more. Others may have taken over its jobs, so it must send nothing more to any server.
var ErrFenced = errors.New("this gateway was taken out of the cluster")

// Open takes over the cluster in the store, as a new incarnation of the gateway. If there
// is none, create makes it.
func Open(ctx context.Context, store topology.Store, me Member, create topology.State) (*Control, error) {
	if _, err := store.Load(ctx); errors.Is(err, topology.ErrNotFound) {
		if err := topology.Create(ctx, store, create); err != nil && !errors.Is(err, topology.ErrConflict) {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	c := &Control{store: store, me: me, news: make(chan struct{})}
	c.acks = &acks{bell: make(chan struct{}, 1), told: func() { c.tell(func() {}) }}
	st, err := c.enter(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := router.ParseScheme(st.Scheme); err != nil {
		return nil, err
	}
	c.state = st
	return c, nil
}

// enter makes this gateway part of the cluster, as a new incarnation.
func (c *Control) enter(ctx context.Context) (topology.State, error) {
	if c.me.Members != nil {
		return c.join(ctx)
	}
	return topology.Update(ctx, c.store, func(s *topology.State) error {
		c.incarnation = s.AdmitAlone(c.me.Gateway)
		return nil
	})
}

// failed tells of what does not work for now.
func (c *Control) failed(err error) {
	if c.me.Failed != nil {
		c.me.Failed(err)
	}
}

// Attach names the migrator and builds the table that the data plane begins with. Before Run.
func (c *Control) Attach(m Migrator) (*router.Table, error) {
	c.migrator = m
	table, err := c.build(c.State().Topology)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.table = table
	return table, nil
}

// Gateway is the name of this gateway.
func (c *Control) Gateway() string { return c.me.Name }

// Incarnation is this process's number among the gateway's.
func (c *Control) Incarnation() uint64 { return c.incarnation }

// State is the newest State that this gateway has seen. It is the caller's own.
func (c *Control) State() topology.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Clone()
}

// Revision is that of State.
func (c *Control) Revision() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Revision
}

// Job is one job of State; false if there is none of that id.
func (c *Control) Job(id string) (topology.Job, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if j := c.state.Job(id); j != nil {
		return j.Clone(), true
	}
	return topology.Job{}, false
}

// JobAndMove is one job of State and its move; the zero Move if it has none, or it is so old
// that the State has forgotten it.
func (c *Control) JobAndMove(id string) (topology.Job, topology.Move, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if j := c.state.Job(id); j != nil {
		return j.Clone(), c.state.MoveOf(id), true
	}
	return topology.Job{}, topology.Move{}, false
}

// Epoch is the one that every loop has acknowledged.
func (c *Control) Epoch() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acked
}

// Table is the newest routing table: the one that the loops have, or are about to have.
// Whoever only looks, as EXPLAIN does, looks at it and makes none.
func (c *Control) Table() *router.Table {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.table
}

// AwaitEpoch waits until every loop routes by epoch or a later one.
func (c *Control) AwaitEpoch(ctx context.Context, epoch uint64) error {
	if err := c.Await(ctx, func() bool { return c.Epoch() >= epoch }); err != nil {
		return fmt.Errorf("epoch %d is not acknowledged: %w", epoch, err)
	}
	return nil
}

// Await waits until cond is true, and asks it again whenever a State has been seen or an
// epoch acknowledged. cond may call Control.
func (c *Control) Await(ctx context.Context, cond func() bool) error {
	for {
		c.mu.Lock()
		news := c.news // before cond: what it misses closes this
		c.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tell changes what others may wait for.
func (c *Control) tell(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.news)
	c.news = make(chan struct{})
}
