package proxy

import (
	"slices"
	"sync"
	"sync/atomic"

	"keyferry/internal/resp"
	"keyferry/internal/upstream"
	"keyferry/router"
	"keyferry/slotlock"
)

// Clients that wait for one of several keys (takeFirst) stand in the line of each. When a
// command of this gateway writes to such a key, the first in its line asks for it. What
// the gateway can't see, writes by scripts, transactions and whoever else there is, is found by
// looking whether the keys are there, every 20 ms; more rarely where they are many.

// waiters are the clients of a loop that wait for data.
//
// Who touches it: the loop's goroutine.
//
// Invariants: blocked has each blocking operation from when it is made until its end, pops
// each takeFirst; lines has a takeFirst under every key of its questions while it is inLine, in
// the order in which they came, and no empty line. The server's waitlist has this loop for
// exactly the keys of lines.
type waiters struct {
	blocked map[*blocking]struct{}
	pops    map[*takeFirst]struct{}
	lines   map[slotlock.Key][]*takeFirst
	probes  map[*upstream.Pipe]int // questions under way whether keys are there
	probeIn int                    // ticks until the next
}

func newWaiters() waiters {
	return waiters{blocked: make(map[*blocking]struct{}), pops: make(map[*takeFirst]struct{}),
		lines: make(map[slotlock.Key][]*takeFirst), probes: make(map[*upstream.Pipe]int)}
}

// enterWaitlist puts x in the lines of its keys.
//
// Once in line it stays so while it asks: its place is kept. The server's list is told when a
// line begins, so that all loops look there on each write.
//
// A write can slip between the last question and this. It is found by looking (checkWaitlist),
// within 20 ms.
func (l *loop) enterWaitlist(x *takeFirst) {
	if l.turns.wantTick.Store(true); x.inLine {
		return
	}
	x.inLine = true
	for _, q := range x.asks {
		for _, k := range q.keys {
			line := l.waiters.lines[k]
			if len(line) == 0 {
				l.srv.waits.list.add(k, l)
			}
			if !slices.Contains(line, x) { // else it names the key twice
				l.waiters.lines[k] = append(line, x)
			}
		}
	}
}

// leaveWaitlist is called by every end, in line or not.
func (l *loop) leaveWaitlist(x *takeFirst) {
	if !x.inLine {
		return
	}
	x.inLine = false
	for _, q := range x.asks {
		for _, k := range q.keys {
			line := slices.DeleteFunc(l.waiters.lines[k], func(o *takeFirst) bool { return o == x })
			if len(line) > 0 {
				l.waiters.lines[k] = line
			} else if _, was := l.waiters.lines[k]; was {
				delete(l.waiters.lines, k)
				l.srv.waits.list.remove(k, l)
			}
		}
	}
}

// available has the first in line for a key ask for it, of whatever loop he is.
//
// Only the first that does not ask yet: the others would find nothing, or take out of turn.
func (l *loop) available(k slotlock.Key) {
	if l.clients.pause == pauseNone { // whoever waits is served afterwards, as by Redis
		l.srv.waits.lines.Wake(k)
	}
}

// presenceMost is how many keys are looked at every 20 ms, and presenceRarely the most times that
// they are left out between two looks.
const (
	presenceMost   = 256
	presenceRarely = 50
)

// checkWaitlist ends the waits that are over and looks at the keys that are awaited. True:
// somebody still waits.
//
// One EXISTS asks for many keys and, if it says yes, one for each. While a slot moves its key
// may be at either end, so both are asked. The longer the list, the more rarely: about
// presenceMost keys are looked up each 20 ms, however many there are.
func (l *loop) checkWaitlist() bool {
	if len(l.waiters.pops) == 0 {
		return false
	}
	for x := range l.waiters.pops {
		// One that asks is ended by the answer: there may be data in it.
		if !x.asking() && x.late() {
			x.endEmpty()
		}
	}
	if l.waiters.probeIn--; l.waiters.probeIn > 0 || l.clients.pause != pauseNone {
		return true
	}
	l.waiters.probeIn = min(1+len(l.waiters.lines)/presenceMost, presenceRarely)
	at := make(map[presencePlace][]slotlock.Key)
	for k := range l.waiters.lines {
		slot := l.table.Scheme.Slot([]byte(k.Name))
		s := l.table.Slots[slot]
		switch l.table.RouteSlot(slot) {
		case router.Resolve:
			at[presencePlace{s.Target, k.DB}] = append(at[presencePlace{s.Target, k.DB}], k)
			at[presencePlace{s.Owner, k.DB}] = append(at[presencePlace{s.Owner, k.DB}], k)
		case router.Serve:
			at[presencePlace{s.Via, k.DB}] = append(at[presencePlace{s.Via, k.DB}], k)
		}
	}
	for a, keys := range at {
		p := l.pipe(a.group, a.db, 2)
		if l.waiters.probes[p] > 0 {
			continue // it has not answered the last time
		}
		for chunk := range slices.Chunk(keys, presenceMost) {
			l.askPresence(p, chunk)
		}
	}
	return true
}

// presencePlace is where keys are looked at.
type presencePlace struct {
	group int16
	db    int
}

// presence is one question whether any of some keys is there.
//
// Who touches it: the loop. While a pipe has not answered the last ones, no more are asked
// there (probes), so that a slow server is not made slower.
type presence struct {
	l    *loop
	p    *upstream.Pipe
	keys []slotlock.Key
	buf  []byte
}

// askPresence: not by a request: no client asks, nothing is counted as a command, and no key is held. It
// may be wrong by the time that it is used; the question that follows takes by itself what is
// there then.
func (l *loop) askPresence(p *upstream.Pipe, keys []slotlock.Key) {
	args := [][]byte{[]byte("EXISTS")}
	for _, k := range keys {
		args = append(args, []byte(k.Name))
	}
	l.waiters.probes[p]++
	p.Send(&presence{l: l, p: p, keys: keys}, resp.AppendRequest(nil, args...))
}

// Reply implements upstream.Call.
func (k *presence) Reply(b []byte, last bool) {
	k.buf = append(k.buf, b...)
	if !last {
		return
	}
	k.over()
	n, ok := resp.ParseInt(k.buf)
	switch {
	case !ok || n == 0:
	case len(k.keys) == 1:
		k.l.available(k.keys[0])
	default:
		for i := range k.keys {
			k.l.askPresence(k.p, k.keys[i:i+1])
		}
	}
}

// Fail implements upstream.Call. It is looked at again soon.
func (k *presence) Fail(error, bool) { k.over() }

func (k *presence) over() {
	if k.l.waiters.probes[k.p]--; k.l.waiters.probes[k.p] == 0 {
		delete(k.l.waiters.probes, k.p)
	}
}

// waitlist are the keys that clients of any loop wait for.
//
// Who touches it: every loop. n is read on the path of each write and so is an atomic; the
// lock is taken only when there is something in the list.
//
// Invariant: loops has those who have somebody in line for a key, and no empty list.
type waitlist struct {
	n     atomic.Int64 // of them; so that a write need not ask for more
	mu    sync.RWMutex // protects loops
	loops map[slotlock.Key][]*loop
}

// add: n follows under the lock, so that it is never 0 while the list has something.
func (a *waitlist) add(k slotlock.Key, l *loop) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.loops == nil {
		a.loops = make(map[slotlock.Key][]*loop)
	}
	a.loops[k] = append(a.loops[k], l)
	a.n.Store(int64(len(a.loops)))
}

func (a *waitlist) remove(k slotlock.Key, l *loop) {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := slices.DeleteFunc(a.loops[k], func(o *loop) bool { return o == l })
	if len(left) > 0 {
		a.loops[k] = left
	} else {
		delete(a.loops, k)
	}
	a.n.Store(int64(len(a.loops)))
}

// waker observes a write to keys that are awaited.
type waker struct {
	l    *loop
	keys []slotlock.Key
}

// wakeAfter has those woken who wait for one of the keys, when the request has been answered.
func (l *loop) wakeAfter(r *request, keys []slotlock.Key) {
	a := &l.srv.waits.list
	if a.n.Load() == 0 {
		return
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	var awaited []slotlock.Key
	for _, k := range keys {
		if len(a.loops[k]) > 0 {
			awaited = append(awaited, k)
		}
	}
	if len(awaited) > 0 {
		r.observe(&waker{l, awaited})
	}
}

// answered: who is woken hears of it by message: what that leads to must not run within a reply. An error
// of the write wakes as well, which costs a question.
func (w *waker) answered(*request, []byte) {
	for _, k := range w.keys {
		w.l.available(k)
	}
}

// failed does nothing: what the write has done all the same is found by looking.
func (w *waker) failed(*request, bool) {}
