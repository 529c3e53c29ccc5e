package flow

import "sync"

// Gate lets batches through until it is shut, and tells when the last of those inside has
// come out. The zero Gate is open.
//
// Invariant: from the moment that a channel returned by Shut is closed, or Shut has returned
// nil, until its Reopen nobody is inside.
type Gate struct {
	mu     sync.Mutex // protects all below; held for a few instructions
	inside int
	shut   int           // how many want it shut
	open   chan struct{} // closed when shut is 0 again
	empty  chan struct{} // closed when nobody is inside; nil while nobody waits for it
}

// Enter goes inside and returns nil, or returns a channel that is closed when it is worth to
// try again.
func (g *Gate) Enter() (open <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut > 0 {
		return g.open
	}
	g.inside++
	return nil
}

// Leave ends what Enter began.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// Shut lets nobody in until Reopen, which must be called. It returns nil when nobody is
// inside, or a channel that is closed when the last one has left.
func (g *Gate) Shut() (empty <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut++; g.shut == 1 {
		g.open = make(chan struct{})
	}
	if g.inside == 0 {
		return nil
	}
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	return g.empty
}

// Reopen takes one Shut back.
func (g *Gate) Reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut--; g.shut == 0 {
		close(g.open)
	}
}
