package control

import (
	"context"
	"fmt"

	"keyferry/internal/topology"
)

// change applies a change of groups or slots to the stored State and waits until every
// loop routes by it.
func (c *Control) change(ctx context.Context, change func(*topology.State) error) error {
	st, err := topology.Update(ctx, c.store, change)
	if err != nil {
		return err
	}
	return c.AwaitEpoch(ctx, st.Epoch)
}

// AddGroup adds a group without slots and waits until every loop knows it.
func (c *Control) AddGroup(ctx context.Context, g topology.Group) error {
	return c.change(ctx, func(st *topology.State) error { return st.AddGroup(g) })
}

// DelGroup removes a group that has no slots and no job, and waits until no loop uses it.
func (c *Control) DelGroup(ctx context.Context, id string) error {
	return c.change(ctx, func(st *topology.State) error { return st.DelGroup(id) })
}

// AssignSlots gives slots that nobody owns to a group, all or none of them, and waits until
// every loop routes by it.
func (c *Control) AssignSlots(ctx context.Context, slots []topology.Range, group string) error {
	return c.change(ctx, func(st *topology.State) error {
		for _, r := range slots {
			if err := st.AssignSlots(r, group); err != nil {
				return err
			}
		}
		return nil
	})
}

// SetGroup changes the address or the password of a group's server, nil: not, and waits until
// every loop routes by it. The server has to be a primary that takes the password.
func (c *Control) SetGroup(ctx context.Context, id string, addr, password *string) error {
	st := c.State()
	if err := st.SetGroup(id, addr, password); err != nil { // to a copy; it is said before anybody is asked
		return err
	}
	g, _ := st.Group(id)
	if err := c.migrator.CheckPrimary(ctx, g); err != nil {
		return fmt.Errorf("group %s was not changed: %w", id, err)
	}
	return c.change(ctx, func(st *topology.State) error { return st.SetGroup(id, addr, password) })
}
