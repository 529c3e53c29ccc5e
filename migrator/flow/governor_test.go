package flow

import (
	"strings"
	"testing"
	"time"
)

// world runs a governor on a simulated clock: a target that serves so much at its best,
// and a mover that takes what it may.
type world struct {
	t   *testing.T
	g   *Governor
	now time.Time
}

func newWorld(t *testing.T) *world {
	return &world{t: t, g: NewGovernor(1024, 64<<20, 5*time.Millisecond), now: time.Unix(1_700_000_000, 0)}
}

// run lets time pass while the target answers probes in d; 0: not at all.
func (w *world) run(long, target time.Duration) {
	for end := w.now.Add(long); w.now.Before(end); w.now = w.now.Add(pingEvery) {
		w.g.PingSent(0, w.now)
		w.g.PingAnswered(0, w.now.Add(200*time.Microsecond))
		w.g.PingSent(1, w.now)
		if target > 0 {
			w.g.PingAnswered(1, w.now.Add(target))
		}
		w.g.Tick(w.now)
	}
}

func (w *world) share(least, most float64, reason string) {
	w.t.Helper()
	if f := w.g.Status(); f.Share < least || f.Share > most || !strings.Contains(f.Reason, reason) || reason == "" && f.Reason != "" {
		w.t.Errorf("share %v (want %v to %v), reason %q (want %q)", f.Share, least, most, f.Reason, reason)
	}
}

// TestGovernorYieldsAndRecovers: within 2 s of trouble next to nothing is in flight, and
// some seconds after it everything is again. The reason is named.
func TestGovernorYieldsAndRecovers(t *testing.T) {
	w := newWorld(t)
	w.run(2*time.Second, 200*time.Microsecond)
	w.share(1, 1, "")
	w.run(2*time.Second, 80*time.Millisecond)
	w.share(0, 0.01, "target answers probes in 80ms")
	if f := w.g.Status(); f.KeysMax != 1 || f.RestMs == 0 {
		t.Errorf("at the floor: %d keys in flight, pauses of %d ms", f.KeysMax, f.RestMs)
	}
	w.run(10*time.Second, 300*time.Microsecond)
	w.share(1, 1, "")
	w.run(2*time.Second, 0)
	w.share(0, 0.01, "target does not answer probes")
	if end, since := w.g.Silent(w.now); end != target || w.now.Sub(since) < time.Second {
		t.Errorf("silent is %q since %v", end, since)
	}
	w.g.PingAnswered(1, w.now)
	w.run(10*time.Second, 200*time.Microsecond)
	w.share(1, 1, "")
	if end, _ := w.g.Silent(w.now); end != "" {
		t.Errorf("silent is %q", end)
	}
}

// TestGovernorLeavesNormalLoadAlone: the mover's own batches and a slow network are no
// trouble.
func TestGovernorLeavesNormalLoadAlone(t *testing.T) {
	w := newWorld(t)
	w.run(2*time.Second, 30*time.Millisecond) // far away
	w.share(1, 1, "")
	w.run(5*time.Second, 38*time.Millisecond) // … and a batch before each probe
	w.share(1, 1, "")
}

// TestGovernorRestores: RESTOREs that take many times their baseline are trouble; large
// values are not.
func TestGovernorRestores(t *testing.T) {
	w := newWorld(t)
	for range 100 {
		w.g.Restored(w.now, 2*time.Millisecond, 200, 200*100)
	}
	for range 100 {
		w.g.Restored(w.now, 40*time.Millisecond, 1, 20<<20)
	}
	w.run(time.Second, 200*time.Microsecond)
	w.share(1, 1, "")
	for range 20 {
		w.g.Restored(w.now, 60*time.Millisecond, 200, 200*100)
		w.run(TickEvery, 200*time.Microsecond)
	}
	w.share(0, 16./1024, "RESTORE")
	if f := w.g.Status(); f.RestMs != 0 {
		t.Errorf("pauses of %d ms for slow RESTOREs", f.RestMs)
	}
	w.run(10*time.Second, 200*time.Microsecond) // none that had to be waited for
	w.share(1, 1, "")
}

// TestGovernorClients: what clients wait holds back how much is begun in a second, and not
// how much may be under way; without MAXP99 nobody looks.
func TestGovernorClients(t *testing.T) {
	w := newWorld(t)
	w.g.Clients(w.now, 50*time.Millisecond)
	if b := w.g.TryGrant(w.now, 100, false); !b.OK || w.g.Batch(1) < 100 {
		t.Error("held back without a bound")
	} else {
		w.g.Release(100, b.Bytes)
	}
	w.g.Bound(1024, 10*time.Millisecond)
	for range 40 {
		w.run(window, 200*time.Microsecond)
		w.g.Clients(w.now, 50*time.Millisecond)
	}
	w.share(1, 1, "p99 of clients is 50ms, MAXP99 is 10ms")
	if n := w.g.Batch(1); n != leastBatch {
		t.Errorf("a batch of %d keys at the floor", n)
	}
	begun, pauses := w.now, time.Duration(0)
	for range 1000 {
		b := w.g.Grant(w.now, 1, false)
		if !b.OK {
			t.Fatal("nothing is under way, and no key may be taken")
		}
		w.now = w.now.Add(b.Rest)
		pauses += b.Rest
		w.g.Release(1, b.Bytes)
	}
	if took := w.now.Sub(begun); took < 1900*time.Millisecond || took > 2100*time.Millisecond || pauses != took {
		t.Errorf("1000 keys at 500 a second in %v", took)
	}
}

// TestGovernorBounds: keys and bytes in flight stay within the share, a batch always fits,
// and one that is larger than all goes alone.
func TestGovernorBounds(t *testing.T) {
	g := NewGovernor(100, 1<<20, 5*time.Millisecond)
	if n := g.Batch(4); n != 25 {
		t.Errorf("a batch of %d, want 25", n)
	}
	b1 := g.Grant(time.Time{}, 60, false)
	if !b1.OK {
		t.Fatal("60 of 100 keys are refused")
	}
	if b := g.Grant(time.Time{}, 60, false); b.OK || b.Freed == nil {
		t.Error("120 of 100 keys are let through")
	}
	b2 := g.Grant(time.Time{}, 40, false)
	if !b2.OK {
		t.Error("100 of 100 keys are refused")
	}
	g.Release(60, b1.Bytes)
	g.Release(40, b2.Bytes)
	for range 20 {
		g.Sized(1 << 19)
	}
	if n := g.Batch(2); n != 1 {
		t.Errorf("a batch of %d keys of half the memory, want 1", n)
	}
	b1 = g.Grant(time.Time{}, 1, false)
	if g.Grant(time.Time{}, 2, false).OK {
		t.Error("1.5 times the memory is let through")
	}
	g.Release(1, b1.Bytes)
	if b1 = g.Grant(time.Time{}, 50, false); !b1.OK {
		t.Error("what is larger than all never goes")
	}
	g.Release(50, b1.Bytes)
	if f := g.Status(); f.Keys != 0 || f.Bytes != 0 {
		t.Errorf("in flight at the end: %d keys, %d bytes", f.Keys, f.Bytes)
	}
}

// TestTryGrantCostsNothing: what is refused has used up nothing of the target's memory, nor of
// what a paced job may move.
func TestTryGrantCostsNothing(t *testing.T) {
	g, now := NewGovernor(3072, 64<<20, 5*time.Millisecond), time.Unix(1_700_000_000, 0)
	g.Weighing()
	g.Weighed(100)
	memory, keys, pace := g.memory, g.keys, g.pace
	if a := g.TryGrant(now, 1, false); a.OK || g.memory != memory || g.keys != keys || g.pace != pace {
		t.Errorf("a key for which there is no room: %+v; memory %+v, before %+v; pace %+v, before %+v", a, g.memory, memory, g.pace, pace)
	}
	g.Weighed(64 << 20)
	g.Bound(3072, time.Millisecond)
	for range 60 {
		now = now.Add(window)
		g.Clients(now, 10*time.Millisecond)
	}
	if a := g.TryGrant(now, 10, false); !a.OK {
		t.Fatalf("nothing is under way, and no key may be taken: %+v", a)
	}
	memory, keys, pace = g.memory, g.keys, g.pace
	pace.limited = true // somebody had to wait: that is to be known
	if a := g.TryGrant(now, 10, false); a.OK || g.memory != memory || g.keys != keys || g.pace != pace {
		t.Errorf("keys that are not due: %+v; memory %+v, before %+v; pace %+v, before %+v", a, g.memory, memory, g.pace, pace)
	}
}
