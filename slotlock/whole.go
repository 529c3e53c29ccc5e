package slotlock

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Whole is about the slots of a job that are moved in one piece: those in which scripts
// run. A script may use keys that it does not name, as long as they share its slot, so all
// of them have to be on one side whenever it runs. Such a slot is served at the source
// until it is closed; those who come then wait, for as long as the move of its keys takes;
// and afterwards it is served at the target.
//
//	Open ───────────► Closed ──► Moved
//	PerKey ──► Wanted ──┘ └────► PerKey   the move of the slot broke off: its keys are on
//	                                      both sides, and Table decides about each
//
// The job's other slots are PerKey. The first script that comes to one of them makes it
// Wanted and waits, while all else goes on there key by key, until the slot has been moved.
//
// It is safe for concurrent use and does no I/O.
type Whole struct {
	words []atomic.Int64 // by slot: state and holds
	slots []int
	bell  chan struct{} // capacity 1: wanted has gained a slot

	mu      sync.Mutex // protects what follows
	waiters map[int]map[WholeWaiter]struct{}
	wanted  []int        // not yet taken by TakeWanted
	refused map[int]bool // slots that no script can make Wanted
	deaf    bool         // … and so all
}

// WholeWaiter is told when a slot that it waits for can be asked about again, and when one
// is closing, so that what blocks there can be called off. It must not block.
type WholeWaiter interface {
	WholeChanged(w *Whole, slot int)
}

// SlotState is the state of one slot of a Whole.
type SlotState uint8

// The states in which a slot can be. PerKey slots are Table's business, and Wanted ones
// but for scripts.
const (
	PerKey SlotState = iota
	Open
	Closed
	Moved
	Wanted
)

const stateShift = 60

// NewWhole makes slots that are open, or PerKey if that says no.
func NewWhole(slots []int, open func(slot int) bool) *Whole {
	w := &Whole{slots: slots, bell: make(chan struct{}, 1), waiters: make(map[int]map[WholeWaiter]struct{}), refused: make(map[int]bool)}
	if len(slots) > 0 {
		w.words = make([]atomic.Int64, slices.Max(slots)+1)
	}
	for _, s := range slots {
		if open(s) {
			w.words[s].Store(int64(Open) << stateShift)
		}
	}
	return w
}

// State is a slot's state, and the number of commands that hold it at the source.
func (w *Whole) State(slot int) (SlotState, int64) {
	if w == nil || slot >= len(w.words) {
		return PerKey, 0
	}
	v := w.words[slot].Load()
	return SlotState(v >> stateShift), v & (1<<stateShift - 1)
}

// Enter decides about a command on a slot. Open: it holds the slot at the source and must
// Leave. Closed: it waits, and waiter is told when to ask again. unnamed: it may use keys that
// it does not name.
func (w *Whole) Enter(slot int, unnamed bool, waiter WholeWaiter) SlotState {
	if w == nil || slot >= len(w.words) {
		return PerKey
	}
	for {
		v := w.words[slot].Load()
		switch st := SlotState(v >> stateShift); st {
		case Open:
			if w.words[slot].CompareAndSwap(v, v+1) { // the state is in the same word: still open
				return Open
			}
		case Closed:
			if w.await(slot, waiter, Closed) {
				return Closed
			}
		case PerKey, Wanted:
			if !unnamed {
				return PerKey
			}
			if st == PerKey && !w.want(slot) {
				return PerKey
			}
			if w.await(slot, waiter, Wanted) {
				return Closed
			}
		default:
			return st
		}
	}
}

// want makes a slot Wanted; false if that can't be. Another may have been faster.
func (w *Whole) want(slot int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if st, _ := w.State(slot); st != PerKey {
		return true
	}
	if w.deaf || w.refused[slot] {
		return false
	}
	w.store(slot, Wanted)
	w.wanted = append(w.wanted, slot)
	select {
	case w.bell <- struct{}{}:
	default:
	}
	return true
}

// await registers a waiter; false if the slot is in that state no longer. Set changes the state
// under mu and wakes who is registered: so a waiter is either told or turned away here.
func (w *Whole) await(slot int, waiter WholeWaiter, in SlotState) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if st, _ := w.State(slot); st != in {
		return false
	}
	if w.waiters[slot] == nil {
		w.waiters[slot] = make(map[WholeWaiter]struct{})
	}
	w.waiters[slot][waiter] = struct{}{}
	return true
}

// Wanted is signalled when TakeWanted has something to give.
func (w *Whole) Wanted() <-chan struct{} { return w.bell }

// TakeWanted hands over the slots that scripts wait for. Each must become Closed and Moved,
// or be refused.
func (w *Whole) TakeWanted() []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.wanted
	w.wanted = nil
	return out
}

// Refuse leaves a slot to Table for good: scripts run there key by key as well.
func (w *Whole) Refuse(slot int) {
	w.mu.Lock()
	w.refused[slot] = true
	w.mu.Unlock()
	w.Set(slot, PerKey)
}

// Deafen ends the making of Wanted slots; those that are go back to PerKey. Who has taken
// some must have given them up before.
func (w *Whole) Deafen() {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.deaf = true
	w.mu.Unlock()
	for _, s := range w.slots {
		if st, _ := w.State(s); st == Wanted {
			w.Set(s, PerKey)
		}
	}
}

// Listen undoes Deafen.
func (w *Whole) Listen() {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.deaf = false
	w.mu.Unlock()
}

// Leave gives a hold of Enter back.
func (w *Whole) Leave(slot int) {
	if n := w.words[slot].Add(-1); n&(1<<stateShift-1) == 1<<stateShift-1 {
		panic("slotlock: Leave of a slot that is not held")
	}
}

// Set changes a slot's state and wakes who waits for it.
func (w *Whole) Set(slot int, st SlotState) {
	w.mu.Lock()
	w.store(slot, st)
	waiters := w.waiters[slot]
	if st != Closed {
		delete(w.waiters, slot)
	}
	w.mu.Unlock()
	if st != Closed {
		for x := range waiters {
			x.WholeChanged(w, slot)
		}
	}
}

// store changes the state and leaves the holds. mu is held.
func (w *Whole) store(slot int, st SlotState) {
	for {
		v := w.words[slot].Load()
		if w.words[slot].CompareAndSwap(v, v&(1<<stateShift-1)|int64(st)<<stateShift) {
			return
		}
	}
}

// Slots are the slots that were given to NewWhole.
func (w *Whole) Slots() []int {
	if w == nil {
		return nil
	}
	return w.slots
}
