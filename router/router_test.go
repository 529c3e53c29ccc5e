package router

import (
	"fmt"
	"testing"

	"keyferry/internal/topology"
	"keyferry/slotlock"
)

// TestRouteSlot: with many groups, slots that move and slots of nobody.
func TestRouteSlot(t *testing.T) {
	const groups = 300
	st := topology.NewState("redis", 16384, 16)
	for i := range groups {
		if err := st.AddGroup(topology.Group{ID: fmt.Sprintf("g%03d", i), Endpoint: topology.Endpoint{Addr: fmt.Sprint("127.0.0.1:", 1000+i)}}); err != nil {
			t.Fatal(err)
		}
		if err := st.AssignSlots(topology.Range{First: 50 * i, Last: 50*i + 49}, fmt.Sprintf("g%03d", i)); err != nil {
			t.Fatal(err)
		}
	}
	st.Moves = []topology.Move{{Job: "m1", Slots: []topology.Range{{First: 0, Last: 9}}, Source: "g000", Target: "g001", From: 1}}
	table, err := Build(st.Topology, View{Locks: func(string) (*slotlock.Table, *slotlock.Whole) {
		return slotlock.New(slotlock.Options{}), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for slot := range table.Slots {
		want := Serve
		switch {
		case slot < 10:
			want = Resolve
		case slot >= 50*groups:
			want = Unserved
		}
		if got := table.RouteSlot(slot); got != want {
			t.Fatalf("slot %d: outcome %d, want %d", slot, got, want)
		}
		owner := int16(slot / 50)
		if slot >= 50*groups {
			owner = -1
		}
		if got := table.Slots[slot].Owner; got != owner {
			t.Fatalf("slot %d: owner %d, want %d", slot, got, owner)
		}
	}
}
