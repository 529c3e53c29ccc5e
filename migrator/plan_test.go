package migrator

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"keyferry/internal/topology"
)

// threeGroups has slots at a and b, and c empty.
func threeGroups(t interface{ Fatal(...any) }) topology.State {
	st := topology.NewState("codis", 1024, 1)
	for _, id := range []string{"a", "b", "c"} {
		if err := st.AddGroup(topology.Group{ID: id, Endpoint: topology.Endpoint{Addr: id + ":1"}}); err != nil {
			t.Fatal(err)
		}
	}
	for i, id := range []string{"a", "b", "a"} {
		if err := st.AssignSlots(topology.Range{First: []int{0, 300, 900}[i], Last: []int{299, 899, 1023}[i]}, id); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

// TestRebalanceEmpties: a group of weight 0 gives every slot, by whatever measure, also where the
// shares of the others end in the middle of one.
func TestRebalanceEmpties(t *testing.T) {
	even := topology.NewState("redis", 16384, 1)
	for _, id := range []string{"old", "x", "y", "z"} {
		if err := even.AddGroup(topology.Group{ID: id, Endpoint: topology.Endpoint{Addr: id + ":1"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := even.AssignSlots(topology.Range{First: 0, Last: 16383}, "old"); err != nil {
		t.Fatal(err)
	}
	ops := make([]float64, 16384)
	ops[5], ops[16000] = 700, 3.3
	for name, load := range map[string]Load{
		"SLOTS":         {Group: map[string]int64{"old": 16384}},
		"KEYS":          {Group: map[string]int64{"old": 100_003}},
		"no keys":       {Group: map[string]int64{}},
		"OPS":           {Slot: ops},
		"OPS, nobody":   {Slot: make([]float64, 16384)},
		"odd weights":   {Group: map[string]int64{"old": 16384}, Weights: map[string]float64{"x": 0.3, "y": 7.7, "z": 1e-6}},
		"only one left": {Group: map[string]int64{"old": 16384}, Weights: map[string]float64{"x": 0, "y": 0}},
	} {
		if load.Weights == nil {
			load.Weights = map[string]float64{}
		}
		load.Weights["old"] = 0
		after := apply(t, even, Rebalance(even, load))
		for id, w := range load.Weights {
			if left := after.SlotsOf(id); w == 0 && len(left) > 0 {
				t.Errorf("%s: %s keeps %v", name, id, left)
			}
		}
	}
}

func TestRebalanceWeights(t *testing.T) {
	st := threeGroups(t)
	load := Load{Group: map[string]int64{"a": 424, "b": 600}, Weights: map[string]float64{"a": 0, "c": 3}}
	got := fmt.Sprint(Rebalance(st, load))
	// Of 1,024 b is to have a quarter and c the rest: a gives all, b 344.
	after := apply(t, st, Rebalance(st, load))
	for id, want := range map[string]int{"a": 0, "b": 256, "c": 768} {
		if n := topology.CountSlots(after.SlotsOf(id)); n != want {
			t.Errorf("%s has %d slots, want %d: %s", id, n, want, got)
		}
	}
}

// apply does at once what the plans say.
func apply(t interface{ Fatalf(string, ...any) }, st topology.State, plans []Plan) topology.State {
	owner := make([]string, st.SlotCount)
	for _, g := range st.Groups {
		for _, r := range st.SlotsOf(g.ID) {
			for s := r.First; s <= r.Last; s++ {
				owner[s] = g.ID
			}
		}
	}
	for _, p := range plans {
		for _, r := range p.Slots {
			for s := r.First; s <= r.Last; s++ {
				if owner[s] != p.Source {
					t.Fatalf("slot %d is planned from %s and is at %s", s, p.Source, owner[s])
				}
				owner[s] = p.Target
			}
		}
	}
	st.Slots = nil
	for s, id := range owner {
		if n := len(st.Slots); n > 0 && st.Slots[n-1].Group == id {
			st.Slots[n-1].Last = s
		} else {
			st.Slots = append(st.Slots, topology.Assignment{Range: topology.Range{First: s, Last: s}, Group: id})
		}
	}
	return st
}

// TestRebalanceBySlotLoads: with any loads of slots and any weights every slot moves at
// most once, from its owner, and each group comes as near to its share as the largest slot
// lets it, for each group that it gave to or took from.
func TestRebalanceBySlotLoads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := threeGroups(t)
		load := Load{Slot: make([]float64, st.SlotCount), Weights: map[string]float64{}}
		largest, total := 0.0, 0.0
		for i := range load.Slot {
			load.Slot[i] = float64(rapid.IntRange(0, 50).Draw(t, "load"))
		}
		load.Slot[rapid.IntRange(0, 1023).Draw(t, "hot")] = 2000
		for _, x := range load.Slot {
			largest, total = max(largest, x), total+x
		}
		sum := 0.0
		for _, g := range st.Groups {
			load.Weights[g.ID] = float64(rapid.IntRange(0, 4).Draw(t, "weight"))
			sum += load.Weights[g.ID]
		}
		plans := Rebalance(st, load)
		if sum == 0 {
			if len(plans) > 0 {
				t.Fatalf("nobody is to have anything, and %v", plans)
			}
			return
		}
		after := apply(t, st, plans)
		pairs := map[[2]string]bool{}
		for _, p := range plans {
			if pairs[[2]string{p.Source, p.Target}] {
				t.Fatalf("two plans from %s to %s: %v", p.Source, p.Target, plans)
			}
			pairs[[2]string{p.Source, p.Target}] = true
			for i, r := range p.Slots {
				if i > 0 && r.First <= p.Slots[i-1].Last+1 {
					t.Fatalf("ranges that overlap, touch or are not in order: %v", p.Slots)
				}
			}
		}
		for _, g := range after.Groups {
			if left := after.SlotsOf(g.ID); load.Weights[g.ID] == 0 && len(left) > 0 {
				t.Fatalf("%s is to have nothing, and keeps %v", g.ID, left)
			}
			have := 0.0
			for _, r := range after.SlotsOf(g.ID) {
				for s := r.First; s <= r.Last; s++ {
					have += load.Slot[s]
				}
			}
			if want := total * load.Weights[g.ID] / sum; math.Abs(have-want) > 2*largest+1 {
				t.Fatalf("%s has %v, its share is %v, the largest slot %v", g.ID, have, want, largest)
			}
		}
	})
}
