package line

import "keyferry/slotlock"

// Awaited reports that somebody may wait for a key of this name: then Hold has to be asked. While
// nobody waits for anything it costs one atomic load.
func (b *Book) Awaited(name []byte) bool {
	return b.n.Load() > 0 && b.filter[b.hash(name)].Load() > 0
}

// ahead of how many a write is, beyond those that it may serve itself, is how many more of a line are looked
// at: other writes may be under way. What one of those behind them has done is known by its own loop long before so many
// have been served.
const others = 256

// Any reports that somebody waits for something.
func (b *Book) Any() bool { return b.n.Load() > 0 }

// In are the keys of two databases that somebody waits for.
func (b *Book) In(first, second int) (keys []slotlock.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range b.lines {
		if k.DB == first || k.DB == second {
			keys = append(keys, k)
		}
	}
	return keys
}

// Hold reports that a write to keys has to wait, and calls again, from any goroutine, when it is to
// be tried again. most is how many it may serve.
//
// Those in line are asked for by the sockets of their clients: one that has closed its connection
// before this write has come is told from one that waits, though its own loop has not seen it yet. All
// of them, as other writes that serve the first are under way, up to a bound (others). Nobody's state is believed from before that look: who leaves says so before its socket is
// closed, and is looked at after it (leaving).
//
//	loop of the consumer                    loop of the producer
//	                     ◄─ FIN
//	                                        RPUSH ─► Hold: the socket has ended ─► held
//	Nudge ─► Gone ─► Leaving, CLIENT UNBLOCK
//	null ─► Leave ────────────────────────► again ─► Hold: nobody ─► RPUSH is sent
func (b *Book) Hold(keys []slotlock.Key, most int, again func()) (held bool) {
	for {
		b.mu.Lock()
		ahead, disorder := b.ahead(keys, most+others)
		if disorder {
			b.held = append(b.held, again)
			b.mu.Unlock()
			return true
		}
		b.mu.Unlock()
		if len(ahead) == 0 {
			return false
		}
		if b.found(ahead) {
			continue // in disorder now
		}
		leaving := false
		for _, w := range ahead {
			leaving = leaving || w.leaving.Load()
		}
		if !leaving {
			return false
		}
	}
}

// found looks whose connections have ended, has their owners end them, and reports that there are
// any who have not left their lines meanwhile.
func (b *Book) found(ahead []*Waiter) (any bool) {
	if b.gone == nil {
		return false
	}
	fds := make([]int, len(ahead))
	for i, w := range ahead {
		fds[i] = w.FD
	}
	gone := b.gone(fds)
	b.do(func() (n nudges) {
		for i, w := range ahead {
			if i < len(gone) && gone[i] && w.in {
				any, w.gone = true, true
				n = append(n, w.Nudge)
			}
		}
		return n
	})
	return any
}

// ahead are those who may be served when keys are written to, and whether any line is in disorder. A client
// that takes from one key to push to another one (BLMOVE) leads from line to line.
func (b *Book) ahead(keys []slotlock.Key, most int) (ahead []*Waiter, disorder bool) {
	seen := make(map[slotlock.Key]bool, len(keys))
	for todo := keys; len(todo) > 0; {
		k := todo[0]
		todo = todo[1:]
		if seen[k] {
			continue
		}
		seen[k] = true
		deferred := false // who stands behind such a one does so for long
		for i, w := range b.lines[k] {
			deferred = deferred || w.deferred
			if w.leaving.Load() || w.displaced && !deferred || w.gone {
				return nil, true
			}
			if i < most {
				ahead = append(ahead, w)
			}
			if len(w.Keys)+len(w.To) > 1 {
				todo = append(append(todo[:len(todo):len(todo)], w.Keys...), w.To...)
			}
		}
	}
	return ahead, false
}
