package slotlock

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

type bellWaiter struct{ rung chan int }

func (b *bellWaiter) WholeChanged(_ *Whole, slot int) { b.rung <- slot }

func open(int) bool   { return true }
func closed(int) bool { return false }

func TestWhole(t *testing.T) {
	w := NewWhole([]int{7}, open)
	b := &bellWaiter{make(chan int, 4)}
	if st := w.Enter(8, false, b); st != PerKey {
		t.Errorf("a slot that is not in it: %d", st)
	}
	if st := w.Enter(7, false, b); st != Open {
		t.Errorf("open: %d", st)
	}
	w.Set(7, Closed)
	if st, n := w.State(7); st != Closed || n != 1 {
		t.Errorf("closed with one inside: %d %d", st, n)
	}
	if st := w.Enter(7, false, b); st != Closed {
		t.Errorf("closed: %d", st)
	}
	w.Leave(7)
	w.Set(7, Moved)
	if slot := <-b.rung; slot != 7 {
		t.Errorf("woken for %d", slot)
	}
	if st := w.Enter(7, false, b); st != Moved {
		t.Errorf("moved: %d", st)
	}
	if st := (*Whole)(nil).Enter(7, false, b); st != PerKey {
		t.Errorf("nil: %d", st)
	}
}

// TestWholeHolds: nobody is inside once the slot has been closed and the holds are gone.
func TestWholeHolds(t *testing.T) {
	w := NewWhole([]int{1}, open)
	var inside, after atomic.Int64
	var closed atomic.Bool
	var wg sync.WaitGroup
	b := &bellWaiter{make(chan int, 1000)}
	for range 8 {
		wg.Go(func() {
			for range 10000 {
				if w.Enter(1, false, b) != Open {
					return
				}
				inside.Add(1)
				if closed.Load() {
					after.Add(1)
				}
				inside.Add(-1)
				w.Leave(1)
			}
		})
	}
	w.Set(1, Closed)
	for {
		if _, n := w.State(1); n == 0 {
			break
		}
	}
	closed.Store(true)
	wg.Wait()
	if after.Load() > 0 || inside.Load() != 0 {
		t.Errorf("%d came in after the slot was closed and empty", after.Load())
	}
}

// TestWanted: the first script in a slot waits until the slot has been moved, while others
// go on; one that comes to a refused slot goes on as well.
func TestWanted(t *testing.T) {
	w := NewWhole([]int{3, 5, 9}, closed)
	b := &bellWaiter{make(chan int, 4)}
	enter := func(slot int, unnamed bool, want SlotState) {
		t.Helper()
		if st := w.Enter(slot, unnamed, b); st != want {
			t.Errorf("slot %d, unnamed: %v: %d, want %d", slot, unnamed, st, want)
		}
	}
	taken := func(want ...int) {
		t.Helper()
		if got := w.TakeWanted(); !slices.Equal(got, want) {
			t.Errorf("wanted: %v, want %v", got, want)
		}
	}
	enter(3, false, PerKey)
	taken()
	enter(3, true, Closed)
	enter(3, true, Closed)
	enter(5, true, Closed)
	enter(3, false, PerKey)
	<-w.Wanted()
	taken(3, 5)
	w.Set(3, Closed)
	enter(3, false, Closed)
	w.Set(3, Moved)
	if slot := <-b.rung; slot != 3 {
		t.Errorf("woken for %d", slot)
	}
	enter(3, true, Moved)
	w.Refuse(5)
	if slot := <-b.rung; slot != 5 {
		t.Errorf("woken for %d", slot)
	}
	enter(5, true, PerKey)
	enter(9, true, Closed)
	w.Deafen()
	if slot := <-b.rung; slot != 9 {
		t.Errorf("woken for %d", slot)
	}
	enter(9, true, PerKey)
	enter(3, true, Moved)
}
