package migrator

import (
	"testing"
	"time"
)

// TestWaits: what commands take and what clients wait besides is added, of what has come since;
// next to no commands say nothing, however long the rest is.
func TestWaits(t *testing.T) {
	var before waits
	for range 1000 {
		before.commands.Record(time.Second)
		before.besides.Record(time.Second)
	}
	now := before
	for range 100 {
		now.commands.Record(3 * time.Millisecond)
		now.besides.Record(time.Millisecond)
	}
	if p99, n := before.p99(&now); n != 100 || p99 < 4*time.Millisecond || p99 > 5*time.Millisecond {
		t.Errorf("p99 %v of %d", p99, n)
	}
	now.commands = before.commands
	if p99, n := before.p99(&now); n != 0 || p99 != 0 {
		t.Errorf("p99 %v of %d commands", p99, n)
	}
}
