package sim

import (
	"fmt"
	"slices"
	"time"

	"keyferry/proxy/parking"
	"keyferry/slotlock"
)

// loop is one event loop of the gateway. What proxy does around a Lot with sockets is done
// here with wires. A crash drops it: whatever a lock table still tells it is never read.
type loop struct {
	w     *World
	id    int
	lot   *parking.Lot
	table *table
	wires [2]*wire
	mail  []letter // from other goroutines, in the order in which they came
	armed bool
	open  int // offers, drains and questions that are not answered
}

// letter is a message to a loop; key is what a lock table says something about.
type letter struct {
	key  string
	read func()
}

// table is a routing table of the one slot. The tables of a run, in their order:
//
//	owner A ► owner A, target B ─┬───────────────────────► owner B
//	                             ├───────────────────────► owner A     cancelled
//	                             └► owner B, target A ───► owner A     reversed
type table struct {
	locks  *slotlock.Table // of its job; nil: it does not move
	owner  side
	target side
}

// Route implements parking.Table.
func (t *table) Route(slot int) (parking.Route, bool) {
	return parking.Route{Locks: t.locks, Slot: slot, Source: t.owner.String(), Target: t.target.String()}, t.locks != nil
}

// Has implements parking.Table.
func (t *table) Has(locks *slotlock.Table) bool { return t.locks == locks }

// deadline is how many steps a command waits for its keys.
const deadline = 40

// start makes the loops of a new incarnation, which route by t, and their clients. Few commands may
// be parked, so that the bound is met.
func (w *World) start(t *table) {
	w.up = true
	w.life++
	for i := range w.loops {
		l := &loop{w: w, id: i, table: t}
		l.lot = parking.New(l, parking.Limits{Commands: 4, Deadline: deadline * time.Second})
		if w.plant != nil {
			w.plant(l.lot)
		}
		w.loops[i] = l
	}
	for i := range w.clients {
		w.connect(i)
	}
}

func (l *loop) String() string {
	return fmt.Sprintf("loop %d: %d parked, mail %d, open %d", l.id, l.lot.Len(), len(l.mail), l.open)
}

// Wake implements slotlock.Waiter.
func (l *loop) Wake(t *slotlock.Table, k slotlock.Key, v slotlock.Verdict) {
	l.mail = append(l.mail, letter{k.Name, func() {
		l.w.say("loop %d hears of %s: %s", l.id, k.Name, v)
		l.w.met.parking.tooLate = l.w.met.parking.tooLate || v == slotlock.Source && !l.waitsFor(k)
		l.lot.Woken(t, k, v)
	}})
}

// waitsFor reports that commands of the loop wait for a key.
func (l *loop) waitsFor(key slotlock.Key) bool {
	for k := range l.lot.Queues() {
		if k == key {
			return true
		}
	}
	return false
}

// WholeChanged implements slotlock.WholeWaiter. No slot is moved in one piece here.
func (l *loop) WholeChanged(*slotlock.Whole, int) {}

// Arm implements parking.Loop.
func (l *loop) Arm() { l.armed = true }

// loopActs: a loop reads one message, or settles what it can at the end of a turn, or looks at the
// deadlines.
func (w *World) loopActs(add func(int, func())) {
	for _, l := range w.loops {
		if len(l.mail) > 0 {
			add(3, func() {
				m := l.mail[0]
				l.mail = l.mail[1:]
				m.read()
			})
		}
		if l.armed || l.open > 0 {
			add(2, func() {
				l.armed = false
				l.lot.Settle()
			})
		}
		if l.lot.Len() > 0 && !w.quiet && w.rng.IntN(4) == 0 {
			add(1, func() { l.lot.Expire(w.time()) })
		}
	}
}

// publish gives every loop a table, as proxy's Server.Apply. The runner goes on when all have
// adopted it, and begins to move keys when all are drained.
func (w *World) publish(t *table) {
	w.await = awaited{question: w.await.question + 1}
	question := w.await.question
	for _, l := range w.loops {
		l.mail = append(l.mail, letter{"", func() { w.offer(l, t, question) }})
	}
}

// offer is what a loop does with a table that it finds in its mail.
func (w *World) offer(l *loop, t *table, question int) {
	l.open++
	adopted, drained := false, false // by the time that Offer returns; later does not count
	l.lot.Offer(parking.Offer{Table: t, Adopt: func() (marks []parking.Mark) {
		w.say("loop %d routes by %v with %d parked", l.id, *t, l.lot.Len())
		adopted = true
		if t.locks != nil && !l.table.Has(t.locks) {
			marks = w.marks(l, t.owner)
		}
		w.met.parking.reversed = w.met.parking.reversed || l.lot.Len() > 0 && l.table.owner != t.owner && t.locks != nil
		l.table = t
		if w.await.question == question {
			w.await.adopted++
		}
		return marks
	}, Drained: func() {
		l.open--
		drained = true
		if w.await.question == question {
			w.await.drained++
		}
	}})
	w.met.parking.offered = w.met.parking.offered || !adopted
	w.met.parking.drained = w.met.parking.drained || adopted && !drained
}

// askSettled asks every loop whether what it had sent to a side has been answered, as proxy's
// Server.Settled. The question waits in the mail behind the wakes that were there before: who has
// been let in is sent before the loop looks.
func (w *World) askSettled(to side) {
	w.await = awaited{question: w.await.question + 1}
	question := w.await.question
	for _, l := range w.loops {
		l.mail = append(l.mail, letter{"", func() {
			l.open++
			l.lot.Await(w.marks(l, to), func() {
				l.open--
				if w.await.question == question {
					w.await.drained++
				}
			})
		}})
	}
}

// thaw lets those who wait for a frozen table ask again. In which order the table says so of
// several keys depends on its secrets, and is made the seed's here.
func (w *World) thaw() {
	var before [2]int
	for i, l := range w.loops {
		before[i] = len(l.mail)
	}
	w.locks.Thaw()
	for i, l := range w.loops {
		slices.SortStableFunc(l.mail[before[i]:], func(a, b letter) int {
			if a.key == b.key {
				return 0
			} else if a.key < b.key {
				return -1
			}
			return 1
		})
	}
}
