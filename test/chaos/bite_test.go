package chaos

import (
	"strings"
	"testing"
	"time"

	"keyferry/internal/failpoint"
)

// biteBound is for machines on which little happens in a round.
const biteBound = 3 * time.Minute

// TestEngineBites: the engine must find mistakes that are planted in the gateway, or its
// silence means nothing.
func TestEngineBites(t *testing.T) {
	for _, c := range []struct {
		plant string
		plan  plan
		old   bool // the source restarts from an old dump, and the gateway with it
	}{
		{failpoint.PlantEarlyUnlock, plan{clients: 8, keys: 20, faults: 3 * time.Second, operator: true}, false},
		{failpoint.PlantNoCreated, plan{clients: 8, keys: 20, filler: 1500, faults: 3 * time.Second, operator: true}, false},
		{failpoint.PlantReplace, plan{filler: 500}, true},
	} {
		t.Run(c.plant, func(t *testing.T) {
			w := newWorld(t, 1, 3, c.plant+"=on")
			w.fill(c.plan.filler)
			for round := 0; (round < 8 || w.since() < biteBound) && len(w.failures()) == 0; round++ {
				if c.old {
					w.oldDump(round, oldDumpAndKill)
				} else {
					w.round(round, c.plan)
				}
			}
			t.Log(w.counted())
			found := w.failures()
			if len(found) == 0 {
				t.Fatalf("%s was not found", c.plant)
			}
			what, _, _ := strings.Cut(found[0], "\n")
			t.Logf("found: %s", what)
		})
	}
}
