package line

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"keyferry/slotlock"
)

// world is two servers, clients that wait and that write, and messages that arrive when the
// seed says so. Those of one connection arrive in their order, others in any.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	book    *Book
	where   map[slotlock.Key]int // at which server a key is
	servers [2]struct {
		queue    map[slotlock.Key][]*popper
		elements map[slotlock.Key][]*push
	}
	clients []*popper
	links   []*link
	tasks   []func() // of loops and connections: any of them is next
	held    int
	moving  bool
	parked  []*popper
	trace   []string
}

// link is a connection, whose messages arrive in order.
type link struct{ messages []func() }

type popper struct {
	Waiter
	name    int
	closed  int // the moment in which its client closed; 0: open
	at      int // the server it is at, as its owner knows; -1: none
	out     *link
	back    *link
	waits   bool // at the server
	ended   bool
	told    bool // it has been told to be called off
	served  *push
	epoch   int
	leaving bool
	parked  bool // until its keys have moved
	asking  bool // in the gateway
}

type push struct {
	key    slotlock.Key
	of     string
	issued int // the moment in which it came to the gateway
}

func (w *world) log(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	for _, line := range w.trace {
		w.t.Log(line)
	}
	w.t.Fatalf(format, args...)
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), where: make(map[slotlock.Key]int)}
	w.book = New(func(fds []int) []bool {
		gone := make([]bool, len(fds))
		for i, fd := range fds {
			gone[i] = w.clients[fd].closed > 0
		}
		return gone
	})
	for i := range w.servers {
		w.servers[i].queue = make(map[slotlock.Key][]*popper)
		w.servers[i].elements = make(map[slotlock.Key][]*push)
	}
	return w
}

func (w *world) now() int { return len(w.trace) + 1 }

func (w *world) newLink() *link {
	l := &link{}
	w.links = append(w.links, l)
	return l
}

func (w *world) later(f func()) { w.tasks = append(w.tasks, f) }

var keys = []slotlock.Key{{Name: "a"}, {Name: "b"}, {Name: "c"}}

func (w *world) arrive() {
	x := &popper{name: len(w.clients), at: -1}
	for _, i := range w.rng.Perm(len(keys))[:1+w.rng.IntN(2)] {
		x.Keys = append(x.Keys, keys[i])
	}
	x.Takes = types[w.rng.IntN(len(types))]
	// Some pass on what they take from their one key, and so are at a server whoever is in front of them.
	passes := len(x.Keys) == 1 && w.rng.IntN(2) == 0
	x.AtServer, x.FD = passes || w.rng.IntN(4) > 0 && !w.book.InGateway(x.Keys, x.Takes), x.name
	x.Nudge = func() { w.later(func() { w.attend(x) }) }
	w.clients = append(w.clients, x)
	w.log("%d comes for %s in %v, at a server: %v", x.name, x.Takes, x.Keys, x.AtServer)
	w.book.Enter(&x.Waiter)
	if w.attend(x); !x.AtServer {
		w.ask(x, false)
	}
}

// types of values; each element is of one, and serves who takes that.
var types = []string{"list", "list", "set"}

// ask has one who waits in the gateway look at its keys, one after the other, the one that it was woken by
// first; each at its own moment.
func (w *world) ask(x *popper, woken bool) {
	x.asking = true
	order, by := slices.Clone(x.Keys), w.book.WokenBy(&x.Waiter)
	if woken {
		order = append([]slotlock.Key{by}, order...)
	}
	var next func()
	next = func() {
		switch {
		case x.ended:
			return
		case x.leaving:
			w.end(x)
			return
		case w.moving:
			w.later(next)
			return
		case len(order) == 0:
			if x.asking = false; !w.book.Waits(&x.Waiter) {
				w.ask(x, true)
			}
			return
		}
		k := order[0]
		order = order[1:]
		if p := w.take(&w.servers[w.where[k]].elements, k, x.Takes); p != nil {
			w.serve(x, p, woken && k == by)
			w.end(x)
			w.book.Wake(k)
			return
		}
		w.later(next)
	}
	w.later(next)
}

// take takes the first element of a type from a key.
func (w *world) take(elements *map[slotlock.Key][]*push, k slotlock.Key, takes string) *push {
	for i, p := range (*elements)[k] {
		if p.of == takes {
			(*elements)[k] = slices.Delete(slices.Clone((*elements)[k]), i, i+1)
			return p
		}
	}
	return nil
}

// attend is what the loop of a waiter does.
func (w *world) attend(x *popper) {
	switch w.book.Next(&x.Waiter) {
	case Place:
		w.place(x)
	case Recall:
		w.callOff(x)
	case Gone:
		w.teardown(x)
	case Ask:
		if !x.asking {
			w.ask(x, true)
		}
	}
}

// place: keys of a waiter are at one server, so that of the first is it.
func (w *world) place(x *popper) {
	if x.parked = w.moving; x.parked {
		w.parked = append(w.parked, x)
		return
	}
	x.epoch++
	x.at, x.told, x.out, x.back = w.where[x.Keys[0]], false, w.newLink(), w.newLink()
	w.log("%d is sent to %d", x.name, x.at)
	x.out.messages = append(x.out.messages, func() { w.read(x) })
}

// read is the server's: it serves the command at once, or lets it wait.
func (w *world) read(x *popper) {
	epoch := x.epoch
	x.back.messages = append(x.back.messages, func() {
		if x.epoch == epoch && !x.ended {
			w.book.Settled(&x.Waiter)
		}
	})
	s := &w.servers[x.at]
	for _, k := range x.Keys {
		if p := w.take(&s.elements, k, x.Takes); p != nil {
			w.serve(x, p, true)
			return
		}
	}
	x.waits = true
	w.log("%d waits at %d", x.name, x.at)
	for _, k := range x.Keys {
		s.queue[k] = append(s.queue[k], x)
	}
}

// unqueue takes a client out of the queues of its server.
func (w *world) unqueue(x *popper) {
	x.waits = false
	for _, k := range x.Keys {
		s := &w.servers[x.at]
		s.queue[k] = slices.DeleteFunc(s.queue[k], func(o *popper) bool { return o == x })
	}
}

// serve checks what the package is for.
//
// Not sure of the order is who asks in the gateway for what nobody has woken him for; and whoever asks, while those
// in front of him are on their way from server to server.
func (w *world) serve(x *popper, p *push, sure bool) {
	w.log("%d is served a push of %d", x.name, p.issued)
	if x.closed > 0 && x.closed < p.issued {
		w.fail("%d, which closed at %d, was given what was written at %d", x.name, x.closed, p.issued)
	}
	for _, o := range w.clients[:x.name] {
		if o.closed == 0 && o.served == nil && slices.Contains(o.Keys, p.key) && o.Takes == x.Takes && !o.asking && sure && (x.AtServer || !o.AtServer || o.waits) {
			w.fail("%d was served before %d", x.name, o.name)
		}
	}
	x.served = p
	if x.AtServer {
		x.back.messages = append(x.back.messages, func() { w.end(x) })
	}
}

func (w *world) end(x *popper) {
	if !x.ended {
		x.ended = true
		w.book.Leave(&x.Waiter)
	}
}

// callOff sends CLIENT UNBLOCK by another connection, again until the wait is over.
func (w *world) callOff(x *popper) {
	if x.parked {
		x.parked = false
		w.null(x)
		return
	}
	if x.told {
		return
	}
	x.told = true
	epoch := x.epoch
	var tell func()
	tell = func() {
		switch {
		case x.epoch != epoch || x.ended || x.served != nil:
		case !x.waits:
			w.later(tell)
		default:
			w.unqueue(x)
			w.log("%d is called off from %d", x.name, x.at)
			x.back.messages = append(x.back.messages, func() { w.null(x) })
		}
	}
	w.later(tell)
}

// null is the server's answer to a command that was called off.
func (w *world) null(x *popper) {
	if x.leaving {
		w.end(x)
		return
	}
	x.at, x.epoch = -1, x.epoch+1
	w.book.Stands(&x.Waiter)
	w.attend(x)
}

// teardown is what the loop does when it sees that the client has gone.
func (w *world) teardown(x *popper) {
	if x.leaving || x.ended {
		return
	}
	x.leaving = true
	w.book.Leaving(&x.Waiter)
	if x.asking { // what it is given is lost with it, as by a server
		return
	}
	if x.at < 0 { // it stands, or is parked
		w.end(x)
	} else {
		w.callOff(x)
	}
}

func (w *world) write() {
	w.try(&push{keys[w.rng.IntN(len(keys))], types[w.rng.IntN(len(types))], w.now()})
}

func (w *world) try(p *push) {
	w.held++
	if w.book.Hold([]slotlock.Key{p.key}, 1, func() { w.held--; w.later(func() { w.try(p) }) }) {
		w.log("the push of %d is held up", p.issued)
		return
	}
	w.held--
	w.log("the push of %d to %s is sent", p.issued, p.key.Name)
	w.newLink().messages = append(w.links[len(w.links)-1].messages, func() {
		s := &w.servers[w.where[p.key]]
		w.later(func() { w.book.Wake(p.key) }) // when it has been answered
		for _, x := range s.queue[p.key] {
			if x.Takes == p.of {
				w.unqueue(x)
				w.serve(x, p, true)
				return
			}
		}
		s.elements[p.key] = append(s.elements[p.key], p)
	})
}

// move begins to take all keys to the other server. Who waits at the old one is called off, each by its
// own loop; who is to be placed meanwhile is parked, until nobody waits at the old one.
func (w *world) move() {
	if w.moving {
		return
	}
	w.moving = true
	from := w.where[keys[0]]
	w.log("keys move from %d", from)
	for _, x := range w.clients {
		w.later(func() {
			if !x.ended && x.at == from {
				w.book.Recall(&x.Waiter)
			}
		})
	}
	w.later(w.drained)
}

func (w *world) drained() {
	from := w.where[keys[0]]
	if slices.ContainsFunc(w.clients, func(x *popper) bool { return !x.ended && x.at == from }) {
		w.later(w.drained)
		return
	}
	w.log("keys are at %d", 1-from)
	for _, k := range keys {
		w.servers[1-from].elements[k], w.servers[from].elements[k] = w.servers[from].elements[k], nil
		w.where[k] = 1 - from
	}
	w.moving = false
	parked := w.parked
	w.parked = nil
	for _, x := range parked {
		w.later(func() {
			if x.parked && !x.ended {
				w.place(x)
			}
		})
	}
}

// step lets one thing happen. False: nothing is under way.
func (w *world) step() bool {
	w.links = slices.DeleteFunc(w.links, func(l *link) bool {
		return len(l.messages) == 0 && !slices.ContainsFunc(w.clients, func(x *popper) bool { return !x.ended && (x.out == l || x.back == l) })
	})
	var ready []*link
	for _, l := range w.links {
		if len(l.messages) > 0 {
			ready = append(ready, l)
		}
	}
	n := len(w.tasks) + len(ready)
	if n == 0 {
		return false
	}
	i := w.rng.IntN(n)
	if i < len(w.tasks) {
		f := w.tasks[i]
		w.tasks = slices.Delete(w.tasks, i, i+1)
		f()
		return true
	}
	l := ready[i-len(w.tasks)]
	f := l.messages[0]
	l.messages = l.messages[1:]
	f()
	return true
}

// event is something new: clients come, go, write, and keys move.
func (w *world) event() {
	switch n := w.rng.IntN(20); {
	case n < 7:
		w.arrive()
	case n < 14:
		w.write()
	case n < 18 && len(w.clients) > 0:
		x := w.clients[w.rng.IntN(len(w.clients))]
		if x.closed == 0 && !x.ended {
			x.closed = w.now()
			w.log("%d closes", x.name)
			w.later(func() { w.teardown(x) })
		}
	default:
		w.move()
	}
}

// behind: somebody who came before it, for the same, waits in the gateway.
func (w *world) behind(x *popper) bool {
	return slices.ContainsFunc(w.clients[:x.name], func(o *popper) bool {
		return !o.ended && o.Takes == x.Takes && slices.ContainsFunc(o.Keys, func(k slotlock.Key) bool { return slices.Contains(x.Keys, k) }) && (!o.AtServer || w.behind(o))
	})
}

// TestExplore: whatever is under way when clients come and go and keys move, what is written goes
// to the first who waits and has not gone, and in the end nothing and nobody is left behind.
func TestExplore(t *testing.T) {
	for seed := range uint64(3000) {
		w := newWorld(t, seed)
		for range 40 {
			w.event()
			for n := w.rng.IntN(6); n > 0 && w.step(); n-- {
			}
		}
		for n := 0; w.step(); n++ {
			if n > 100000 {
				w.fail("seed %d: it never ends", seed)
			}
		}
		if w.held != 0 {
			w.fail("seed %d: %d writes are held up for ever", seed, w.held)
		}
		for _, x := range w.clients {
			switch {
			case x.closed > 0 && !x.ended:
				w.fail("seed %d: %d has gone and is in line", seed, x.name)
			case !x.ended && x.AtServer && (!x.waits || x.at != w.where[x.Keys[0]]) && !w.behind(x):
				w.fail("seed %d: %d waits at %d (%v)", seed, x.name, x.at, x.waits)
			case !x.ended:
				for _, k := range x.Keys {
					if p := w.take(&w.servers[w.where[k]].elements, k, x.Takes); p != nil {
						w.fail("seed %d: %d waits for %s, which has an element", seed, x.name, k.Name)
					}
				}
			}
		}
		waiting := slices.ContainsFunc(w.clients, func(x *popper) bool { return !x.ended })
		if !waiting && (w.book.Any() || len(w.book.lines) > 0) {
			w.fail("seed %d: lines are left", seed)
		}
	}
}
