package proxy

import (
	"syscall"
	"testing"
	"time"
)

// cpuTime is what this process, and so the data plane, has used of the processors. It does not
// pass while the machine is busy with others.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// costOf is the processor time that f takes.
func costOf(t *testing.T, f func()) time.Duration {
	t.Helper()
	before := cpuTime(t)
	f()
	return cpuTime(t) - before
}
