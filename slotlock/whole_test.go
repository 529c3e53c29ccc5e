package slotlock

import (
	"sync"
	"sync/atomic"
	"testing"
)

type bellWaiter struct{ rung chan int }

func (b *bellWaiter) WholeChanged(_ *Whole, slot int) { b.rung <- slot }

func TestWhole(t *testing.T) {
	w := NewWhole([]int{7})
	b := &bellWaiter{make(chan int, 4)}
	if st := w.Enter(8, b); st != PerKey {
		t.Errorf("a slot that is not in it: %d", st)
	}
	if st := w.Enter(7, b); st != Open {
		t.Errorf("open: %d", st)
	}
	w.Set(7, Closed)
	if st, n := w.State(7); st != Closed || n != 1 {
		t.Errorf("closed with one inside: %d %d", st, n)
	}
	if st := w.Enter(7, b); st != Closed {
		t.Errorf("closed: %d", st)
	}
	w.Leave(7)
	w.Set(7, Moved)
	if slot := <-b.rung; slot != 7 {
		t.Errorf("woken for %d", slot)
	}
	if st := w.Enter(7, b); st != Moved {
		t.Errorf("moved: %d", st)
	}
	if st := (*Whole)(nil).Enter(7, b); st != PerKey {
		t.Errorf("nil: %d", st)
	}
}

// TestWholeHolds: nobody is inside once the slot has been closed and the holds are gone.
func TestWholeHolds(t *testing.T) {
	w := NewWhole([]int{1})
	var inside, after atomic.Int64
	var closed atomic.Bool
	var wg sync.WaitGroup
	b := &bellWaiter{make(chan int, 1000)}
	for range 8 {
		wg.Go(func() {
			for range 10000 {
				if w.Enter(1, b) != Open {
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
