package control

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"keyferry/internal/topology"
)

// Mine reports that whatever belongs to a gateway of this name is this gateway's; "" stands for the only one.
func (c *Control) Mine(owner string) bool { return owner == "" || owner == c.me.Name }

// AwaitOthers returns when no command on the slots of a move of this gateway can be under way that
// another gateway has sent without asking its lock table: all that are part of the cluster have
// acknowledged the epoch in which the slots began to move, and the former owner, if there is one, the
// epoch in which it ceased to be that. Whoever is taken out of the cluster meanwhile is not
// waited for: then its connections have to be killed.
func (c *Control) AwaitOthers(ctx context.Context, m topology.Move) error {
	return c.Await(ctx, func() bool { return len(c.behind(m)) == 0 })
}

// behind are the gateways that AwaitOthers waits for.
func (c *Control) behind(m topology.Move) (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.state.Gateways {
		if g.Out || g.Name == c.me.Name {
			continue
		}
		var ack topology.Ack
		if r := c.others[g.Name]; r.Incarnation == g.Incarnation {
			ack = r.Ack
		}
		if !ack.Covers(m.From+1) || g.Name == m.Former && !ack.Covers(m.OwnedFrom) {
			names = append(names, g.Name)
		}
	}
	return names
}

// Fenced tells which incarnations of gateways are no part of the cluster any more, by the newest State. One
// that is newer than what the State knows is none of these: it has come since, and knows more.
func (c *Control) Fenced() (is func(gateway string, incarnation uint64) bool) {
	st := c.State()
	return func(gateway string, incarnation uint64) bool {
		g, known := st.Gateway(gateway)
		return known && (incarnation < g.Incarnation || incarnation == g.Incarnation && g.Out)
	}
}

// HasOthers reports that other gateways are, or were, part of the cluster.
func (c *Control) HasOthers() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.state.Gateways, func(g topology.Gateway) bool { return g.Name != c.me.Name })
}

// Members are the gateways that are alive, as far as the store has told, this one too.
func (c *Control) Members() []topology.Registered {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.me.Members == nil { // it is the only one
		me, _ := c.state.Gateway(c.me.Name)
		return []topology.Registered{{Gateway: me, Ack: topology.Ack{Epoch: c.acked}}}
	}
	var list []topology.Registered
	for _, g := range c.state.AdmittedGateways() {
		if r, ok := c.others[g.Name]; ok && r.Incarnation == g.Incarnation {
			list = append(list, r)
		}
	}
	return list
}

// followMembers keeps others until ctx ends.
func (c *Control) followMembers(ctx context.Context) {
	for list := range c.me.Members.WatchMembers(ctx) {
		others := make(map[string]topology.Registered, len(list))
		for _, r := range list {
			others[r.Name] = r
		}
		c.tell(func() { c.others = others })
	}
}

// acks are what this gateway has to tell of its epochs. Run's goroutine and those that wait for
// commands to be answered change it; one goroutine stores it.
type acks struct {
	mu   sync.Mutex // protects ack
	ack  topology.Ack
	bell chan struct{} // capacity 1: ack has changed
	told func()        // who waits for a change in this process hears of it
}

func (a *acks) change(f func(*topology.Ack)) {
	a.mu.Lock()
	f(&a.ack)
	a.mu.Unlock()
	select {
	case a.bell <- struct{}{}:
	default:
	}
	a.told()
}

// covers is Ack.Covers of what there is to tell.
func (a *acks) covers(epoch uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ack.Covers(epoch)
}

// routed notes that everything goes by an epoch now, which follows last. drained is closed when what
// went by the routes before has been answered.
func (a *acks) routed(ctx context.Context, last, epoch uint64, drained <-chan struct{}) {
	run := topology.Epochs{First: last + 1, Last: epoch}
	select {
	case <-drained:
		a.change(func(k *topology.Ack) { k.Epoch = epoch })
		return
	default:
	}
	a.change(func(k *topology.Ack) { k.Epoch, k.Undrained = epoch, append(slices.Clone(k.Undrained), run) })
	go func() {
		select {
		case <-drained:
			a.change(func(k *topology.Ack) {
				k.Undrained = slices.DeleteFunc(slices.Clone(k.Undrained), func(u topology.Epochs) bool { return u == run })
			})
		case <-ctx.Done():
		}
	}()
}

// store keeps telling until ctx ends; what could not be told is told with the next try.
func (a *acks) store(ctx context.Context, members topology.Members, failed func(error)) {
	pause := pauseMin
	for {
		select {
		case <-a.bell:
		case <-ctx.Done():
			return
		}
		a.mu.Lock()
		ack := a.ack
		a.mu.Unlock()
		if err := members.Acknowledge(ctx, ack); err != nil && ctx.Err() == nil {
			failed(fmt.Errorf("epoch %d could not be acknowledged: %w", ack.Epoch, err))
			if !BackOff(ctx, &pause) {
				return
			}
			a.change(func(*topology.Ack) {})
			continue
		}
		pause = pauseMin
	}
}
