package control

import (
	"context"
	"fmt"
	"slices"

	"keyferry/internal/topology"
)

// change applies a change of groups or slots to the stored State and waits until every
// loop routes by it.
func (c *Control) change(ctx context.Context, change func(*topology.State) error) error {
	st, err := topology.Update(ctx, c.store, change)
	if err != nil {
		return err
	}
	if err := c.AwaitEpoch(ctx, st.Epoch); err != nil {
		return fmt.Errorf("it has been stored and takes effect by itself, but not every event loop routes by it yet: %w", err)
	}
	return nil
}

// What is wrong about a server is found out before it is stored: each of these mistakes would
// otherwise show at the first command of a client, or as keys in the way of the first job. An
// operator who knows better says so, with the word UNCHECKED: trust.

// AddGroup adds a group without slots and waits until every loop knows it.
//
// The server is claimed first, so that of two clusters that add it at once one is refused. take takes it
// from another cluster.
func (c *Control) AddGroup(ctx context.Context, g topology.Group, trust, take bool) error {
	add := func(st *topology.State) error { return st.AddGroup(g) }
	st := c.State()
	if err := add(&st); err != nil { // to a copy; it is said before anybody is asked
		return err
	}
	if !trust {
		if err := c.check(ctx, st, g); err != nil {
			return fmt.Errorf("group %s was not added: %w (UNCHECKED takes it as it is)", g.ID, err)
		}
		text, err := c.migrator.Unserved(ctx, g)
		switch {
		case err != nil:
			return fmt.Errorf("group %s was not added: %s: %w (UNCHECKED takes it as it is)", g.ID, g.Addr, err)
		case text != "":
			return fmt.Errorf("group %s was not added: %s has %s (UNCHECKED takes it as it is)", g.ID, g.Addr, text)
		}
		if err := c.migrator.Claim(ctx, g, take); err != nil {
			return fmt.Errorf("group %s was not added: %w", g.ID, err)
		}
	}
	err := c.change(ctx, add)
	if _, stored := c.stored(g.ID); err != nil && !trust && !stored {
		c.migrator.Disclaim(ctx, g)
	}
	return err
}

// stored looks a group up in what is stored, which the loops may not route by yet.
func (c *Control) stored(id string) (topology.Group, bool) {
	st, err := c.store.Load(context.Background())
	if err != nil {
		return topology.Group{}, true // nobody knows
	}
	return st.Group(id)
}

// check asks the server of a group whether it can be.
func (c *Control) check(ctx context.Context, st topology.State, g topology.Group) error {
	others := slices.DeleteFunc(slices.Clone(st.Groups), func(o topology.Group) bool { return o.ID == g.ID })
	return c.migrator.CheckPrimary(ctx, g, others)
}

// DelGroup removes a group that has no slots and no job, and waits until no loop uses it. Keys
// that no job would have moved stand against it, as far as the server answers: one that has gone for
// good can be removed too, and unknown says what nobody has looked at.
func (c *Control) DelGroup(ctx context.Context, id string, trust bool) (unknown string, err error) {
	del := func(st *topology.State) error { return st.DelGroup(id) }
	st := c.State()
	g, _ := st.Group(id)
	if err := del(&st); err != nil {
		return "", err
	}
	if !trust {
		switch text, err := c.migrator.Unserved(ctx, g); {
		case err != nil:
			unknown = fmt.Sprintf("%s did not answer (%v): nobody knows whether it has keys in databases that are not served, which no job has moved", g.Addr, err)
		case text != "":
			return "", fmt.Errorf("group %s was not removed: %s has %s (UNCHECKED leaves them there)", id, g.Addr, text)
		}
	}
	if err := c.change(ctx, del); err != nil {
		return unknown, err
	}
	c.migrator.Disclaim(ctx, g)
	return unknown, nil
}

// AssignSlots gives slots that nobody owns to a group, all or none of them, and waits until
// every loop routes by it.
func (c *Control) AssignSlots(ctx context.Context, slots []topology.Range, group string, trust bool) error {
	assign := func(st *topology.State) error {
		for _, r := range slots {
			if err := st.AssignSlots(r, group); err != nil {
				return err
			}
		}
		return nil
	}
	st := c.State()
	if err := assign(&st); err != nil {
		return err
	}
	if !trust {
		g, _ := st.Group(group)
		if err := c.check(ctx, st, g); err != nil {
			return fmt.Errorf("no slots were assigned to group %s: %w (UNCHECKED takes it as it is)", group, err)
		}
		if err := c.migrator.CheckOwner(ctx, g); err != nil {
			return fmt.Errorf("no slots were assigned to group %s: %w", group, err)
		}
	}
	return c.change(ctx, assign)
}

// UnassignSlots takes slots from their owners, all or none of them, and waits until no loop
// routes by them. Keys stay where they are, and nobody serves them.
func (c *Control) UnassignSlots(ctx context.Context, slots []topology.Range) error {
	return c.change(ctx, func(st *topology.State) error { return st.UnassignSlots(slots) })
}

// SetGroup changes the address or the password of a group's server, nil: not, and waits until
// every loop routes by it. The server has to be a primary that takes the password, and the group's, unless
// take is set.
func (c *Control) SetGroup(ctx context.Context, id string, addr, password *string, take bool) error {
	st := c.State()
	if err := st.SetGroup(id, addr, password); err != nil { // to a copy; it is said before anybody is asked
		return err
	}
	g, _ := st.Group(id)
	if err := c.check(ctx, st, g); err != nil {
		return fmt.Errorf("group %s was not changed: %w", id, err)
	}
	if err := c.migrator.Claim(ctx, g, take); err != nil {
		return fmt.Errorf("group %s was not changed: %w", id, err)
	}
	return c.change(ctx, func(st *topology.State) error { return st.SetGroup(id, addr, password) })
}
