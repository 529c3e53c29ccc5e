package topology

import (
	"slices"
	"testing"
)

// after is the State that a change makes of s, as Update would.
func after(s State, change func(*State) error) State {
	next := s.Clone()
	if err := change(&next); err != nil {
		panic(err)
	}
	next.follow(&s)
	return next
}

// TestBirths: a State knows its own births and those from before what it remembers, and none of a copy of it
// that went on by itself, whichever number that has come to.
func TestBirths(t *testing.T) {
	first := NewState("codis", 1024, 16)
	first.follow(&State{})
	restart := func(s *State) error {
		if len(s.Gateways) == 0 {
			s.Gateways = []Gateway{{Name: "g"}}
		}
		s.Gateways[0].Incarnation++
		return nil
	}
	group := func(id string) func(*State) error {
		return func(s *State) error { return s.AddGroup(Group{ID: id, Endpoint: Endpoint{Addr: id + ":1"}}) }
	}
	base := after(first, group("a"))
	if first.newest().Epoch != 1 || base.newest().Epoch != 2 {
		t.Fatalf("births %v, %v", first.Past, base.Past)
	}
	moved := after(base, func(s *State) error { return s.AssignSlots(Range{0, 9}, "a") })
	old := base
	for range 5 { // the copy: its epochs pass those of the other
		if old.Had(moved.newest()) {
			t.Errorf("epoch %d of the copy has had %v", old.Epoch, moved.newest())
		}
		old = after(old, restart)
	}
	if old.newest() != base.newest() || !moved.Had(old.newest()) {
		t.Errorf("starts are births: %v", old.Past)
	}
	forked := after(old, group("b"))
	if moved.Had(forked.newest()) || forked.Had(moved.newest()) || !forked.Had(base.newest()) || !moved.Had(first.newest()) {
		t.Errorf("%v and %v", moved.Past, forked.Past)
	}

	accepted := after(old, func(s *State) error { s.Accept(100); return nil })
	if accepted.Epoch != 101 || !accepted.Had(moved.newest()) || accepted.Had(Birth{102, 1}) || len(accepted.Past) != 1 {
		t.Errorf("accepted: epoch %d, %v", accepted.Epoch, accepted.Past)
	}
	if next := after(accepted, group("c")); next.Epoch != 102 || !next.Had(accepted.newest()) {
		t.Errorf("after that: epoch %d, %v", next.Epoch, next.Past)
	}
	if _, err := Diff(&old, &accepted); err != nil {
		t.Error(err)
	}

	s := base
	for i := range 3 * pastMax {
		s = after(s, func(s *State) error { return s.AssignSlots(Range{i, i}, "a") })
	}
	if len(s.Past) != pastMax || !s.Had(base.newest()) || !s.Had(s.newest()) || s.Had(Birth{s.Epoch - 1, 0}) {
		t.Errorf("%d births are remembered", len(s.Past))
	}
	if !slices.IsSortedFunc(s.Past, func(a, b Birth) int { return int(a.Epoch) - int(b.Epoch) }) {
		t.Errorf("births %v", s.Past)
	}
	unborn := base
	unborn.Past = nil // as an older version has stored it
	born := after(unborn, restart)
	if !unborn.Had(Birth{1, 5}) || unborn.Had(Birth{3, 5}) || born.newest().Epoch != 3 {
		t.Error("a State of an older version goes by numbers, and has a birth at its next change")
	}
}

func TestJudge(t *testing.T) {
	st := NewState("codis", 1024, 16)
	for _, id := range []string{"a", "b"} {
		if err := st.AddGroup(Group{ID: id, Endpoint: Endpoint{Addr: id + ":1"}}); err != nil {
			t.Fatal(err)
		}
	}
	st.follow(&State{})
	own := st.StampOf("a", "gw")
	if back, ok := ReadStamp(own.String()); !ok || back != own {
		t.Errorf("read back: %+v", back)
	}
	if _, ok := ReadStamp("x"); ok {
		t.Error("any text is a stamp")
	}
	a, _ := st.Group("a")
	moved := a
	moved.Addr = "elsewhere:1"
	for i, x := range []struct {
		change func(*Stamp)
		of     Group
		want   StampVerdict
	}{
		{func(*Stamp) {}, a, StampFits},
		{func(*Stamp) {}, moved, StampFits},
		{func(s *Stamp) { s.Gateway = "another" }, a, StampFits},
		{func(s *Stamp) { s.Cluster = "another" }, a, StampForeign},
		{func(s *Stamp) { s.Epoch++ }, a, StampNewer},
		{func(s *Stamp) { s.Token++ }, a, StampNewer},
		{func(s *Stamp) { s.Group = "b" }, a, StampOther},
		{func(s *Stamp) { s.Group = "gone" }, a, StampFits},
	} {
		s := own
		x.change(&s)
		if got := st.Judge(s, x.of); got != x.want {
			t.Errorf("%d: %+v is %d, want %d", i, s, got, x.want)
		}
	}
}
