package flow

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// paced is a mover, and clients who wait the longer the more it does.
type paced struct {
	pace
	now   time.Time
	canDo float64                          // of the mover, units a second
	p99At func(perS float64) time.Duration // of the clients
}

// run goes on for d and says how much a second the mover did in the last half of it.
func (x *paced) run(d time.Duration) float64 {
	windows := int(d / window)
	half := 0.0
	for i := range windows {
		perS := x.canDo
		if x.perS > 0 && x.perS < perS {
			perS = x.perS
		}
		for n := range 20 { // batches of this window
			at := x.now.Add(window * time.Duration(n) / 20)
			if !x.due(at) && x.perS > x.canDo {
				panic("nobody can be held back by that")
			}
			x.begin(at, perS*window.Seconds()/20)
		}
		x.limited = x.perS > 0 && x.perS <= x.canDo
		x.now = x.now.Add(window)
		if i >= windows/2 {
			half += perS / float64(windows-windows/2)
		}
		x.heard(x.now, x.p99At(perS))
	}
	return half
}

func newPaced(p99At func(float64) time.Duration) *paced {
	x := &paced{now: time.Unix(1000, 0), canDo: 100_000, p99At: p99At}
	x.begins(0)
	return x
}

func between(t *testing.T, what string, got, from, to float64) {
	t.Helper()
	if got < from || got > to {
		t.Errorf("%s: %.0f, want %.0f to %.0f", what, got, from, to)
	}
}

// TestPaceFindsTheBound: p99 is 1 ms without the mover and grows by 1 ms for every 20,000
// keys a second, so that 10,000 are what clients have to put up with.
func TestPaceFindsTheBound(t *testing.T) {
	grows := func(perS float64) time.Duration {
		return time.Millisecond + time.Duration(perS/20_000*float64(time.Millisecond))
	}
	x := newPaced(grows)
	between(t, "while learning", x.run(5*window), 499, 501)
	between(t, "work a second", x.run(60*time.Second), 5000, 10_500)
	if b := x.bound(); b < 1300*time.Microsecond || b > 1400*time.Microsecond {
		t.Errorf("bound %v", b)
	}
	if r := x.reason(); r == "" {
		t.Error("held back without a reason")
	}
	x.p99At = func(float64) time.Duration { return 0 } // the clients have left
	between(t, "without clients", x.run(4*window), 100_000, 100_000)
	if x.reason() != "" {
		t.Errorf("reason %q without clients", x.reason())
	}
	x.p99At = grows
	between(t, "when they are back", x.run(60*time.Second), 5000, 10_500)
}

// TestPaceLeavesAlone: clients who don't feel it hold nothing back but for the second in
// which that is found out; nor does anybody with MAXP99 off.
func TestPaceLeavesAlone(t *testing.T) {
	x := newPaced(func(float64) time.Duration { return time.Millisecond })
	x.run(4 * time.Second)
	between(t, "work a second", x.run(time.Second), 100_000, 100_000)
	x = newPaced(func(float64) time.Duration { return time.Second })
	x.most = -1
	between(t, "off", x.run(time.Second), 100_000, 100_000)
}

// TestPaceIsNotTheMover: when clients wait longer although next to nothing moves, the job
// is not held back for ever; when they wait less again, that counts.
func TestPaceIsNotTheMover(t *testing.T) {
	x := newPaced(func(float64) time.Duration { return time.Millisecond })
	x.run(10 * time.Second)
	x.p99At = func(float64) time.Duration { return 20 * time.Millisecond }
	x.run(20 * time.Second)
	between(t, "work a second", x.run(10*time.Second), 90_000, 100_000)
	x.p99At = func(perS float64) time.Duration {
		return time.Millisecond + time.Duration(perS/20_000*float64(time.Millisecond))
	}
	x.run(60 * time.Second)
	between(t, "when they wait less", x.run(60*time.Second), 5000, 11_000)
}

// TestPaceInNoise: where clients wait now longer and now less for reasons of their own, the
// mover keeps more than half of its speed.
func TestPaceInNoise(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	x := newPaced(func(float64) time.Duration {
		return time.Duration(rng.Float64() * rng.Float64() * float64(8*time.Millisecond))
	})
	x.run(5 * time.Second)
	sum := 0.0
	for range 60 {
		sum += x.run(2 * time.Second)
	}
	between(t, "work a second", sum/60, 50_000, 100_000)
}

// TestPaceMaxP99: an operator's bound needs no learning, and is never raised.
func TestPaceMaxP99(t *testing.T) {
	x := newPaced(func(perS float64) time.Duration {
		return time.Millisecond + time.Duration(perS/20_000*float64(time.Millisecond))
	})
	x.most = 3 * time.Millisecond
	between(t, "work a second", x.run(60*time.Second), 30_000, 41_000)
	x.p99At = func(float64) time.Duration { return 10 * time.Millisecond }
	between(t, "at the floor", x.run(120*time.Second), 499, 501)
}

// TestPaceOff: a job that had made way is held back by nothing as soon as MAXP99 is off,
// though nobody tells of clients any more.
func TestPaceOff(t *testing.T) {
	x := newPaced(func(float64) time.Duration { return 10 * time.Millisecond })
	x.begins(3 * time.Millisecond)
	x.run(time.Minute)
	between(t, "at the floor", x.perS, 499, 501)
	x.begins(-1)
	if x.batch() != 0 || x.reason() != "" || !x.due(x.now) {
		t.Errorf("off, and still %g a second: %s", x.perS, x.reason())
	}
}

// mixed is the p99 of everything in windows of the given p99s, where waits above the median
// are spread as exponential ones are.
func mixed(windows []time.Duration) time.Duration {
	lo, hi := 0.0, float64(slices.Max(windows))
	for range 60 {
		t, above := (lo+hi)/2, 0.0
		for _, w := range windows {
			above += math.Pow(0.01, t/float64(w))
		}
		if above > 0.01*float64(len(windows)) {
			lo = t
		} else {
			hi = t
		}
	}
	return time.Duration(hi)
}

// TestPaceKeepsWord: on a machine whose neighbours come and go the p99 of all that clients
// sent while a job was under way, a short one or a long one, is within half as much again of
// what it was before, and the job is not at the floor either.
func TestPaceKeepsWord(t *testing.T) {
	for _, long := range []time.Duration{15 * time.Second, 100 * time.Second} {
		for seed := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, 5))
			var seen []time.Duration
			x := newPaced(func(perS float64) time.Duration {
				ms := (0.6 + perS/32_000) * math.Exp(rng.NormFloat64()*0.2)
				if rng.IntN(40) == 0 {
					ms += 0.8
				}
				seen = append(seen, time.Duration(ms*float64(time.Millisecond)))
				return seen[len(seen)-1]
			})
			for range 500 {
				x.p99At(0)
			}
			before := mixed(seen)
			seen = nil
			perS := 0.0
			for range 10 {
				perS += x.run(long/10) / 10
			}
			ratio := float64(mixed(seen)) / float64(before)
			t.Logf("%v: %.2f times what it was before, %.0f a second", long, ratio, perS)
			if ratio > 1.5 || perS < 2000 {
				t.Errorf("seed %d, %v: %.2f times what it was before, %.0f a second", seed, long, ratio, perS)
			}
		}
	}
}
