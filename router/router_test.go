package router

import (
	"fmt"
	"strings"
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

// TestDoors: clients of a cluster are told of the gateways that are part of it and don't drain, if all say
// where they are.
func TestDoors(t *testing.T) {
	st := topology.NewState("redis", 16384, 16)
	for _, x := range []struct {
		change func()
		want   string
	}{
		{func() { st.Admit(topology.Gateway{Name: "b", GatewayAddrs: topology.GatewayAddrs{Clients: "b:1"}}) }, "[]"},
		{func() { st.Admit(topology.Gateway{Name: "a", GatewayAddrs: topology.GatewayAddrs{Clients: "a:1"}}) }, "[a:1 b:1]"},
		{func() { _ = st.Drain("a") }, "[b:1]"},
		{func() { st.Admit(topology.Gateway{Name: "c"}) }, "[]"},
		{func() { st.Fence("c", 1) }, "[b:1]"},
		{func() { st.Admit(topology.Gateway{Name: "a", GatewayAddrs: topology.GatewayAddrs{Clients: "a:2"}}) }, "[a:2 b:1]"},
		{func() { st.Fence("a", 2) }, "[]"},
	} {
		x.change()
		table, err := Build(st.Topology, View{})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(table.Doors); got != x.want {
			t.Errorf("%+v: doors %s, want %s", st.Gateways, got, x.want)
		}
	}
}

// TestTableOfAPeer: the slots of another gateway's move go by it, whatever else the table says of them; a move
// that has turned round too.
func TestTableOfAPeer(t *testing.T) {
	st := topology.NewState("redis", 16384, 16)
	for i, id := range []string{"a", "b"} {
		if err := st.AddGroup(topology.Group{ID: id, Endpoint: topology.Endpoint{Addr: fmt.Sprint("127.0.0.1:", 1+i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.AssignSlots(topology.Range{First: 0, Last: 16383}, "a"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x", "y"} {
		st.Admit(topology.Gateway{Name: name, GatewayAddrs: topology.GatewayAddrs{Peers: name + ":7383"}})
	}
	st.Moves = []topology.Move{
		{Job: "m1", Slots: []topology.Range{{First: 0, Last: 9}}, Source: "a", Target: "b", From: 1, Owner: "x"},
		{Job: "m2", Slots: []topology.Range{{First: 10, Last: 19}}, Source: "a", Target: "b", From: 1, Owner: "y"},
		{Job: "m3", Slots: []topology.Range{{First: 20, Last: 29}}, Source: "a", Target: "b", From: 1, Owner: "y", Back: true, TurnedAt: 2},
	}
	secret := topology.NewSecret("secret")
	table, err := Build(st.Topology, View{Gateway: "x", Secret: secret, Locks: func(job string) (*slotlock.Table, *slotlock.Whole) {
		if job != "m1" {
			t.Errorf("asked for the lock table of %s, which is another's", job)
		}
		return slotlock.New(slotlock.Options{}), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		slot int
		want Slot
		out  Outcome
	}{{5, Slot{0, 1, -1, 0}, Resolve}, {15, Slot{0, 1, 2, -1}, Serve}, {25, Slot{1, 0, 2, -1}, Serve}, {35, Slot{0, -1, 0, -1}, Serve}} {
		if got := table.Slots[x.slot]; got != x.want || table.RouteSlot(x.slot) != x.out {
			t.Errorf("slot %d: %+v, %v; want %+v, %v", x.slot, got, table.RouteSlot(x.slot), x.want, x.out)
		}
	}
	if len(table.Peers) != 1 || table.Upstreams() != 3 || !table.IsPeer(2) || table.IsPeer(1) || !table.Moving() {
		t.Errorf("peers %+v of %d upstreams", table.Peers, table.Upstreams())
	}
	u := table.Upstream(2)
	if u.ID != "@y:1" || u.Endpoint.Addr != "y:7383" || u.Endpoint.Secret != secret || u.Peer == nil || fmt.Sprint(u.Peer.Ends) != "[0 1 1 0]" {
		t.Errorf("%+v", u)
	}
	for id, want := range map[string]int16{"a": 0, "b": 1, "@y:1": 2, "@y:2": -1, "@x:1": -1, "y": -1} {
		if got := table.UpstreamOf(id); got != want {
			t.Errorf("upstream of %s: %d, want %d", id, got, want)
		}
	}
	key := "k"
	for table.Scheme.Slot([]byte(key)) != 15 {
		key += "k"
	}
	x := table.Explain([][]byte{[]byte("GET"), []byte(key)})
	if why := fmt.Sprint(x.Why); x.Gateway != "y" || x.Group != "a" || x.Target != "b" || !strings.Contains(why, "under gateway y") {
		t.Errorf("explained as %+v", x)
	}
	if fmt.Sprint(table.Serving()) != "[0 1]" {
		t.Errorf("serving: %v", table.Serving())
	}
}
