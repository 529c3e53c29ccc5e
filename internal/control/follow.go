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

// Publish gives a table to the data plane: it returns when every loop routes by it, and a
// channel that is closed when nothing is in flight unlocked on slots that begin to move.
type Publish func(context.Context, *router.Table) (drained <-chan struct{}, err error)

// Run follows the store until ctx ends: each new epoch is published to the data plane, and
// the migrator hears of each State. It returns when all that the migrator runs has ended.
func (c *Control) Run(ctx context.Context, publish Publish) error {
	ctx, cancel := context.WithCancel(ctx)
	c.migrator.Begin(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.migrator.Wait()
	defer cancel()
	c.withOthers(ctx, &wg)
	published := uint64(0) // the epoch of the table that the loops have
	for st := range c.store.Watch(ctx) {
		if !st.Admitted(c.me.Name, c.incarnation) {
			return ErrFenced
		}
		if st.Epoch == published { // a job went on, and routes are as before
			c.see(st, nil)
			c.migrator.Routed(st.Clone(), nil)
			continue
		}
		table, err := c.build(st.Topology)
		if err != nil {
			return err
		}
		c.see(st, table)
		drained, err := publish(ctx, table)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			return err
		}
		left := c.migrator.Routed(st.Clone(), drained)
		c.acks.routed(ctx, published, st.Epoch, both(ctx, drained, left))
		published = st.Epoch
		c.tell(func() { c.acked = st.Epoch })
	}
	return ctx.Err()
}

// both is closed when a and b are, unless ctx ends before; b may be nil.
func both(ctx context.Context, a, b <-chan struct{}) <-chan struct{} {
	if b == nil {
		return a
	}
	done := make(chan struct{})
	go func() {
		for _, c := range []<-chan struct{}{a, b} {
			select {
			case <-c:
			case <-ctx.Done():
				return
			}
		}
		close(done)
	}()
	return done
}

// withOthers begins what a gateway does that is not alone.
func (c *Control) withOthers(ctx context.Context, wg *sync.WaitGroup) {
	if c.me.Members == nil {
		return
	}
	wg.Go(func() { c.followMembers(ctx) })
	wg.Go(func() { c.watchOthers(ctx) })
	wg.Go(func() { c.stayRegistered(ctx) })
	wg.Go(func() { c.acks.store(ctx, c.me.Members, c.failed) })
}

// Drain gives the jobs of a gateway to others, of which each goes on when the gateway has let go of it.
func (c *Control) Drain(ctx context.Context, name string) error {
	if c.me.Members == nil {
		return errors.New("this gateway is the only one of its cluster: no other could take its jobs")
	}
	_, err := topology.Update(ctx, c.store, func(s *topology.State) error { return s.Drain(name) })
	return err
}

// HandOver is Drain of this gateway before it stops, and returns when it has let go of its jobs. If there is
// nobody to take them nothing happens: they go on when it starts again.
func (c *Control) HandOver(ctx context.Context) error {
	if c.me.Members == nil {
		return nil
	}
	st, err := topology.Update(ctx, c.store, func(s *topology.State) error {
		if !s.Admitted(c.me.Name, c.incarnation) || s.LeastBusy(c.me.Name) == "" {
			return topology.ErrUnchanged
		}
		return s.Drain(c.me.Name)
	})
	if err != nil {
		return err
	}
	if err := c.Await(ctx, func() bool { return c.acks.covers(st.Epoch) }); err != nil {
		return err
	}
	// Others that are behind still send commands on the jobs' slots here, and would lose them with this gateway.
	// One that hangs is not waited for.
	behind, cancel := context.WithTimeout(ctx, othersBound)
	defer cancel()
	_ = c.Await(behind, func() bool { return c.othersRoute(st.Epoch) })
	return nil
}

// othersBound is how long a gateway that stops waits for others to route by the epoch in which its jobs
// were given away.
const othersBound = time.Second

// othersRoute reports that every other gateway of the cluster routes by an epoch.
func (c *Control) othersRoute(epoch uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.state.AdmittedGateways() {
		if r := c.others[g.Name]; g.Name != c.me.Name && (r.Incarnation != g.Incarnation || r.Ack.Epoch < epoch) {
			return false
		}
	}
	return true
}

// Remove takes a gateway out of the cluster, and forgets it once it is out. One that is alive joins again as
// another incarnation, unless it is stopped.
func (c *Control) Remove(ctx context.Context, name string) error {
	_, err := topology.Update(ctx, c.store, func(s *topology.State) error {
		g, ok := s.Gateway(name)
		switch {
		case name == c.me.Name:
			return errors.New("a gateway does not remove itself: stop it, or ask another one")
		case ok && !g.Out:
			s.Fence(name, g.Incarnation)
			s.GiveAway(name)
			return nil
		}
		return s.RemoveGateway(name)
	})
	return err
}

// Leave takes this gateway out of the cluster, as the last thing of a planned stop: its jobs go to others,
// which need not wait until it is missed.
func (c *Control) Leave(ctx context.Context) error {
	if c.me.Members == nil {
		return nil
	}
	_, err := topology.Update(ctx, c.store, func(s *topology.State) error {
		if !s.Admitted(c.me.Name, c.incarnation) {
			return topology.ErrUnchanged
		}
		s.Fence(c.me.Name, c.incarnation)
		s.GiveAway(c.me.Name)
		return nil
	})
	return errors.Join(err, c.me.Members.Unregister(ctx))
}

// Validate reports whether this incarnation of the gateway is still part of the cluster, by what is
// stored now. It is asked when a connection to a server has been made, and before anything is sent
// on it: whoever fences this gateway stores that first, and kills its connections after that; so
// a connection is either killed or never used. An error means that it must not be used.
func (c *Control) Validate(ctx context.Context) error {
	if c.me.Members == nil {
		return nil
	}
	st, err := c.store.Load(ctx)
	if err != nil {
		return fmt.Errorf("a new connection to a server can't be used before the store says that this gateway is part of the cluster: %w", err)
	}
	if !st.Admitted(c.me.Name, c.incarnation) {
		return ErrFenced
	}
	return nil
}

// see takes over a State, and its table if it is a new one. Who waits hears of it when the
// migrator has: so whoever finds a job in the State can wait until somebody runs it.
func (c *Control) see(st topology.State, table *router.Table) {
	c.mu.Lock()
	c.state = st
	if table != nil {
		c.table = table
	}
	c.mu.Unlock()
	c.migrator.Follow(st.Clone())
	c.tell(func() {})
}

// build makes the table of a topology. The migrator makes the lock tables of this gateway's new moves
// first, so that the table is built by looking them up.
func (c *Control) build(top topology.Topology) (*router.Table, error) {
	type pair struct {
		locks *slotlock.Table
		whole *slotlock.Whole
	}
	of := make(map[string]pair)
	view := router.View{Gateway: c.me.Name, Secret: c.me.Secret}
	for _, m := range top.Moves {
		if m.To == 0 && view.Owns(m) {
			locks, whole := c.migrator.LocksOf(m)
			of[m.Job] = pair{locks, whole}
		}
	}
	view.Locks = func(job string) (*slotlock.Table, *slotlock.Whole) { return of[job].locks, of[job].whole }
	return router.Build(top, view)
}
