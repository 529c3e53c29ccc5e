package control

import (
	"context"

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
	defer c.migrator.Wait()
	defer cancel()
	published := uint64(0) // the epoch of the table that the loops have
	for st := range c.store.Watch(ctx) {
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
		published = st.Epoch
		c.migrator.Routed(st.Clone(), drained)
		c.tell(func() { c.acked = st.Epoch })
	}
	return ctx.Err()
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

// build makes the table of a topology. The migrator makes the lock tables of new moves
// first, so that the table is built by looking them up.
func (c *Control) build(top topology.Topology) (*router.Table, error) {
	type pair struct {
		locks *slotlock.Table
		whole *slotlock.Whole
	}
	of := make(map[string]pair)
	for _, m := range top.Moves {
		if m.To == 0 {
			locks, whole := c.migrator.LocksOf(m)
			of[m.Job] = pair{locks, whole}
		}
	}
	return router.Build(top, func(job string) (*slotlock.Table, *slotlock.Whole) { return of[job].locks, of[job].whole })
}
