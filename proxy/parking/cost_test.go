package parking

import (
	"testing"

	"keyferry/slotlock"
)

// TestCostOfACommand: a command with one key that need not wait costs no allocation here; one
// is the lock table's, which keeps the name of a key that is held.
func TestCostOfACommand(t *testing.T) {
	r := newRig(false)
	r.say = nil // it would cost
	route, _ := r.table.Route(0)
	c := &command{rig: r, name: "c"}
	keys, frame := []slotlock.Key{key("k")}, []byte("c")
	source := testing.AllocsPerRun(1000, func() {
		c.Command = Command{Route: route, Request: c, Keys: keys}
		r.lot.Enter(&c.Command, frame, r.now)
		if !c.Holds() {
			t.Fatal("it holds nothing")
		}
		c.Release()
	})
	r.locks.SetMode(slotlock.AllTarget)
	target := testing.AllocsPerRun(1000, func() {
		c.Command = Command{Route: route, Request: c, Keys: keys}
		r.lot.Enter(&c.Command, frame, r.now)
		if c.at != slotlock.Target {
			t.Fatal(c.at)
		}
	})
	if source > 1 || target > 0 {
		t.Errorf("%v allocations at the source, %v at the target", source, target)
	}
}
