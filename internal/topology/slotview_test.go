package topology

import (
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
