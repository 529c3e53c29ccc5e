package stats

import (
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// CPUTimes is what this process has used so far.
func CPUTimes() (user, sys time.Duration) {
	var ru syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) != nil {
		return 0, 0
	}
	return time.Duration(ru.Utime.Nano()), time.Duration(ru.Stime.Nano())
}

// Memory is that of this process and its machine, in bytes.
type Memory struct {
	Used    int64 // by what lives, and by what has died since the last collection
	RSS     int64 // what the kernel has given it
	Machine int64 // all that the machine has; 0: not known
}

// MemoryNow does not stop the world, unlike runtime.ReadMemStats.
func MemoryNow() Memory {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(s)
	n := func(i int) int64 { return int64(s[i].Value.Uint64()) }
	mapped := n(0) - n(1)
	m := Memory{Used: mapped - n(2) - n(3), RSS: mapped}
	// size resident shared …, in pages
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(text)); len(f) > 1 {
			if pages, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				m.RSS = pages * int64(os.Getpagesize())
			}
		}
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		if f := strings.Fields(string(text)); len(f) > 1 && f[0] == "MemTotal:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			m.Machine = kb << 10
		}
	}
	return m
}

// Human is Redis's bytesToHuman.
func Human(n int64) string {
	for i, unit := range []string{"B", "K", "M", "G", "T", "P"} {
		if n < 1<<(10*(i+1)) || unit == "P" {
			if i == 0 {
				return fmt.Sprintf("%dB", n)
			}
			return fmt.Sprintf("%.2f%s", float64(n)/float64(int64(1)<<(10*i)), unit)
		}
	}
	return ""
}

// MallocStats is the text of MEMORY MALLOC-STATS: what Go's runtime tells.
func MallocStats() string {
	all := metrics.All()
	samples := make([]metrics.Sample, 0, len(all))
	for _, d := range all {
		if strings.HasPrefix(d.Name, "/memory/") || strings.HasPrefix(d.Name, "/gc/") {
			samples = append(samples, metrics.Sample{Name: d.Name})
		}
	}
	metrics.Read(samples)
	var b strings.Builder
	for _, x := range samples {
		switch x.Value.Kind() {
		case metrics.KindUint64:
			fmt.Fprintf(&b, "%s %d\n", x.Name, x.Value.Uint64())
		case metrics.KindFloat64:
			fmt.Fprintf(&b, "%s %g\n", x.Name, x.Value.Float64())
		}
	}
	return b.String()
}

// ReleaseMemory collects and gives back what is free. It takes a while.
func ReleaseMemory() { debug.FreeOSMemory() }
