package sim

import (
	"flag"
	"testing"

	"keyferry/migrator/keymove"
	"keyferry/proxy/parking"
)

var seeds = flag.Int("sim.seeds", 2000, "how many seeds to explore")
var firstSeed = flag.Uint64("sim.first", 1, "the first of them")

const steps = 200

// explore runs n seeds until one fails.
func explore(t *testing.T, v Variant, n int) (failed uint64, w *World, err error) {
	t.Helper()
	return exploreWith(t, v, nil, n)
}

// exploreWith explores with a mistake in parking; nil: none.
func exploreWith(t *testing.T, v Variant, plant func(*parking.Lot), n int) (failed uint64, w *World, err error) {
	t.Helper()
	for s := *firstSeed; s < *firstSeed+uint64(n); s++ {
		w := New(s, v)
		w.plant = plant
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
		"unknown RESTORE not fenced": NoFence, "restarted source believed": NoAmnesia,
		"filter without the created keys":                                NoCreated,
		"a job that moved nothing is cancelled with clients let in":      NoFreeze,
		"a job is reversed with commands under way to the target":        NoSettle,
		"a job is reversed with keys at both ends":                       NoSweep,
		"the target's word that a key has gone taken for its never came": SweepAsks,
		"keys move while commands are in flight without a lock":          NoDrain} {
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
	const n = 3000
	seen := map[string]int{}
	crashedAt, forgotAt := map[keymove.MoveStep]int{}, map[keymove.MoveStep]int{}
	for s := uint64(1); s <= n; s++ {
		w := New(s, Correct)
		if err := w.Run(steps); err != nil {
			t.Fatalf("seed %d: %v\n%s", s, err, w.Transcript())
		}
		for step := range w.met.crashedAt {
			crashedAt[step]++
		}
		for step := range w.met.forgotAt {
			forgotAt[step]++
		}
		count(seen, w)
	}
	for step := keymove.Read; !step.Final(); step++ {
		if crashedAt[step] < 5 {
			t.Errorf("of %d seeds %d crashed with a key at %s", n, crashedAt[step], step)
		}
		if forgotAt[step] < 5 {
			t.Errorf("of %d seeds the source forgot in %d with a key at %s", n, forgotAt[step], step)
		}
	}
	for what, least := range map[string]int{
		"moved keys": n / 3, "full target": n / 3, "slow target": n / 3, "paused": n / 20, "reversed": n / 20,
		"cancelled": n / 100, "could not be cancelled": n / 100, "was not reversed at once": n / 100, "swept a key at both ends": n / 100,
		"parked": n / 3, "parked with keys on both sides": n / 20, "expired": n / 20, "left while parked": n / 20,
		"table waited for commands": n / 100, "drained later than adopted": n / 20, "reversed with commands parked": n / 100,
		"hold for a command that had gone": n / 300, "too many parked": n / 100,
	} {
		if seen[what] < least {
			t.Errorf("%s: %d of %d seeds, not %d", what, seen[what], n, least)
		}
	}
	t.Logf("of %d seeds: %v", n, seen)
	t.Logf("crashed at %v, forgot at %v", crashedAt, forgotAt)
}

// count adds what a run has met.
func count(seen map[string]int, w *World) {
	jobs, parked := &w.met.jobs, &w.met.parking
	for what, yes := range map[string]bool{
		"moved keys": w.locks.Stats().Commits > 0, "full target": w.met.full, "slow target": w.met.slow, "paused": jobs.paused, "reversed": jobs.reversed,
		"cancelled": jobs.cancelled, "could not be cancelled": jobs.refused, "was not reversed at once": jobs.gaveUp, "swept a key at both ends": jobs.swept,
		"parked": parked.waited, "parked with keys on both sides": parked.both, "expired": parked.expired, "left while parked": parked.left,
		"table waited for commands": parked.offered, "drained later than adopted": parked.drained, "reversed with commands parked": parked.reversed,
		"hold for a command that had gone": parked.tooLate, "too many parked": parked.overfull,
	} {
		if yes {
			seen[what]++
		}
	}
}
