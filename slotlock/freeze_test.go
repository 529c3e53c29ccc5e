package slotlock

import "testing"

// TestFreezeTurnThaw: who comes while a table is frozen waits, and so does who is decided
// meanwhile; it is quiet when the last one inside has left; and after the reversal all ask
// again and are resolved, whatever was known before.
func TestFreezeTurnThaw(t *testing.T) {
	tb := table(Filtered)
	a, b, c, d := Key{0, "a"}, Key{0, "b"}, Key{0, "c"}, Key{0, "d"}
	if !tb.TryLock(a) {
		t.Fatal("a is not free")
	}
	tb.Commit(a) // lives at the target
	if v := tb.Admit(0, []byte("b"), &ear{}); v != Source {
		t.Fatalf("b: %v", v)
	}
	if !tb.TryLock(c) {
		t.Fatal("c is not free")
	}
	moving, late, held, homely := &ear{}, &ear{}, &ear{}, &ear{}
	if v := tb.Admit(0, []byte("c"), moving); v != Wait {
		t.Fatalf("c: %v", v)
	}
	tb.Freeze()
	for k, w := range map[string]*ear{"a": homely, "b": held, "d": late} {
		if v := tb.Admit(0, []byte(k), w); v != Wait {
			t.Errorf("%s, frozen: %v", k, v)
		}
	}
	if v := tb.Resolve(0, []byte("d"), late); v != Wait {
		t.Errorf("d, frozen: %v", v)
	}
	if tb.Quiet() {
		t.Error("quiet with b held and c locked")
	}
	tb.Commit(c)
	tb.Release(b)
	if !tb.Quiet() {
		t.Error("not quiet although all have left")
	}
	for _, w := range []*ear{moving, late, held, homely} {
		if len(w.heard) > 0 {
			t.Errorf("somebody was let out of a frozen table: %v", w.heard)
		}
	}
	tb.Reverse(Options{})
	tb.Thaw()
	for _, w := range []*ear{moving, late, held, homely} {
		if v := w.last(t); v != Wait {
			t.Errorf("after the thaw: %v, want to ask again", v)
		}
	}
	if tb.Stats().Holds != 0 || !tb.Idle() {
		t.Errorf("something is left: %+v", tb.Stats())
	}
	for _, k := range []Key{a, b, c, d} {
		if v := tb.Admit(0, []byte(k.Name), &ear{}); v != Wait {
			t.Errorf("%s after the reversal: %v, want it to be resolved", k.Name, v)
		}
	}
	if got := tb.Take(10); len(got) != 4 {
		t.Errorf("touched are %v", got)
	}
}

// TestThawWithoutTurn: nothing has changed, and who gave up is forgotten.
func TestThawWithoutTurn(t *testing.T) {
	tb := table(Filtered)
	tb.Freeze()
	gone, stays := &ear{}, &ear{}
	tb.Admit(0, []byte("a"), gone)
	tb.Admit(0, []byte("b"), stays)
	tb.Cancel(Key{0, "a"}, gone)
	tb.Thaw()
	if len(gone.heard) > 0 || stays.last(t) != Wait {
		t.Errorf("heard: %v and %v", gone.heard, stays.heard)
	}
	if !tb.Idle() {
		t.Error("something is left")
	}
	if v := tb.Admit(0, []byte("b"), stays); v != Source {
		t.Errorf("b: %v", v)
	}
}

// TestFreezeUntouched: a table of which nothing has been committed is still as long as
// nobody locks or wants a key, whoever holds one; and ends with all at the source.
func TestFreezeUntouched(t *testing.T) {
	tb := table(Filtered)
	if v := tb.Admit(0, []byte("held"), &ear{}); v != Source {
		t.Fatalf("held: %v", v)
	}
	wants := &ear{}
	if v := tb.Resolve(0, []byte("held"), wants); v != Wait {
		t.Fatalf("wanted: %v", v)
	}
	tb.Freeze()
	if tb.Still() {
		t.Error("still with a key that is to be locked when its holder is done")
	}
	tb.Release(Key{0, "held"})
	for _, k := range tb.Take(1) {
		tb.Abort(k, true)
	}
	if v := tb.Admit(0, []byte("late"), wants); v != Wait {
		t.Errorf("frozen: %v", v)
	}
	if !tb.Still() || tb.Stats().Commits != 0 {
		t.Error("not still with nothing locked")
	}
	tb.SetMode(AllSource)
	tb.Thaw()
	if v := wants.last(t); v != Wait {
		t.Errorf("after the thaw: %v, want to ask again", v)
	}
	for _, ask := range []func(int, []byte, Waiter) Verdict{tb.Admit, tb.Resolve, tb.Pull} {
		if v := ask(0, []byte("late"), wants); v != Source {
			t.Errorf("at the end: %v", v)
		}
		tb.Release(Key{0, "late"})
	}
	if !tb.Idle() {
		t.Error("something is left")
	}
}

// deaf is a waiter that takes its time to hear.
type deaf struct{ told, hear chan struct{} }

func (d *deaf) Wake(*Table, Key, Verdict) { close(d.told); <-d.hear }

// TestQuietWhenAllHaveHeard: who is let in at the target holds nothing, so that until it has
// been told so nobody could know of it, and the table would be reversed under its command.
func TestQuietWhenAllHaveHeard(t *testing.T) {
	tb := table(Resolve)
	d := &deaf{make(chan struct{}), make(chan struct{})}
	if v := tb.Admit(0, []byte("k"), d); v != Wait {
		t.Fatal(v)
	}
	k := tb.Take(1)[0]
	done := make(chan struct{})
	go func() { defer close(done); tb.Commit(k) }()
	<-d.told
	tb.Freeze()
	if tb.Quiet() {
		t.Error("quiet while a waiter is being sent to the target")
	}
	close(d.hear)
	<-done
	if !tb.Quiet() {
		t.Error("not quiet when it has been told")
	}
}
