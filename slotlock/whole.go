package slotlock

import (
	"sync"
	"sync/atomic"
)

// Whole is about the slots of a job that are moved in one piece: those in which scripts
// run. A script may use keys that it does not name, as long as they share its slot, so all
// of them have to be on one side whenever it runs. Such a slot is served at the source
// until it is closed; those who come then wait, for as long as the move of its keys takes;
// and afterwards it is served at the target.
//
//	Open ──► Closed ──► Moved
//	           └──────► PerKey   the move of the slot broke off: its keys are on both sides,
//	                             and Table decides about each
//
// It is safe for concurrent use and does no I/O.
type Whole struct {
	words   map[int]*atomic.Int64 // by slot: state and holds; the map never changes
	mu      sync.Mutex            // protects waiters
	waiters map[int]map[WholeWaiter]struct{}
}

// WholeWaiter is told when a slot that it waits for can be asked about again, and when one
// is closing, so that what blocks there can be called off. It must not block.
type WholeWaiter interface {
	WholeChanged(w *Whole, slot int)
}

// SlotState is the state of one slot of a Whole.
type SlotState uint8

// The states in which a slot can be. Only PerKey slots are Table's business.
const (
	PerKey SlotState = iota
	Open
	Closed
	Moved
)

const stateShift = 60

// NewWhole makes slots that are open.
func NewWhole(slots []int) *Whole {
	w := &Whole{words: make(map[int]*atomic.Int64, len(slots)), waiters: make(map[int]map[WholeWaiter]struct{})}
	for _, s := range slots {
		w.words[s] = &atomic.Int64{}
		w.words[s].Store(int64(Open) << stateShift)
	}
	return w
}

// State is a slot's state, and the number of commands that hold it at the source.
func (w *Whole) State(slot int) (SlotState, int64) {
	if w == nil || w.words[slot] == nil {
		return PerKey, 0
	}
	v := w.words[slot].Load()
	return SlotState(v >> stateShift), v & (1<<stateShift - 1)
}

// Enter decides about a command on a slot. Open: it holds the slot at the source and must
// Leave. Closed: it waits, and waiter is told when to ask again.
func (w *Whole) Enter(slot int, waiter WholeWaiter) SlotState {
	if w == nil || w.words[slot] == nil {
		return PerKey
	}
	for {
		v := w.words[slot].Load()
		switch st := SlotState(v >> stateShift); st {
		case Open:
			if w.words[slot].CompareAndSwap(v, v+1) {
				return Open
			}
		case Closed:
			if w.await(slot, waiter) {
				return Closed
			}
		default:
			return st
		}
	}
}

// await registers a waiter; false if the slot is no longer closed.
func (w *Whole) await(slot int, waiter WholeWaiter) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if st, _ := w.State(slot); st != Closed {
		return false
	}
	if w.waiters[slot] == nil {
		w.waiters[slot] = make(map[WholeWaiter]struct{})
	}
	w.waiters[slot][waiter] = struct{}{}
	return true
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
	for {
		v := w.words[slot].Load()
		if w.words[slot].CompareAndSwap(v, v&(1<<stateShift-1)|int64(st)<<stateShift) {
			break
		}
	}
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

// Slots are the slots that were given to NewWhole, in no order.
func (w *Whole) Slots() (out []int) {
	if w == nil {
		return nil
	}
	for s := range w.words {
		out = append(out, s)
	}
	return out
}
