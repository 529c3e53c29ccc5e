package proxy

import (
	"testing"
	"time"

	"keyferry/proxy/stats"
)

// cpuTime is what this process, and so the data plane, has used of the processors. It does not
// pass while the machine is busy with others.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	user, sys := stats.CPUTimes()
	if user+sys == 0 {
		t.Fatal("the processor time of this process is not known")
	}
	return user + sys
}

// costOf is the processor time that f takes.
func costOf(t *testing.T, f func()) time.Duration {
	t.Helper()
	before := cpuTime(t)
	f()
	return cpuTime(t) - before
}
