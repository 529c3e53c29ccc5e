// Package memory is a store that several gateways of one process share. It keeps what
// topology.Store and topology.Members promise, but for outliving the process; tests and
// simulations of several gateways use it, and what goes wrong with a store is done to it on demand.
package memory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"keyferry/internal/topology"
)

// Cluster is what is stored. The zero value is empty.
type Cluster struct {
	mu      sync.Mutex
	state   *topology.State // nil: none
	points  map[string]topology.Checkpoint
	events  map[string][]topology.JobEvent
	members map[string]*member
	open    map[*Store]bool
}

// member is a registration.
type member struct {
	topology.Registered
	by   *Store
	lost chan struct{} // nil once it was closed
}

// tellLost closes lost.
func (m *member) tellLost() {
	if m.lost != nil {
		close(m.lost)
		m.lost = nil
	}
}

// ErrAway is returned by a store that has been cut off.
var ErrAway = errors.New("memory: the store can't be reached")

// Store is one gateway's way to a Cluster.
type Store struct {
	c      *Cluster
	closed chan struct{}

	// c.mu protects these.
	away bool
	me   string        // registered
	bell chan struct{} // closed and replaced when there is something to deliver, or away has changed
}

// Open gives one more gateway a way in.
func (c *Cluster) Open() *Store {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &Store{c: c, closed: make(chan struct{}), bell: make(chan struct{})}
	if c.open == nil {
		c.open, c.points, c.events, c.members = make(map[*Store]bool), make(map[string]topology.Checkpoint), make(map[string][]topology.JobEvent), make(map[string]*member)
	}
	c.open[s] = true
	return s
}

// Expire ends a gateway's registration, as the end of its lease does.
func (c *Cluster) Expire(gateway string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.members[gateway]; m != nil {
		m.tellLost()
		delete(c.members, gateway)
		c.ring()
	}
}

// Away cuts the store off, or ends that: calls fail, and watches tell nothing.
func (s *Store) Away(away bool) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.away = away
	s.c.ring()
}

// ring wakes all watches. mu is held.
func (c *Cluster) ring() {
	for s := range c.open {
		close(s.bell)
		s.bell = make(chan struct{})
	}
}

// do runs f with the lock held, if the store can be used.
func (s *Store) do(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	switch {
	case !s.c.open[s]:
		return topology.ErrClosed
	case s.away:
		return ErrAway
	}
	return f()
}

// Load implements topology.Store.
func (s *Store) Load(ctx context.Context) (st topology.State, err error) {
	err = s.do(ctx, func() error {
		if s.c.state == nil {
			return topology.ErrNotFound
		}
		st = s.c.state.Clone()
		return nil
	})
	return st, err
}

// CompareAndSet implements topology.Store.
func (s *Store) CompareAndSet(ctx context.Context, old, next topology.State) error {
	return s.do(ctx, func() error {
		if _, err := topology.Diff(&old, &next); err != nil {
			return err
		}
		var stored uint64
		if s.c.state != nil {
			stored = s.c.state.Revision
		}
		if old.Revision != stored {
			return topology.ErrConflict
		}
		st := next.Clone()
		s.c.state = &st
		s.c.ring()
		return nil
	})
}

// Watch implements topology.Store.
func (s *Store) Watch(ctx context.Context) <-chan topology.State {
	return follow(ctx, s, func(told *uint64) (topology.State, bool) {
		if s.c.state == nil || s.c.state.Revision <= *told {
			return topology.State{}, false
		}
		*told = s.c.state.Revision
		return s.c.state.Clone(), true
	})
}

// WatchMembers implements topology.Members.
func (s *Store) WatchMembers(ctx context.Context) <-chan []topology.Registered {
	var last []topology.Registered
	return follow(ctx, s, func(told *uint64) ([]topology.Registered, bool) {
		list := s.c.list()
		if *told > 0 && slices.EqualFunc(list, last, same) {
			return nil, false
		}
		*told, last = 1, list
		return list, true
	})
}

func same(a, b topology.Registered) bool {
	return a.Gateway == b.Gateway && a.Ack.Epoch == b.Ack.Epoch && slices.Equal(a.Ack.Undrained, b.Ack.Undrained)
}

// follow delivers what next finds, which is called with the lock held, until ctx or the store ends.
func follow[T any](ctx context.Context, s *Store, next func(told *uint64) (T, bool)) <-chan T {
	out := make(chan T)
	go func() {
		defer close(out)
		var told uint64
		for {
			s.c.mu.Lock()
			bell, open := s.bell, s.c.open[s]
			var v T
			ok := false
			if open && !s.away {
				v, ok = next(&told)
			}
			s.c.mu.Unlock()
			if !open {
				return
			}
			if !ok {
				select {
				case <-bell:
				case <-ctx.Done():
					return
				}
				continue
			}
			select {
			case out <- v:
			case <-s.closed:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// SaveCheckpoint implements topology.Store.
func (s *Store) SaveCheckpoint(ctx context.Context, p topology.Checkpoint) error {
	if p.Job == "" {
		return topology.ErrInvalid
	}
	return s.do(ctx, func() error { s.c.points[p.Job] = p; return nil })
}

// LoadCheckpoint implements topology.Store.
func (s *Store) LoadCheckpoint(ctx context.Context, job string) (p topology.Checkpoint, ok bool, err error) {
	err = s.do(ctx, func() error { p, ok = s.c.points[job]; return nil })
	return p, ok, err
}

// DropCheckpoint implements topology.Store.
func (s *Store) DropCheckpoint(ctx context.Context, job string) error {
	return s.do(ctx, func() error { delete(s.c.points, job); return nil })
}

// AppendEvent implements topology.Store.
func (s *Store) AppendEvent(ctx context.Context, e topology.JobEvent) error {
	if e.Job == "" {
		return topology.ErrInvalid
	}
	return s.do(ctx, func() error {
		list := s.c.events[e.Job]
		e.Seq = 1
		if n := len(list); n > 0 {
			e.Seq = list[n-1].Seq + 1
		}
		list = append(slices.Clone(list), e)
		s.c.events[e.Job] = list[max(0, len(list)-topology.MaxJobEvents):]
		return nil
	})
}

// Events implements topology.Store.
func (s *Store) Events(ctx context.Context, job string) (list []topology.JobEvent, err error) {
	err = s.do(ctx, func() error { list = slices.Clone(s.c.events[job]); return nil })
	return list, err
}

// DropEvents implements topology.Store.
func (s *Store) DropEvents(ctx context.Context, job string) error {
	return s.do(ctx, func() error { delete(s.c.events, job); return nil })
}

// Close implements topology.Store. A registration of this gateway goes on until Expire.
func (s *Store) Close() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.open[s] {
		if m := s.mine(); m != nil {
			m.tellLost()
		}
		close(s.bell)
		close(s.closed)
		delete(s.c.open, s)
	}
	return nil
}

// Register implements topology.Members. The registration lasts until Expire: no time passes here.
func (s *Store) Register(ctx context.Context, g topology.Gateway, _ time.Duration) (<-chan struct{}, error) {
	lost := make(chan struct{})
	return lost, s.do(ctx, func() error {
		if old := s.c.members[g.Name]; old != nil {
			if old.Incarnation > g.Incarnation {
				return fmt.Errorf("memory: a later gateway %s is registered", g.Name)
			}
			old.tellLost()
		}
		s.c.members[g.Name], s.me = &member{topology.Registered{Gateway: g}, s, lost}, g.Name
		s.c.ring()
		return nil
	})
}

// mine is this gateway's registration; nil if it has none any more. mu is held.
func (s *Store) mine() *member {
	if m := s.c.members[s.me]; m != nil && m.by == s {
		return m
	}
	return nil
}

// Unregister implements topology.Members.
func (s *Store) Unregister(ctx context.Context) error {
	return s.do(ctx, func() error {
		if m := s.mine(); m != nil {
			m.tellLost()
			delete(s.c.members, s.me)
			s.c.ring()
		}
		return nil
	})
}

// Acknowledge implements topology.Members.
func (s *Store) Acknowledge(ctx context.Context, a topology.Ack) error {
	return s.do(ctx, func() error {
		m := s.mine()
		if m == nil {
			return errors.New("memory: this gateway is not registered")
		}
		m.Ack = topology.Ack{Epoch: a.Epoch, Undrained: slices.Clone(a.Undrained)}
		s.c.ring()
		return nil
	})
}

// Registered implements topology.Members.
func (s *Store) Registered(ctx context.Context) (list []topology.Registered, err error) {
	err = s.do(ctx, func() error { list = s.c.list(); return nil })
	return list, err
}

// list is by name. mu is held.
func (c *Cluster) list() (list []topology.Registered) {
	for _, name := range slices.Sorted(maps.Keys(c.members)) {
		list = append(list, c.members[name].Registered)
	}
	return list
}
