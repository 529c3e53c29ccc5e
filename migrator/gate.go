package migrator

import (
	"context"
	"errors"
	"sync"
)

// gate lets batches through until it is shut, and tells when the last of those inside has
// come out.
type gate struct {
	mu     sync.Mutex // protects all below; never held across I/O
	inside int
	shut   int           // how many want it shut
	open   chan struct{} // closed when shut is 0 again
	empty  chan struct{} // closed when nobody is inside; nil while nobody waits for it
}

// enter waits while the gate is shut.
func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		if g.shut == 0 {
			g.inside++
			g.mu.Unlock()
			return nil
		}
		open := g.open
		g.mu.Unlock()
		select {
		case <-open:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tryEnter is enter where waiting is out of the question.
func (g *gate) tryEnter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut > 0 {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// close shuts the gate and waits until nobody is inside. On an error it is open again.
func (g *gate) close(ctx context.Context) error {
	g.mu.Lock()
	if g.shut++; g.shut == 1 {
		g.open = make(chan struct{})
	}
	if g.inside == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	empty := g.empty
	g.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		g.reopen()
		return ctx.Err()
	}
}

func (g *gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut--; g.shut == 0 {
		close(g.open)
	}
}

var errInDoubt = errors.New("keys are in doubt: an end of the move does not answer")

// Quiesce stops every mover between two batches and returns when none is under way; resume
// lets them go on and must be called. Errors: ctx ended, or the place of some key is not
// known at the moment.
func (m *Manager) Quiesce(ctx context.Context) (resume func(), err error) {
	if err := m.gate.close(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	doubt := 0
	for _, r := range m.runners {
		if r.mover != nil {
			doubt += len(r.mover.inDoubt())
		}
	}
	m.mu.Unlock()
	if doubt > 0 {
		m.gate.reopen()
		return nil, errInDoubt
	}
	return sync.OnceFunc(m.gate.reopen), nil
}
