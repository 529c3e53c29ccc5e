package sim

import (
	"flag"
	"testing"

	"keyferry/migrator"
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
		"unknown RESTORE not fenced": NoFence, "restarted source believed": NoAmnesia,
		"filter without the created keys":                                NoCreated,
		"a job that moved nothing is cancelled with clients let in":      NoFreeze,
		"a job turns round with commands under way to the target":        NoSettle,
		"a job turns round with keys at both ends":                       NoSweep,
		"the target's word that a key has gone taken for its never came": SweepAsks} {
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
	moved, full, slow, paused := 0, 0, 0, 0
	cancelled, refused, turned, gaveUp, swept := 0, 0, 0, 0, 0
	crashedAt, forgotAt := map[migrator.MoveStep]int{}, map[migrator.MoveStep]int{}
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
		moved += one(w.locks.Stats().Commits > 0)
		full += one(w.met.full)
		slow += one(w.met.slow)
		paused += one(w.met.paused)
		cancelled += one(w.met.cancelled)
		refused += one(w.met.refused)
		turned += one(w.met.turned)
		gaveUp += one(w.met.gaveUp)
		swept += one(w.met.swept)
	}
	for step := migrator.Read; !step.Final(); step++ {
		if crashedAt[step] < 5 {
			t.Errorf("of %d seeds %d crashed with a key at %s", n, crashedAt[step], step)
		}
		if forgotAt[step] < 5 {
			t.Errorf("of %d seeds the source forgot in %d with a key at %s", n, forgotAt[step], step)
		}
	}
	if moved < n/3 || full < n/3 || slow < n/3 || paused < n/20 {
		t.Errorf("of %d seeds %d moved keys, %d had a full target, %d a slow one, %d a pause", n, moved, full, slow, paused)
	}
	if min(cancelled, refused, gaveUp, swept) < n/100 || turned < n/20 {
		t.Errorf("of %d seeds %d cancelled a job, %d could not, %d turned one round, %d gave that up for a while, %d swept a key that was at both ends",
			n, cancelled, refused, turned, gaveUp, swept)
	}
	t.Logf("cancelled %d, not %d, turned %d, not at once %d, swept %d", cancelled, refused, turned, gaveUp, swept)
	t.Logf("crashed at %v, forgot at %v; moved %d, full %d, slow %d, paused %d", crashedAt, forgotAt, moved, full, slow, paused)
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}
