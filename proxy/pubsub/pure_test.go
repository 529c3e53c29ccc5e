package pubsub

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"keyferry/internal/topology"
	"keyferry/router"
	"keyferry/slotlock"
)

func TestMatch(t *testing.T) {
	for _, x := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"a*", "abc", true}, {"a*c", "abd", false}, {"a**c", "abbc", true}, {"*.*", "a.b", true},
		{"h?llo", "hello", true}, {"h?llo", "hllo", false}, {"h[ae]llo", "hallo", true}, {"h[^e]llo", "hello", false}, {"h[a-c]llo", "hbllo", true},
		{"h[c-a]llo", "hbllo", true}, {`h\?llo`, "h?llo", true}, {`h\?llo`, "hello", false}, {`[\]]`, "]", true}, {"[a", "a", true}, {"a*b*c*d", "abcabcd", true},
		{"*a*a*a*a*a*a*a*a*a*a*b", string(make([]byte, 10000)), false},
	} {
		if got := Match(x.pattern, x.name); got != x.want {
			t.Errorf("%q of %.20q: %v", x.pattern, x.name, got)
		}
	}
}

// TestGroupOf: channels spread evenly, the order of the groups does not matter, and a group that
// goes moves no channel but its own.
func TestGroupOf(t *testing.T) {
	if GroupOf(nil, []byte("ch")) != -1 {
		t.Error("there is no group")
	}
	groups := []router.Group{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "d"}}
	turned := []router.Group{{ID: "d"}, {ID: "c"}, {ID: "b"}, {ID: "a"}}
	n := make(map[string]int)
	const channels = 4000
	for i := range channels {
		name := fmt.Append(nil, "ch", i)
		id := groups[GroupOf(groups, name)].ID
		n[id]++
		if other := turned[GroupOf(turned, name)].ID; other != id {
			t.Fatalf("%s: %s and %s", name, id, other)
		}
		if less := groups[GroupOf(groups[:3], name)].ID; id != "d" && less != id {
			t.Fatalf("%s went from %s to %s though %s is still there", name, id, less, id)
		}
	}
	for id, k := range n {
		if k < channels/4*8/10 || k > channels/4*12/10 {
			t.Errorf("%s has %d channels of %d", id, k, channels)
		}
	}
}

func TestListeners(t *testing.T) {
	var x Listeners[int]
	a, p := Key{Exact, "ch"}, Key{Pattern, "ch"}
	x.Remove(a, 1)
	for range 2 {
		x.Add(a, 1)
	}
	x.Add(a, 2)
	x.Add(p, 3)
	if got := slices.Sorted(maps.Keys(x.Of(a))); !slices.Equal(got, []int{1, 2}) {
		t.Error(got)
	}
	for who := range x.Of(a) { // as a client that is closed by a message
		x.Remove(a, who)
	}
	if len(x.Of(a)) != 0 || len(x.Of(p)) != 1 || len(x.of) != 1 {
		t.Errorf("%v", x.of)
	}
}

// TestReaders compares with a list of pairs, and holds both maps to each other.
func TestReaders(t *testing.T) {
	const keysMax = 6
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	type pair struct {
		key string
		who int
	}
	x := NewReaders[int](keysMax)
	want, tracks := make(map[pair]bool), make(map[int]bool)
	changed := func(key string) {
		got := slices.Sorted(maps.Keys(x.Changed(key)))
		var list []int
		for p := range want {
			if p.key == key {
				list = append(list, p.who)
				delete(want, p)
			}
		}
		slices.Sort(list)
		if !slices.Equal(got, list) {
			t.Fatalf("readers of %s: %v, want %v", key, got, list)
		}
	}
	full := 0
	for range 20000 {
		key, who := fmt.Sprint("k", rnd.IntN(10)), rnd.IntN(4)
		switch n := rnd.IntN(100); {
		case n < 60:
			for {
				other, yes := x.Remember(key, who)
				if !yes {
					break
				}
				if full++; other == key {
					t.Fatal("a key is to make room for itself")
				}
				changed(other)
			}
			if tracks[who] {
				want[pair{key, who}] = true
			}
		case n < 80:
			changed(key)
		case n < 90:
			x.Track(who)
			tracks[who] = true
		case n < 98:
			x.Untrack(who)
			delete(tracks, who)
			maps.DeleteFunc(want, func(p pair, _ bool) bool { return p.who == who })
		default:
			x.Forget()
			clear(want)
		}
		keys, readers := x.Counts()
		if keys > keysMax || readers != len(want) || len(x.All()) != len(tracks) {
			t.Fatalf("%d keys, %d readers, %d clients; want %d readers, %d clients", keys, readers, len(x.All()), len(want), len(tracks))
		}
		for p := range want {
			if _, has := x.byKey[p.key][p.who]; !has {
				t.Fatalf("%v is forgotten by key", p)
			}
			if _, has := x.byClient[p.who][p.key]; !has {
				t.Fatalf("%v is forgotten by client", p)
			}
		}
	}
	if full == 0 {
		t.Error("there always was room")
	}
}

// TestMoves: what a move does is told apart from what clients do, while it runs and shortly after.
func TestMoves(t *testing.T) {
	build := func(locks *slotlock.Table) *router.Table {
		st := topology.NewState("redis", 16384, 16)
		for _, id := range []string{"src", "dst"} {
			if err := st.AddGroup(topology.Group{ID: id, Endpoint: topology.Endpoint{Addr: id + ":1"}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := st.AssignSlots(topology.Range{First: 0, Last: 16383}, "src"); err != nil {
			t.Fatal(err)
		}
		if locks != nil {
			st.Moves = []topology.Move{{Job: "m1", Source: "src", Target: "dst", Slots: []topology.Range{{First: 0, Last: 16383}}, From: 1}}
		}
		table, err := router.Build(st.Topology, router.View{Locks: func(string) (*slotlock.Table, *slotlock.Whole) { return locks, nil }})
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	locks := slotlock.New(slotlock.Options{})
	stable, moving := build(nil), build(locks)
	x := NewMoves(stable)
	of := func(group, channel, payload string) bool { return x.Of(group, []byte(channel), []byte(payload)) }
	const keyspace, keyevent = "__keyspace@3__:moved", "__keyevent@3__:"
	if of("src", keyspace, "del") || of("src", "news", "del") {
		t.Error("no slot moves")
	}
	if !of("dst", keyspace, "del") {
		t.Error("a key is left over where no client's command runs")
	}
	if !of("src", keyevent+"set", router.ReservedPrefix+"x") {
		t.Error("the gateway's own keys are shown")
	}
	now := time.Now()
	x.Follow(moving, now)
	locks.Handle(slotlock.Key{DB: 3, Name: "moved"})
	for _, c := range []struct {
		group, channel, payload string
		want                    bool
	}{
		{"src", keyspace, "del", true}, {"src", keyevent + "del", "moved", true}, {"dst", keyspace, "restore", true},
		{"src", keyspace, "restore", false}, {"dst", keyspace, "set", false}, {"src", "__keyspace@3__:other", "del", false}, {"src", "__keyspace@2__:moved", "del", false},
		{"src", "__keyspace@x__:moved", "del", false}, {"src", "__keyspace@3", "del", false},
	} {
		if got := of(c.group, c.channel, c.payload); got != c.want {
			t.Errorf("%s of %s at %s: %v", c.payload, c.channel, c.group, got)
		}
	}
	x.Follow(stable, now) // it was called off: its last RESTORE may come late
	if !of("src", keyspace, "restore") || of("src", "__keyspace@3__:other", "restore") {
		t.Error("what an ended move did is not remembered, or too much is")
	}
	for range 2 * endedMovesMax {
		x.Follow(moving, now)
		x.Follow(stable, now)
	}
	if n := len(x.ended); n != endedMovesMax {
		t.Errorf("%d ended moves are remembered", n)
	}
	if x.Follow(stable, now.Add(endedMoveFor)); len(x.ended) != 0 {
		t.Errorf("%d ended moves are remembered for ever", len(x.ended))
	}
}
