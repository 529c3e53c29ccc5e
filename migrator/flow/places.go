package flow

import "sync"

// Places bound how many batches of all jobs are under way at one server, so that many jobs
// at once do not gang up on it: each of them would see nothing but itself being slow.
//
//	job 1  A → B ─┐
//	job 2  A → C ─┼─► place at A ─► place at B, or C ─► batch ─► given back
//	job 3  B → C ─┘
//
// A batch takes one place at either end, in the order of the groups' names, so that jobs
// which cross wait for each other in no circle. It holds no key while it waits. Who waits
// longest is next.
type Places struct {
	each int // at one group

	mu sync.Mutex         // protects at, and what is in it
	at map[string]*server // by group
}

// server is one group's places. A place that is given back goes to the first in the queue at
// once, so that nobody overtakes: queue is empty unless taken is each.
type server struct {
	taken int
	queue []*Place
}

// Place is one that is held, or waited for.
type Place struct {
	p    *Places
	at   *server
	mine chan struct{} // closed when it is held
}

// NewPlaces are so many at each group; nil, which anybody may have, where each is 0.
func NewPlaces(each int) *Places {
	if each <= 0 {
		return nil
	}
	return &Places{each: each, at: make(map[string]*server)}
}

// Order is the order in which the places of two groups are asked for.
func Order(a, b string) (first, second string) { return min(a, b), max(a, b) }

// Ask queues for a place at a group. It is held when Held is closed; GiveBack must be called.
func (p *Places) Ask(group string) *Place {
	pl := &Place{p: p, mine: make(chan struct{})}
	if p == nil {
		close(pl.mine)
		return pl
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if pl.at = p.at[group]; pl.at == nil {
		pl.at = &server{}
		p.at[group] = pl.at
	}
	if pl.at.taken < p.each {
		pl.at.taken++
		close(pl.mine)
	} else {
		pl.at.queue = append(pl.at.queue, pl)
	}
	return pl
}

// Try takes a place at both groups, or none.
func (p *Places) Try(a, b string) (giveBack func(), ok bool) {
	if p == nil {
		return func() {}, true
	}
	a, b = Order(a, b)
	first := p.Ask(a)
	if !first.held() {
		first.GiveBack()
		return nil, false
	}
	second := p.Ask(b)
	if !second.held() {
		second.GiveBack()
		first.GiveBack()
		return nil, false
	}
	return func() { second.GiveBack(); first.GiveBack() }, true
}

// Held is closed when the place is held.
func (pl *Place) Held() <-chan struct{} { return pl.mine }

func (pl *Place) held() bool {
	select {
	case <-pl.mine:
		return true
	default:
		return false
	}
}

// GiveBack hands a place to who waits longest for one, or leaves the queue for it. It is
// called once.
func (pl *Place) GiveBack() {
	if pl.p == nil {
		return
	}
	pl.p.mu.Lock()
	defer pl.p.mu.Unlock()
	s := pl.at
	if !pl.held() { // under mu: nobody can be handing it over meanwhile
		for i, other := range s.queue {
			if other == pl {
				s.queue = append(s.queue[:i], s.queue[i+1:]...)
				return
			}
		}
	}
	if len(s.queue) > 0 {
		next := s.queue[0]
		s.queue = s.queue[1:]
		close(next.mine)
		return
	}
	s.taken--
}
