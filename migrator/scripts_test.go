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

// TestCancelWhileAScriptWaits: a job that can't be cancelled as untouched, since a slot is being
// moved for a script, goes on to serve scripts in its other slots, and in that one.
func TestCancelWhileAScriptWaits(t *testing.T) {
	ctx := context.Background()
	f := newFerry(t, nil)
	f.stopServingScripts()
	slot, other := f.scheme.Slot([]byte("{q}")), f.scheme.Slot([]byte("{r}"))
	f.whole = slotlock.NewWhole([]int{slot, other}, func(int) bool { return false })
	f.drained = func(context.Context) error { return nil }
	f.settled = func(context.Context, string) error { return nil }
	src, dst := f.src.Client(), f.dst.Client()
	for i := range 50 {
		src.Set(ctx, fmt.Sprintf("{q}%d", i), "x", 0)
		src.Set(ctx, fmt.Sprintf("{r}%d", i), "x", 0)
	}
	<-f.fenced.done
	dst.Do(ctx, "CLIENT", "PAUSE", 600_000, "WRITE")
	f.serveScripts()
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

// TestScriptPatience: a slot is not closed for longer than its commands wait, ten times as long as for a
// key; and where they wait long, for no longer than a slot may take.
func TestScriptPatience(t *testing.T) {
	m := &mover{}
	if got := m.scriptPatience(); got != scriptPatience {
		t.Errorf("%v where nobody says how long commands wait", got)
	}
	for deadline, want := range map[time.Duration]time.Duration{100 * time.Millisecond: time.Second, 2 * time.Second: scriptPatience, time.Hour: scriptPatience} {
		m.deadline = func() time.Duration { return deadline }
		if got := m.scriptPatience(); got != want {
			t.Errorf("%v where commands wait %v for a key, want %v", got, deadline, want)
		}
	}
}

// TestScriptsAfterStop: who serves scripts and was stopped amid a slot serves it after all when it
// goes on.
func TestScriptsAfterStop(t *testing.T) {
	ctx := context.Background()
	f := newFerry(t, nil)
	f.stopServingScripts()
	slot := f.scheme.Slot([]byte("{q}"))
	f.whole = slotlock.NewWhole([]int{slot}, func(int) bool { return false })
	f.drained = func(context.Context) error { return nil }
	f.settled = func(context.Context, string) error { return nil }
	f.src.Client().Set(ctx, "{q}1", "x", 0)
	<-f.fenced.done
	f.dst.Client().Do(ctx, "CLIENT", "PAUSE", 600_000, "WRITE") // longer than stopGrace
	defer f.dst.Client().Do(ctx, "CLIENT", "UNPAUSE")
	f.serveScripts()
	if st := f.whole.Enter(slot, true, nobody{}); st != slotlock.Closed {
		t.Fatalf("%v for a script, not waited for", st)
	}
	f.stopServingScripts()
	if st := f.whole.Enter(slot, true, nobody{}); st != slotlock.PerKey {
		t.Fatalf("%v for a script when nobody serves it", st)
	}
	f.resumeServingScripts()
	if st := f.whole.Enter(slot, true, nobody{}); st != slotlock.Closed {
		t.Errorf("%v for a script after serving has been resumed", st)
	}
}
