//go:build failpoints

package sim

import (
	"testing"

	"keyferry/proxy/parking"
)

// TestExplorerBitesParking shows that the explorer would see a mistake in parking, which this
// build can plant there: each must be found.
func TestExplorerBitesParking(t *testing.T) {
	for name, m := range map[string]parking.Mistake{
		"a command passes those that wait for its key":                 parking.Overtakes,
		"a command runs when only one of its keys has been decided":    parking.RunsHalfDecided,
		"a command keeps what it holds while it waits, and beyond":     parking.WaitsHolding,
		"the hold that comes for an expired command is not given back": parking.KeepsHolds,
		"who stands behind a command that has expired is forgotten":    parking.ForgetsBehind,
		"a table comes into force with commands parked for its job":    parking.AdoptsEarly,
		"a parked command does not follow a job that is reversed":      parking.KeepsRoute,
		"a table counts as drained with commands in flight":            parking.DrainsEarly,
	} {
		t.Run(name, func(t *testing.T) {
			seed, _, err := exploreWith(t, Correct, func(l *parking.Lot) { l.Plant(m) }, 20000)
			if err == nil {
				t.Fatal("the explorer did not find the mistake")
			}
			t.Logf("found with seed %d: %v", seed, err)
		})
	}
}
