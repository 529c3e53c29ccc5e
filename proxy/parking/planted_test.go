//go:build failpoints

package parking

import "testing"

// TestModelBites shows that the model would see a mistake.
func TestModelBites(t *testing.T) {
	for name, mistake := range map[string]Mistake{
		"overtakes": Overtakes, "runs half decided": RunsHalfDecided, "waits holding": WaitsHolding,
		"keeps holds": KeepsHolds, "forgets who is behind": ForgetsBehind,
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 3000; seed++ {
				m := newModel(seed, func(l *Lot) { l.Plant(mistake) })
				if m.run(); len(m.failed) > 0 {
					t.Logf("found with seed %d: %s", seed, m.failed[0])
					return
				}
			}
			t.Error("the model did not find the mistake")
		})
	}
}
