package parking

// Mistake is one that the explorer in test/sim plants here, to show that it would find it.
// Only a build with the tag failpoints can make one.
type Mistake uint8

// The mistakes.
const (
	None            Mistake = iota
	Overtakes               // a command passes those that wait for its key
	RunsHalfDecided         // a command with several keys runs when one of them is held
	WaitsHolding            // a command that waits for one of its keys keeps the others, beyond its deadline
	KeepsHolds              // the hold that comes for a command that has expired is not given back
	ForgetsBehind           // who stands behind a command that has expired is not asked about
	AdoptsEarly             // a table comes into force with commands parked for a job that it ended
	KeepsRoute              // a parked command does not follow a job that is reversed
	DrainsEarly             // a table counts as drained with commands in flight
)
