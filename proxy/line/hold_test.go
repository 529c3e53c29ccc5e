package line

import (
	"testing"

	"keyferry/slotlock"
)

// TestHoldLooksAtAllThatAWriteServes: one who has gone is found though he stands behind more than other writes may serve, if
// this one may serve him.
func TestHoldLooksAtAllThatAWriteServes(t *testing.T) {
	const waiters = others + 50
	for _, x := range []struct {
		gone, most int
		held       bool
	}{{0, 1, true}, {waiters - 1, waiters, true}, {waiters - 1, 1 << 30, true}, {others, 1, true}, {waiters - 1, 1, false}} {
		b := New(func(fds []int) []bool {
			gone := make([]bool, len(fds))
			for i, fd := range fds {
				gone[i] = fd == x.gone
			}
			return gone
		})
		keys := []slotlock.Key{{Name: "k"}}
		for i := range waiters {
			b.Enter(&Waiter{Keys: keys, AtServer: true, FD: i, Nudge: func() {}})
		}
		if held := b.Hold(keys, x.most, func() {}); held != x.held {
			t.Errorf("number %d of %d has gone, and a write that may serve %d is held up: %v", x.gone, waiters, x.most, held)
		}
	}
}

// TestDeferred: who is put off stands in nobody's way, and comes back to his place.
func TestDeferred(t *testing.T) {
	b := New(nil)
	keys := []slotlock.Key{{Name: "k"}}
	var w [2]*Waiter
	for i := range w {
		w[i] = &Waiter{Keys: keys, AtServer: true, Nudge: func() {}}
		b.Enter(w[i])
	}
	step := func(x int, want Action) {
		t.Helper()
		if got := b.Next(w[x]); got != want {
			t.Fatalf("%d is to do %v, want %v", x, got, want)
		}
	}
	step(0, Place)
	b.Settled(w[0])
	b.Defer(w[0])
	step(0, Nothing)
	step(1, Place)
	b.Settled(w[1])
	if b.Hold(keys, 1, func() {}) {
		t.Error("a write is held up for who was put off")
	}
	b.Retry(w[0])
	step(0, Nothing) // the other one would be in front of it
	step(1, Recall)
	if !b.Hold(keys, 1, func() {}) {
		t.Error("a write is not held up while the line is formed anew")
	}
	b.Stands(w[1])
	step(1, Nothing)
	step(0, Place)
	b.Settled(w[0])
	step(1, Place)
}
