package line

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"keyferry/slotlock"
)

// Waiter is a client that waits for one or more keys.
//
// Who touches it: its owner sets the exported fields before Enter. The others are the Book's, under
// its mutex, but leaving, which Hold reads without.
type Waiter struct {
	Keys     []slotlock.Key // that it takes from
	To       []slotlock.Key // that it writes to what it has taken
	Takes    string         // the type of value: a key of another one is for it as if it were not there
	AtServer bool           // it is placed at a server; else it waits in the gateway
	FD       int            // of the client's connection
	// Nudge has the owner ask Next, soon. It is called by any goroutine, without the mutex.
	Nudge func()

	state     state
	recalled  bool         // its owner is to call it off, and has not said that it has
	displaced bool         // it has been called off, and not placed again
	deferred  bool         // no server lets it wait at present: it is placed again when Retry says so
	gone      bool         // its client's connection was seen to have ended
	waits     bool         // in the gateway, and does not ask at present
	woken     bool         // it is to ask
	by        slotlock.Key // … since this key may have something
	first     slotlock.Key // by, when it was told so
	again     bool         // somebody was to ask while all did
	in        bool         // it is in the lines of its keys
	leaving   atomic.Bool  // its client has gone or wants nothing more, and a server may not know yet
}

// state is where a Waiter that is AtServer is.
type state uint8

const (
	standing state = iota // in the gateway, until those in front of it have been placed
	placing               // on its way to a server: parked, or sent
	settled               // the server has read its command
)

// Action is what a waiter's owner has to do.
type Action uint8

const (
	Nothing Action = iota
	Place          // send it to where its keys are, and say Settled when the server has read that
	Recall         // call it off, and say Stands
	Gone           // its client has gone: end it
	Ask            // a key that it waits for in the gateway may have something
)

// Book has the lines of all keys. It is safe for concurrent use.
//
// Invariants: a line is in the order in which its waiters came, and is not empty; filter counts,
// by a hash of the key, those who are in a line.
type Book struct {
	gone   func(fds []int) []bool // which connections have ended; nil: none
	n      atomic.Int64           // waiters
	seed   maphash.Seed
	filter [filterSize]atomic.Int32

	mu    sync.Mutex // protects the rest, and the waiters
	lines map[slotlock.Key][]*Waiter
	held  []func() // those who are to try their writes again
}

const filterSize = 4096

// New makes an empty book. gone says which connections have ended at the other end, by the numbers
// of their sockets; it is called without the mutex.
func New(gone func(fds []int) []bool) *Book {
	return &Book{gone: gone, seed: maphash.MakeSeed(), lines: make(map[slotlock.Key][]*Waiter)}
}

// nudges are called when the mutex has been released.
type nudges []func()

func (n nudges) call() {
	for _, f := range n {
		f()
	}
}

// do runs f under the mutex and calls what it has collected after that.
func (b *Book) do(f func() nudges) {
	b.mu.Lock()
	n := f()
	b.mu.Unlock()
	n.call()
}

// Enter puts w at the end of the lines of its keys. Its owner asks Next then.
func (b *Book) Enter(w *Waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.in = true
	b.n.Add(1)
	for _, k := range w.Keys {
		if line := b.lines[k]; !slices.Contains(line, w) { // else it names the key twice
			b.lines[k] = append(line, w)
			b.filter[b.hash([]byte(k.Name))].Add(1)
		}
	}
}

func (b *Book) hash(name []byte) uint64 { return maphash.Bytes(b.seed, name) % filterSize }

// Next says what the owner of w has to do. It may be asked at any time.
func (b *Book) Next(w *Waiter) Action {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !w.in:
	case w.gone:
		return Gone
	case w.woken:
		w.woken, w.first = false, w.by
		return Ask
	case !w.AtServer || w.leaving.Load():
	case w.state == standing && !w.deferred && b.mayBePlaced(w):
		w.state = placing
		return Place
	case w.state != standing && w.recalled && b.isLast(w):
		return Recall
	}
	return Nothing
}

// mayBePlaced: all in front of it are at a server, which has read their commands, and none behind
// it is: it would come to stand behind them. Nobody in front waits in the gateway either, or the server would
// serve it before him. Those who take another type of value are in nobody's way, nor is who was deferred.
func (b *Book) mayBePlaced(w *Waiter) bool {
	for _, k := range w.Keys {
		behind := false
		for _, o := range b.lines[k] {
			switch {
			case o == w:
				behind = true
			case o.Takes != w.Takes, !behind && o.deferred:
			case behind && o.AtServer && o.state != standing, !behind && (!o.AtServer || o.state != settled || o.recalled):
				return false
			}
		}
	}
	return true
}

// isLast: nobody behind it, for the same, is at a server. The last is called off first, so that those who are still
// there are always the first of the line: a write that is under way serves one of these.
func (b *Book) isLast(w *Waiter) bool {
	for _, k := range w.Keys {
		line := b.lines[k]
		for _, o := range line[slices.Index(line, w)+1:] {
			if o.Takes == w.Takes && o.AtServer && o.state != standing {
				return false
			}
		}
	}
	return true
}

// Settled says that the server has read the command that w waits by.
func (b *Book) Settled(w *Waiter) {
	b.do(func() nudges {
		if !w.in || w.state != placing {
			return nil
		}
		if w.state = settled; !w.recalled {
			w.displaced = false
		}
		n := b.changed(w)
		for _, k := range w.Keys { // who waits in the gateway behind it may have been passed over
			n = b.wake(k, n)
		}
		return n
	})
}

// Recall says that w has to be called off, and so has whoever came after it. Next says when.
func (b *Book) Recall(w *Waiter) { b.do(func() nudges { return b.recall([]*Waiter{w}, nil) }) }

func (b *Book) recall(todo []*Waiter, n nudges) nudges {
	for ; len(todo) > 0; todo = todo[1:] {
		w := todo[0]
		if !w.in || w.recalled || w.state == standing {
			continue
		}
		w.recalled, w.displaced = true, true
		n = append(n, w.Nudge)
		todo = append(todo, b.behind(w)...)
	}
	return n
}

// behind are those who came after w for the same.
func (b *Book) behind(w *Waiter) (list []*Waiter) {
	for _, k := range w.Keys {
		line := b.lines[k]
		for _, o := range line[slices.Index(line, w)+1:] {
			if o.Takes == w.Takes {
				list = append(list, o)
			}
		}
	}
	return list
}

// Defer says that no server lets w wait: its key has another type of value now, which is no reason for who
// waits already to stop. It keeps its turn: those behind it are called off, now and when it is placed again.
func (b *Book) Defer(w *Waiter) {
	b.do(func() nudges {
		if !w.in {
			return nil
		}
		w.state, w.recalled, w.displaced, w.deferred = standing, false, false, true
		return b.recall(b.behind(w), b.changed(w))
	})
}

// Retry says that w is to be placed again. Its owner asks Next then.
func (b *Book) Retry(w *Waiter) {
	b.do(func() nudges {
		if !w.in {
			return nil
		}
		w.deferred = false
		return b.recall(b.behind(w), nil)
	})
}

// Stands says that w is at no server any more, and goes on waiting. Its owner asks Next then.
func (b *Book) Stands(w *Waiter) {
	b.do(func() nudges {
		if !w.in {
			return nil
		}
		w.state, w.recalled = standing, false
		return b.changed(w)
	})
}

// Leaving says that w is to be given nothing more, although a server may still do so.
func (b *Book) Leaving(w *Waiter) { w.leaving.Store(true) }

// Leave takes w out of its lines: it has been served, or no server will do so any more. It may be
// called again.
func (b *Book) Leave(w *Waiter) {
	b.do(func() nudges {
		if !w.in {
			return nil
		}
		w.in = false
		b.n.Add(-1)
		n := b.changed(w)
		for _, k := range w.Keys {
			line := b.lines[k]
			at := slices.Index(line, w)
			if at < 0 {
				continue // it names the key twice
			}
			b.filter[b.hash([]byte(k.Name))].Add(-1)
			if line = slices.Delete(line, at, at+1); len(line) > 0 {
				b.lines[k] = line
				n = b.ends(line, n)
				if !w.AtServer || w.state != settled || w.recalled { // it may have kept others from being woken
					n = b.wake(k, n)
				}
			} else {
				delete(b.lines, k)
			}
		}
		return n
	})
}

// changed nudges who may go on now that w has changed, and those who were held up.
func (b *Book) changed(w *Waiter) (n nudges) {
	n, b.held = b.held, nil
	for _, k := range w.Keys {
		n = b.ends(b.lines[k], n)
	}
	return n
}

// ends nudges those of a line who may go on: of each type of value the first who is not at a server, if it may be
// placed, and the last who is, if it is to be called off. Only these can.
func (b *Book) ends(line []*Waiter, n nudges) nudges {
	var first, last []*Waiter // of each type; there are three at most
	for _, w := range line {
		same := func(o *Waiter) bool { return o.Takes == w.Takes }
		switch {
		case !w.AtServer:
		case w.state != standing:
			last = append(slices.DeleteFunc(last, same), w)
		case !slices.ContainsFunc(first, same):
			first = append(first, w)
		}
	}
	for _, w := range first {
		if b.mayBePlaced(w) {
			n = append(n, w.Nudge)
		}
	}
	for _, w := range last {
		if w.recalled && b.isLast(w) {
			n = append(n, w.Nudge)
		}
	}
	return n
}

// Wake has the first of those who wait for a key in the gateway ask for what is there.
func (b *Book) Wake(k slotlock.Key) { b.do(func() nudges { return b.wake(k, nil) }) }

// wake: of each type of value one, since it is not known which there is. If he asks already, he may have done so before
// the key was written to, and asks again; the next one is woken when he has left. Who is behind somebody on his way to a
// server is woken when that one has arrived, or has left.
func (b *Book) wake(k slotlock.Key, n nudges) nudges {
	var done []string // types
	for _, w := range b.lines[k] {
		if slices.Contains(done, w.Takes) || w.AtServer && w.state == settled && !w.recalled {
			continue
		}
		done = append(done, w.Takes)
		switch {
		case w.AtServer:
		case w.waits:
			w.waits, w.woken, w.by = false, true, k
			n = append(n, w.Nudge)
		case !w.woken: // else it has not begun
			w.again, w.by = true, k
		}
	}
	return n
}

// WokenBy is the key that w is to ask for first when Next, or Waits, said that it is to ask.
func (b *Book) WokenBy(w *Waiter) slotlock.Key {
	b.mu.Lock()
	defer b.mu.Unlock()
	return w.first
}

// Waits says that w, who waits in the gateway, has asked and found nothing. False: it has to ask again.
func (b *Book) Waits(w *Waiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.waits, w.again, w.first = !w.again, false, w.by
	return w.waits
}

// InGateway reports that somebody waits in the gateway to take such a value from one of the keys. Who comes after
// him does so as well, if he can: at a server it would be served before him.
func (b *Book) InGateway(keys []slotlock.Key, takes string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		if slices.ContainsFunc(b.lines[k], func(w *Waiter) bool { return !w.AtServer && w.Takes == takes }) {
			return true
		}
	}
	return false
}
