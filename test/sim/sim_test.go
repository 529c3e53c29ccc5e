package sim

import (
	"flag"
	"testing"
)

var seeds = flag.Int("sim.seeds", 2000, "how many seeds to explore")
var firstSeed = flag.Uint64("sim.first", 1, "the first of them")

const steps = 120

func explore(t *testing.T, v Variant, n int) (failed uint64, w *World, err error) {
	t.Helper()
	for s := *firstSeed; s < *firstSeed+uint64(n); s++ {
		w := New(s, v)
		if err := w.Run(steps); err != nil {
			return s, w, err
		}
	}
	return 0, nil, nil
}

func TestProtocolHoldsForEverySeed(t *testing.T) {
	if seed, w, err := explore(t, Correct, *seeds); err != nil {
		t.Fatalf("seed %d: %v\n%s", seed, err, w.Transcript())
	}
}

// TestExplorerBites shows that the explorer would see a wrong protocol: each of these
// mistakes must be found.
func TestExplorerBites(t *testing.T) {
	for name, v := range map[string]Variant{"source wins": SourceWins, "lock released before UNLINK is confirmed": EarlyUnlock,
		"unknown RESTORE not fenced": NoFence, "restarted source believed": NoAmnesia} {
		t.Run(name, func(t *testing.T) {
			seed, _, err := explore(t, v, 20000)
			if err == nil {
				t.Fatal("the explorer did not find the mistake")
			}
			t.Logf("found with seed %d: %v", seed, err)
		})
	}
}

// TestSeedsReachEveryCorner keeps the explorer honest: what it never meets it can't test.
func TestSeedsReachEveryCorner(t *testing.T) {
	crashed, amnesia, moved := 0, 0, 0
	for s := uint64(1); s <= 300; s++ {
		w := New(s, Correct)
		if err := w.Run(steps); err != nil {
			t.Fatalf("seed %d: %v", s, err)
		}
		if w.crashed {
			crashed++
		}
		if w.amnesia {
			amnesia++
		}
		if w.locks.Stats().Commits > 0 {
			moved++
		}
	}
	if crashed < 30 || amnesia < 10 || moved < 100 {
		t.Errorf("of 300 seeds %d crashed, %d forgot, %d moved keys: too few to mean anything", crashed, amnesia, moved)
	}
}
