package migrator

import (
	"context"
	"fmt"
	"testing"
	"time"

	"keyferry/slotlock"
)

type nobody struct{}

func (nobody) WholeChanged(*slotlock.Whole, int) {}

// TestCancelDuringDemand: a job that can't be cancelled as untouched, since a slot is being
// moved for a script, goes on to serve scripts in its other slots, and in that one.
func TestCancelDuringDemand(t *testing.T) {
	ctx := context.Background()
	f := newFerry(t, nil)
	f.stopDemands()
	slot, other := f.scheme.Slot([]byte("{q}")), f.scheme.Slot([]byte("{r}"))
	f.whole = slotlock.NewWhole([]int{slot, other}, func(int) bool { return false })
	f.drained = func(context.Context) error { return nil }
	f.settled = func(context.Context, string) error { return nil }
	src, dst := f.src.Client(), f.dst.Client()
	for i := range 50 {
		src.Set(ctx, fmt.Sprintf("{q}%d", i), "x", 0)
		src.Set(ctx, fmt.Sprintf("{r}%d", i), "x", 0)
	}
	<-f.ready
	dst.Do(ctx, "CLIENT", "PAUSE", 600_000, "WRITE")
	f.startDemands()
	r := &runner{locks: f.locks, mover: f.mover, complete: true}
	for i, s := range []int{slot, other} {
		if st := f.whole.Enter(s, true, nobody{}); st != slotlock.Closed {
			t.Fatalf("slot %d is %v for a script, not waited for", s, st)
		}
		if r.holdUntouched() {
			t.Fatal("a slot is being moved, and the job is taken for untouched")
		}
		if i == 0 {
			dst.Do(ctx, "CLIENT", "UNPAUSE")
		}
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if st, _ := f.whole.State(s); st == slotlock.Moved {
				break
			} else if st == slotlock.PerKey || time.Now().After(end) {
				t.Fatalf("slot %d is %v, not moved in one piece", s, st)
			}
		}
	}
}

// TestDemandsAfterStop: demands that have been stopped amid a slot serve it after all when they
// are resumed.
func TestDemandsAfterStop(t *testing.T) {
	ctx := context.Background()
	f := newFerry(t, nil)
	f.stopDemands()
	slot := f.scheme.Slot([]byte("{q}"))
	f.whole = slotlock.NewWhole([]int{slot}, func(int) bool { return false })
	f.drained = func(context.Context) error { return nil }
	f.settled = func(context.Context, string) error { return nil }
	f.src.Client().Set(ctx, "{q}1", "x", 0)
	<-f.ready
	f.dst.Client().Do(ctx, "CLIENT", "PAUSE", 600_000, "WRITE") // longer than stopGrace
	defer f.dst.Client().Do(ctx, "CLIENT", "UNPAUSE")
	f.startDemands()
	if st := f.whole.Enter(slot, true, nobody{}); st != slotlock.Closed {
		t.Fatalf("%v for a script, not waited for", st)
	}
	f.stopDemands()
	if st := f.whole.Enter(slot, true, nobody{}); st != slotlock.PerKey {
		t.Fatalf("%v for a script when nobody serves it", st)
	}
	f.resumeDemands()
	if st := f.whole.Enter(slot, true, nobody{}); st != slotlock.Closed {
		t.Errorf("%v for a script after demands have been resumed", st)
	}
}
