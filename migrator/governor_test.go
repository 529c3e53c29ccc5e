package migrator

import (
	"strings"
	"testing"
	"time"
)

// world runs a governor on a simulated clock: a target that serves so much at its best,
// and a mover that takes what it may.
type world struct {
	t   *testing.T
	g   *governor
	now time.Time
}

func newWorld(t *testing.T) *world {
	return &world{t: t, g: newGovernor(1024, 64<<20, 5*time.Millisecond), now: time.Unix(1_700_000_000, 0)}
}

// run lets time pass while the target answers probes in d; 0: not at all.
func (w *world) run(long, target time.Duration) {
	for end := w.now.Add(long); w.now.Before(end); w.now = w.now.Add(probeEvery) {
		w.g.probing(0, w.now)
		w.g.probed(0, w.now.Add(200*time.Microsecond))
		w.g.probing(1, w.now)
		if target > 0 {
			w.g.probed(1, w.now.Add(target))
		}
		w.g.tick(w.now)
	}
}

func (w *world) share(least, most float64, reason string) {
	w.t.Helper()
	if f := w.g.status(); f.Share < least || f.Share > most || !strings.Contains(f.Reason, reason) || reason == "" && f.Reason != "" {
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
	if f := w.g.status(); f.KeysMax != 1 || f.RestMs == 0 {
		t.Errorf("at the floor: %d keys in flight, pauses of %d ms", f.KeysMax, f.RestMs)
	}
	w.run(10*time.Second, 300*time.Microsecond)
	w.share(1, 1, "")
	w.run(2*time.Second, 0)
	w.share(0, 0.01, "target does not answer probes")
	if end, since := w.g.silent(w.now); end != fromTarget || w.now.Sub(since) < time.Second {
		t.Errorf("silent is %q since %v", end, since)
	}
	w.g.probed(1, w.now)
	w.run(10*time.Second, 200*time.Microsecond)
	w.share(1, 1, "")
	if end, _ := w.g.silent(w.now); end != "" {
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
		w.g.restored(w.now, 2*time.Millisecond, 200, 200*100)
	}
	for range 100 {
		w.g.restored(w.now, 40*time.Millisecond, 1, 20<<20)
	}
	w.run(time.Second, 200*time.Microsecond)
	w.share(1, 1, "")
	for range 20 {
		w.g.restored(w.now, 60*time.Millisecond, 200, 200*100)
		w.run(tickEvery, 200*time.Microsecond)
	}
	w.share(0, 0.01, "RESTORE")
	w.run(10*time.Second, 200*time.Microsecond) // none that had to be waited for
	w.share(1, 1, "")
}

// TestGovernorClients: what clients wait holds back how much is begun in a second, and not
// how much may be under way; without MAXP99 nobody looks.
func TestGovernorClients(t *testing.T) {
	w := newWorld(t)
	w.g.clients(w.now, 50*time.Millisecond)
	if b := w.g.tryTake(w.now, 100, false); !b.ok || w.g.batch(1) < 100 {
		t.Error("held back without a bound")
	} else {
		w.g.release(100, b.bytes)
	}
	w.g.bound(1024, 10*time.Millisecond)
	for range 40 {
		w.run(clientEvery, 200*time.Microsecond)
		w.g.clients(w.now, 50*time.Millisecond)
	}
	w.share(1, 1, "p99 of clients is 50ms, MAXP99 is 10ms")
	if n := w.g.batch(1); n != leastBatch {
		t.Errorf("a batch of %d keys at the floor", n)
	}
	begun, pauses := w.now, time.Duration(0)
	for range 1000 {
		b := w.g.take(w.now, 1, false)
		if !b.ok {
			t.Fatal("nothing is under way, and no key may be taken")
		}
		w.now = w.now.Add(b.rest)
		pauses += b.rest
		w.g.release(1, b.bytes)
	}
	if took := w.now.Sub(begun); took < 1900*time.Millisecond || took > 2100*time.Millisecond || pauses != took {
		t.Errorf("1000 keys at 500 a second in %v", took)
	}
}

// TestGovernorBounds: keys and bytes in flight stay within the share, a batch always fits,
// and one that is larger than all goes alone.
func TestGovernorBounds(t *testing.T) {
	g := newGovernor(100, 1<<20, 5*time.Millisecond)
	if n := g.batch(4); n != 25 {
		t.Errorf("a batch of %d, want 25", n)
	}
	b1 := g.take(time.Time{}, 60, false)
	if !b1.ok {
		t.Fatal("60 of 100 keys are refused")
	}
	if b := g.take(time.Time{}, 60, false); b.ok || b.freed == nil {
		t.Error("120 of 100 keys are let through")
	}
	b2 := g.take(time.Time{}, 40, false)
	if !b2.ok {
		t.Error("100 of 100 keys are refused")
	}
	g.release(60, b1.bytes)
	g.release(40, b2.bytes)
	for range 20 {
		g.sized(1 << 19)
	}
	if n := g.batch(2); n != 1 {
		t.Errorf("a batch of %d keys of half the memory, want 1", n)
	}
	b1 = g.take(time.Time{}, 1, false)
	if g.take(time.Time{}, 2, false).ok {
		t.Error("1.5 times the memory is let through")
	}
	g.release(1, b1.bytes)
	if b1 = g.take(time.Time{}, 50, false); !b1.ok {
		t.Error("what is larger than all never goes")
	}
	g.release(50, b1.bytes)
	if f := g.status(); f.Keys != 0 || f.Bytes != 0 {
		t.Errorf("in flight at the end: %d keys, %d bytes", f.Keys, f.Bytes)
	}
}
