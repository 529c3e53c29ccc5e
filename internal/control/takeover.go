package control

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"keyferry/internal/topology"
)

// Takeover: whoever notices that a gateway has gone takes it out of the cluster and gives its jobs to
// those that stay, in one compare-and-set. Several may notice at once; the first one wins, and the
// others find that nothing is left to do.
//
//	its registration has ended ─► dead ─► takeOut: not registered, by a fresh look ─► Fence + GiveAway
//	its address refuses connections ─► Refused ───────────────────────────────────► Fence + GiveAway
//
// A process that was killed so is missed at once, and one that hangs when its lease ends. Either may
// be wrong, and costs the gateway no more than a new incarnation.

// veryLong stands for as long as this gateway is not registered itself.
const veryLong = 365 * 24 * time.Hour

// pauseMin and pauseMax bound the pauses between tries of what the store has to take.
const (
	pauseMin = 50 * time.Millisecond
	pauseMax = time.Second
)

// BackOff sleeps for a pause, with jitter, and doubles it, up to a second; false when ctx has ended.
func BackOff(ctx context.Context, pause *time.Duration) bool {
	t := time.NewTimer(*pause/2 + rand.N(*pause/2+1))
	defer t.Stop()
	*pause = min(2**pause, pauseMax)
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// dead are the gateways that are part of the cluster and not registered, by what has been heard. When this
// gateway's own registration has ended, the store was away, and the others get the time of a lease to
// register anew, as this one has.
func (c *Control) dead() (gone []topology.Gateway) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.patience) {
		return nil
	}
	for _, g := range c.state.AdmittedGateways() {
		if r, ok := c.others[g.Name]; g.Name != c.me.Name && (!ok || r.Incarnation != g.Incarnation) {
			gone = append(gone, g)
		}
	}
	return gone
}

// watchOthers takes out gateways whose registrations have ended, until ctx ends.
func (c *Control) watchOthers(ctx context.Context) {
	pause := pauseMin
	for c.Await(ctx, func() bool { return len(c.dead()) > 0 }) == nil {
		for _, g := range c.dead() {
			if err := c.takeOut(ctx, g, false); err != nil && ctx.Err() == nil {
				c.failed(fmt.Errorf("gateway %s has gone and could not be taken out of the cluster: %w", g.Name, err))
			}
		}
		if !BackOff(ctx, &pause) { // what was stored comes round by the watch
			return
		}
		if len(c.dead()) == 0 {
			pause = pauseMin
		}
	}
}

// Refused takes a gateway out whose address for peers refuses connections: no process listens there. Any
// goroutine may call it, as often as that is so.
func (c *Control) Refused(name string) {
	if c.me.Members == nil || name == c.me.Name {
		return
	}
	st := c.State()
	g, known := st.Gateway(name)
	if !known || g.Out || !c.startRefusing(name) {
		return
	}
	go func() {
		defer c.stopRefusing(name)
		ctx, cancel := context.WithTimeout(context.Background(), c.me.TTL)
		defer cancel()
		if err := c.takeOut(ctx, g, true); err != nil {
			c.failed(fmt.Errorf("gateway %s refuses connections and could not be taken out of the cluster: %w", name, err))
			return
		}
		_ = c.Await(ctx, func() bool { // until it is seen, so that it is not stored again and again
			st := c.State()
			return !st.Admitted(name, g.Incarnation)
		})
	}()
}

// startRefusing and stopRefusing have one goroutine at a time deal with a gateway.
func (c *Control) startRefusing(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refusing[name] {
		return false
	}
	if c.refusing == nil {
		c.refusing = make(map[string]bool)
	}
	c.refusing[name] = true
	return true
}

func (c *Control) stopRefusing(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.refusing, name)
}

// takeOut takes an incarnation of a gateway out of the cluster, unless it is registered; surely: even
// then. What has been heard of registrations can be older than the State, and a gateway registers
// before it is admitted; so the State is read first and the registrations after that.
func (c *Control) takeOut(ctx context.Context, g topology.Gateway, surely bool) error {
	_, err := topology.Update(ctx, c.store, func(s *topology.State) error {
		if !s.Admitted(c.me.Name, c.incarnation) {
			return ErrFenced
		}
		if !s.Admitted(g.Name, g.Incarnation) {
			return topology.ErrUnchanged
		}
		if !surely {
			there, err := c.me.Members.Registered(ctx)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(there, func(r topology.Registered) bool { return r.Name == g.Name && r.Incarnation == g.Incarnation }) {
				return topology.ErrUnchanged
			}
		}
		s.Fence(g.Name, g.Incarnation)
		s.GiveAway(g.Name)
		return nil
	})
	return err
}

// join registers this gateway and admits it as a new incarnation: registered first, since whoever is
// admitted and not registered is taken for dead.
func (c *Control) join(ctx context.Context) (topology.State, error) {
	for {
		st, err := c.store.Load(ctx)
		if err != nil {
			return topology.State{}, err
		}
		next := st.Clone()
		me := c.me.Gateway
		me.Incarnation = next.Admit(me)
		lost, err := c.me.Members.Register(ctx, me, c.me.TTL)
		if err != nil {
			return topology.State{}, fmt.Errorf("registering gateway %s: %w", me.Name, err)
		}
		raced := false
		st, err = topology.Update(ctx, c.store, func(s *topology.State) error {
			if raced = s.Admit(c.me.Gateway) != me.Incarnation; raced { // another process of this name has come in between
				return topology.ErrUnchanged
			}
			return nil
		})
		if err != nil {
			return topology.State{}, err
		}
		if !raced {
			c.incarnation, c.lost = me.Incarnation, lost
			return st, nil
		}
	}
}

// stayRegistered registers anew whenever the registration may have ended, until ctx ends. If others have
// taken this gateway out meanwhile, Run ends by what they have stored.
func (c *Control) stayRegistered(ctx context.Context) {
	me := c.me.Gateway
	me.Incarnation = c.incarnation
	for lost := c.lost; ; {
		select {
		case <-lost:
		case <-ctx.Done():
			return
		}
		c.tell(func() { c.patience = time.Now().Add(veryLong) }) // at once: the list that comes next may lack everybody
		var err error
		for pause := pauseMin; ; {
			if lost, err = c.me.Members.Register(ctx, me, c.me.TTL); err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			c.failed(fmt.Errorf("this gateway could not be registered; others may take it for dead: %w", err))
			if !BackOff(ctx, &pause) {
				return
			}
		}
		c.tell(func() { c.patience = time.Now().Add(c.me.TTL) })
		time.AfterFunc(c.me.TTL, func() { c.tell(func() {}) })
		c.acks.change(func(*topology.Ack) {}) // it went with the registration
	}
}
