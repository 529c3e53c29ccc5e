package topology

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSlotViews(t *testing.T) {
	st := NewState("codis", 1024, 16)
	must(t, st.AddGroup(Group{ID: "a", Endpoint: Endpoint{Addr: "h:1"}}))
	must(t, st.AddGroup(Group{ID: "b", Endpoint: Endpoint{Addr: "h:2"}}))
	must(t, st.AssignSlots(Range{0, 99}, "a"))
	must(t, st.AssignSlots(Range{100, 149}, "b"))
	forth := addJob(t, &st, "a", "b", Range{10, 19}, Range{30, 39})
	back := addJob(t, &st, "a", "b", Range{20, 29})
	put(t, &st, forth, Bulk, true)
	put(t, &st, back, Reverting, true)
	j := st.Job(back).Clone()
	j.Back = true
	must(t, st.PutJob(j))
	addJob(t, &st, "a", "b", Range{50, 59}) // not published: its slots are as they were

	moving := func(first, last int) SlotView {
		return SlotView{Range: Range{first, last}, State: Moving, Owner: "a", From: "a", To: "b", Job: forth}
	}
	want := []SlotView{
		{Range: Range{0, 9}, State: Stable, Owner: "a"},
		moving(10, 19),
		{Range: Range{20, 29}, State: Returning, Owner: "a", From: "b", To: "a", Job: back},
		moving(30, 39),
		{Range: Range{40, 99}, State: Stable, Owner: "a"},
		{Range: Range{100, 149}, State: Stable, Owner: "b"},
		{Range: Range{150, 1023}, State: Unassigned},
	}
	got := st.SlotViews()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("views: want (-), got (+):\n%s", d)
	}
	if n := st.SlotsMoving(); n != 30 {
		t.Errorf("%d slots move", n)
	}
	for _, v := range got {
		if v.Moves() && v.Other() != "b" {
			t.Errorf("slots %v: the other group is %q", v.Range, v.Other())
		}
		for slot := v.First; slot <= v.Last; slot++ {
			one := v
			one.Range = Range{slot, slot}
			if d := cmp.Diff(one, st.SlotView(slot)); d != "" {
				t.Errorf("slot %d alone: %s", slot, d)
			}
		}
	}
}

// Random topologies: the runs cover each slot once, no two neighbours could be one run, and each
// slot is what the assignment and the move that it is part of say.
func TestSlotViewsOfRandomTopologies(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		top := Topology{SlotCount: 64}
		want := make([]SlotView, top.SlotCount)
		for i := range want {
			want[i] = SlotView{Range: Range{i, i}, State: Unassigned}
		}
		var jobs []Move
		for i, first := 0, 0; first < top.SlotCount; i++ {
			last := min(first+r.IntN(12), top.SlotCount-1)
			owner, other := string('a'+rune(i%2)), string('a'+rune(1-i%2))
			if r.IntN(4) > 0 {
				top.Slots = append(top.Slots, Assignment{Range: Range{first, last}, Group: owner})
				for s := first; s <= last; s++ {
					want[s].State, want[s].Owner = Stable, owner
				}
				m := Move{Job: string('m' + rune(i)), Source: owner, Target: other, From: 1, Back: r.IntN(2) == 0}
				state, from, to := Moving, owner, other
				if m.Back {
					state, from, to = Returning, other, owner
				}
				for s := first; s <= last && r.IntN(3) > 0; s += 1 + r.IntN(3) {
					m.Slots = append(m.Slots, Range{s, s})
					want[s].State, want[s].From, want[s].To, want[s].Job = state, from, to, m.Job
				}
				if r.IntN(5) == 0 && len(m.Slots) > 0 {
					ended := m
					ended.Job, ended.To = ended.Job+"-ended", 2
					jobs = append(jobs, ended)
				}
				jobs = append(jobs, m)
			}
			first = last + 1
		}
		r.Shuffle(len(jobs), func(i, j int) { jobs[i], jobs[j] = jobs[j], jobs[i] })
		top.Moves = jobs

		views := top.SlotViews()
		slot := 0
		for i, v := range views {
			if v.First != slot || v.Last < v.First {
				t.Fatalf("seed %d: run %d is %v and not from %d", seed, i, v.Range, slot)
			}
			if i > 0 {
				before := views[i-1]
				if before.Range = v.Range; before == v {
					t.Fatalf("seed %d: runs %d and %d are one: %+v", seed, i-1, i, v)
				}
			}
			for ; slot <= v.Last; slot++ {
				v.Range = Range{slot, slot}
				if v != want[slot] || top.SlotView(slot) != want[slot] {
					t.Fatalf("seed %d: slot %d is %+v, alone %+v, want %+v", seed, slot, v, top.SlotView(slot), want[slot])
				}
				v.Last = views[i].Last
			}
		}
		if slot != top.SlotCount {
			t.Fatalf("seed %d: the runs end at %d", seed, slot)
		}
	}
}
