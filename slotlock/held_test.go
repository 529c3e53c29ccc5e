package slotlock

import "testing"

func TestHeld(t *testing.T) {
	l := New(Options{ExpectedKeys: 100, MaxWaiting: 10})
	a, b, c := Key{0, "a"}, Key{1, "b"}, Key{0, "c"}
	l.Admit(0, []byte("a"), nil)
	l.TryLock(b)
	l.Admit(0, []byte("c"), nil)
	l.Want(c)
	got := make(map[Key]HeldKey)
	for _, h := range l.Held(10) {
		got[h.Key] = h
	}
	if len(got) != 3 || got[a].State != "in use" || got[a].Shared != 1 || got[b].State != "locked" || got[c].State != "wanted" {
		t.Errorf("%+v", got)
	}
	if first := l.Held(2); len(first) != 2 || first[0].State == "in use" || first[1].State == "in use" {
		t.Errorf("two of three: %+v", first)
	}
}
