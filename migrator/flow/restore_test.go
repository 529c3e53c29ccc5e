package flow

import (
	"testing"
	"time"
)

// small are rounds of small keys, of several workers, for so long; at the end each of them that is
// under way takes more.
func (w *world) small(long time.Duration, d time.Duration, keys int) {
	for end := w.now.Add(long); w.now.Before(end); {
		w.run(pingEvery, 200*time.Microsecond)
		for range 8 {
			w.g.Restored(w.now, d, keys, keys*100)
		}
	}
}

// TestLargeValueSlowsNobody: small keys that have waited at the target behind a large value say
// nothing of the target, whichever of them is answered first; nor do the probes meanwhile.
func TestLargeValueSlowsNobody(t *testing.T) {
	for _, before := range []bool{true, false} {
		w := newWorld(t)
		w.small(2*time.Second, 2*time.Millisecond, 200)
		for range 3 {
			const busy = 400 * time.Millisecond
			w.g.Sent(2_200_000)
			w.g.PingSent(1, w.now)
			for end := w.now.Add(busy); w.now.Before(end); w.now = w.now.Add(pingEvery) {
				w.g.Tick(w.now)
			}
			heard := func() {
				w.g.Heard(w.now, 2_200_000)
				w.g.Restored(w.now, busy, 1, 2_200_000)
			}
			if before {
				heard()
			}
			for range 8 {
				w.g.Restored(w.now, busy, 1, 100)
			}
			if !before {
				heard()
			}
			w.g.PingAnswered(1, w.now)
			w.share(1, 1, "")
			w.small(time.Second, 2*time.Millisecond, 200)
			w.share(1, 1, "")
		}
		// A target that is slow with small keys is found out all the same.
		w.small(time.Second, 60*time.Millisecond, 200)
		w.share(0, 16./1024, "RESTORE")
	}
}

// TestOneSlowRoundIsOne: what took very long, for what reason ever, is forgotten as soon as what
// took long; and rounds of few keys are measured for what any round takes.
func TestOneSlowRoundIsOne(t *testing.T) {
	w := newWorld(t)
	w.small(2*time.Second, 2*time.Millisecond, 200)
	w.g.Restored(w.now, 10*time.Second, 1, 100)
	w.run(TickEvery, 200*time.Microsecond)
	w.share(1, 1, "")
	w.small(5*time.Second, 12*time.Millisecond, 1) // a busy machine
	w.share(1, 1, "")
}

// TestLargeValueIsPaidForOnce: a job that is held back for the clients' sake pays for a large value
// when it has gone, with no more than a second; small keys behind it are as little work as before.
func TestLargeValueIsPaidForOnce(t *testing.T) {
	g, now := NewGovernor(3072, 64<<20, 5*time.Millisecond), time.Unix(1_700_000_000, 0)
	g.Bound(3072, time.Millisecond)
	for range 1000 {
		g.Sized(100)
	}
	for range 60 {
		now = now.Add(window)
		g.Clients(now, 10*time.Millisecond)
	}
	perSecond := func() (keys int) {
		for end := now.Add(time.Second); now.Before(end); {
			n := g.Batch(1)
			b := g.Grant(now, n, false)
			if !b.OK {
				t.Fatal("nothing is under way, and no key may be taken")
			}
			now = now.Add(max(b.Rest, time.Millisecond))
			g.Release(n, b.Bytes)
			for range n {
				g.Sized(100)
			}
			keys += n
		}
		return keys
	}
	before := perSecond()
	if before < floorPerS/2 || before > 2*floorPerS {
		t.Fatalf("%d keys a second before", before)
	}
	for _, large := range []int{2_200_000, 400 << 20} {
		g.Sized(large)
		perSecond() // pays
		for range 5 {
			if n := perSecond(); n < before*9/10 {
				t.Errorf("%d keys a second after a value of %d bytes, %d before", n, large, before)
			}
		}
	}
}
