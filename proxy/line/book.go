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
	Keys     []slotlock.Key
	AtServer bool // it is placed at a server; else it waits in the gateway
	FD       int  // of the client's connection
	// Nudge has the owner ask Next, soon. It is called by any goroutine, without the mutex.
	Nudge func()

	state     state
	recalled  bool        // its owner is to call it off, and has not said that it has
	displaced bool        // it has been called off, and not placed again
	gone      bool        // its client's connection was seen to have ended
	waits     bool        // in the gateway, and does not ask at present
	woken     bool        // it is to ask
	again     bool        // somebody was to ask while all did
	in        bool        // it is in the lines of its keys
	leaving   atomic.Bool // its client has gone or wants nothing more, and a server may not know yet
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
		w.woken = false
		return Ask
	case !w.AtServer || w.leaving.Load():
	case w.state == standing && b.mayBePlaced(w):
		w.state = placing
		return Place
	case w.state != standing && w.recalled && b.isLast(w):
		return Recall
	}
	return Nothing
}

// mayBePlaced: all in front of it are at a server, which has read their commands, and none behind
// it is: it would come to stand behind them.
func (b *Book) mayBePlaced(w *Waiter) bool {
	for _, k := range w.Keys {
		behind := false
		for _, o := range b.lines[k] {
			switch {
			case o == w:
				behind = true
			case !o.AtServer:
			case behind && o.state != standing, !behind && (o.state != settled || o.recalled):
				return false
			}
		}
	}
	return true
}

// isLast: nobody behind it is at a server. The last is called off first, so that those who are still
// there are always the first of the line: a write that is under way serves one of these.
func (b *Book) isLast(w *Waiter) bool {
	for _, k := range w.Keys {
		line := b.lines[k]
		for _, o := range line[slices.Index(line, w)+1:] {
			if o.AtServer && o.state != standing {
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
		return b.changed(w)
	})
}

// Recall says that w has to be called off, and so has whoever came after it. Next says when.
func (b *Book) Recall(w *Waiter) {
	b.do(func() (n nudges) {
		for todo := []*Waiter{w}; len(todo) > 0; todo = todo[1:] {
			w := todo[0]
			if !w.in || w.recalled || w.state == standing {
				continue
			}
			w.recalled, w.displaced = true, true
			n = append(n, w.Nudge)
			for _, k := range w.Keys {
				line := b.lines[k]
				todo = append(todo, line[slices.Index(line, w)+1:]...)
			}
		}
		return n
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

// ends nudges the two of a line who may go on: the first who is not at a server, if it may be placed,
// and the last who is, if it is to be called off. In a line only these two can.
func (b *Book) ends(line []*Waiter, n nudges) nudges {
	var first, last *Waiter
	for _, w := range line {
		switch {
		case !w.AtServer:
		case w.state != standing:
			last = w
		case first == nil:
			first = w
		}
	}
	if first != nil && b.mayBePlaced(first) {
		n = append(n, first.Nudge)
	}
	if last != nil && last.recalled && b.isLast(last) {
		n = append(n, last.Nudge)
	}
	return n
}

// Wake has the first of those who wait for a key in the gateway ask for what is there. If all of them ask
// already, any may have done so before the key was written to: then all ask again.
func (b *Book) Wake(k slotlock.Key) {
	b.do(func() nudges {
		for _, w := range b.lines[k] {
			if w.waits {
				w.waits, w.woken = false, true
				return nudges{w.Nudge}
			}
		}
		for _, w := range b.lines[k] {
			w.again = !w.AtServer
		}
		return nil
	})
}

// Waits says that w, who waits in the gateway, has asked and found nothing. False: it has to ask again.
func (b *Book) Waits(w *Waiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.waits, w.again = !w.again, false
	return w.waits
}

// InGateway reports that somebody waits for one of the keys in the gateway. Who comes after him does so
// as well: at a server it would be served before him.
func (b *Book) InGateway(keys []slotlock.Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		if slices.ContainsFunc(b.lines[k], func(w *Waiter) bool { return !w.AtServer }) {
			return true
		}
	}
	return false
}
