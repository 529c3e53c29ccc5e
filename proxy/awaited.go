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

// await puts x in the lines of its keys.
func (l *loop) await(x *takeFirst) {
	if l.wantTick.Store(true); x.inLine {
		return
	}
	x.inLine = true
	for _, q := range x.asks {
		for _, k := range q.keys {
			line := l.awaited[k]
			if len(line) == 0 {
				l.srv.awaited.add(k, l)
			}
			if !slices.Contains(line, x) { // else it names the key twice
				l.awaited[k] = append(line, x)
			}
		}
	}
}

func (l *loop) noLongerAwaited(x *takeFirst) {
	if !x.inLine {
		return
	}
	x.inLine = false
	for _, q := range x.asks {
		for _, k := range q.keys {
			line := slices.DeleteFunc(l.awaited[k], func(o *takeFirst) bool { return o == x })
			if len(line) > 0 {
				l.awaited[k] = line
			} else if _, was := l.awaited[k]; was {
				delete(l.awaited, k)
				l.srv.awaited.remove(k, l)
			}
		}
	}
}

// available has the first in line for a key ask for it; if all are asking already, again.
func (l *loop) available(k slotlock.Key) {
	if l.pause != pauseNone {
		return // whoever waits is served afterwards, as by Redis
	}
	for _, x := range l.awaited[k] {
		if !x.asking() {
			x.ask()
			return
		}
	}
	for _, x := range l.awaited[k] {
		x.again = true
	}
}

// lookMost is how many keys are looked at every 20 ms, and lookRarely the most times that
// they are left out between two looks.
const (
	lookMost   = 256
	lookRarely = 50
)

// lookAtAwaited ends the waits that are over and looks at the keys that are awaited. True:
// somebody still waits.
func (l *loop) lookAtAwaited() bool {
	if len(l.takers) == 0 {
		return false
	}
	for x := range l.takers {
		if !x.asking() && x.late() {
			x.endEmpty()
		}
	}
	if l.lookIn--; l.lookIn > 0 || l.pause != pauseNone {
		return true
	}
	l.lookIn = min(1+len(l.awaited)/lookMost, lookRarely)
	at := make(map[lookAt][]slotlock.Key)
	for k := range l.awaited {
		slot := l.table.Scheme.Slot([]byte(k.Name))
		s := l.table.Slots[slot]
		switch l.table.RouteSlot(slot) {
		case router.Resolve:
			at[lookAt{s.Target, k.DB}] = append(at[lookAt{s.Target, k.DB}], k)
			fallthrough
		case router.Serve:
			at[lookAt{s.Owner, k.DB}] = append(at[lookAt{s.Owner, k.DB}], k)
		}
	}
	for a, keys := range at {
		p := l.pipe(a.group, a.db, 2)
		if l.looks[p] > 0 {
			continue // it has not answered the last time
		}
		for chunk := range slices.Chunk(keys, lookMost) {
			l.look(p, chunk)
		}
	}
	return true
}

// lookAt is where keys are looked at.
type lookAt struct {
	group int16
	db    int
}

// look is one question whether any of some keys is there.
type look struct {
	l    *loop
	p    *upstream.Pipe
	keys []slotlock.Key
	buf  []byte
}

func (l *loop) look(p *upstream.Pipe, keys []slotlock.Key) {
	args := [][]byte{[]byte("EXISTS")}
	for _, k := range keys {
		args = append(args, []byte(k.Name))
	}
	l.looks[p]++
	p.Send(&look{l: l, p: p, keys: keys}, resp.AppendRequest(nil, args...))
}

// Reply implements upstream.Call.
func (k *look) Reply(b []byte, last bool) {
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
			k.l.look(k.p, k.keys[i:i+1])
		}
	}
}

// Fail implements upstream.Call. It is looked at again soon.
func (k *look) Fail(error, bool) { k.over() }

func (k *look) over() {
	if k.l.looks[k.p]--; k.l.looks[k.p] == 0 {
		delete(k.l.looks, k.p)
	}
}

// awaitedKeys are the keys that clients of any loop wait for.
type awaitedKeys struct {
	n     atomic.Int64 // of them; so that a write need not ask for more
	mu    sync.RWMutex // protects loops
	loops map[slotlock.Key][]*loop
}

func (a *awaitedKeys) add(k slotlock.Key, l *loop) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.loops == nil {
		a.loops = make(map[slotlock.Key][]*loop)
	}
	a.loops[k] = append(a.loops[k], l)
	a.n.Store(int64(len(a.loops)))
}

func (a *awaitedKeys) remove(k slotlock.Key, l *loop) {
	a.mu.Lock()
	defer a.mu.Unlock()
	// A new list: waker gives the old one out.
	left := slices.DeleteFunc(slices.Clone(a.loops[k]), func(o *loop) bool { return o == l })
	if len(left) > 0 {
		a.loops[k] = left
	} else {
		delete(a.loops, k)
	}
	a.n.Store(int64(len(a.loops)))
}

// waker observes a write to keys that are awaited.
type waker struct {
	keys  []slotlock.Key
	loops [][]*loop // who waits for each
}

// waker is nil for a write to other keys.
func (a *awaitedKeys) waker(db int, args [][]byte, keys []int) *waker {
	var w *waker
	a.mu.RLock()
	defer a.mu.RUnlock()
	for _, i := range keys {
		loops := a.loops[slotlock.Key{DB: db, Name: string(args[i])}]
		if len(loops) == 0 {
			continue
		}
		if w == nil {
			w = &waker{}
		}
		w.keys, w.loops = append(w.keys, slotlock.Key{DB: db, Name: string(args[i])}), append(w.loops, loops)
	}
	return w
}

func (w *waker) answered(*request, []byte) {
	for i, k := range w.keys {
		for _, l := range w.loops[i] {
			l.post(func() { l.available(k) })
		}
	}
}

// failed does nothing: what the write has done all the same is found by looking.
func (w *waker) failed(*request, bool) {}
