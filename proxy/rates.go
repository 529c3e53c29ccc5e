package proxy

import (
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// rates are the instantaneous figures of INFO: means over the last samples, which are taken
// ten times a second, as in Redis.
type rates struct {
	mu   sync.Mutex // protects list and next
	list [17]rateSample
	next int

	peak atomic.Int64 // most memory that was in use when it was looked at
}

type rateSample struct {
	at           time.Time
	ops, in, out uint64
}

type rateNow struct{ ops, in, out float64 } // per second

func (q *rates) sample(at time.Time, st Stats) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list[q.next] = rateSample{at, st.Commands, st.BytesIn, st.BytesOut}
	q.next = (q.next + 1) % len(q.list)
}

func (q *rates) now() rateNow {
	q.mu.Lock()
	defer q.mu.Unlock()
	last := q.list[(q.next+len(q.list)-1)%len(q.list)]
	first := q.list[q.next] // the oldest, once there are enough
	for i := q.next; first.at.IsZero() && i < len(q.list); i++ {
		first = q.list[i]
	}
	for i := 0; first.at.IsZero() && i < q.next; i++ {
		first = q.list[i]
	}
	d := last.at.Sub(first.at).Seconds()
	if d <= 0 {
		return rateNow{}
	}
	per := func(a, b uint64) float64 { return float64(b-a) / d }
	return rateNow{per(first.ops, last.ops), per(first.in, last.in), per(first.out, last.out)}
}

func (q *rates) reset() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list, q.next = [len(q.list)]rateSample{}, 0
	q.peak.Store(0)
}

// note keeps the peak.
func (q *rates) note(used int64) {
	for {
		old := q.peak.Load()
		if used <= old || q.peak.CompareAndSwap(old, used) {
			return
		}
	}
}

// memoryUse is that of this process, in bytes.
type memoryUse struct {
	used, rss, machine int64
}

// memoryNow does not stop the world, unlike runtime.ReadMemStats.
func memoryNow() memoryUse {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(s)
	n := func(i int) int64 { return int64(s[i].Value.Uint64()) }
	mapped := n(0) - n(1)
	m := memoryUse{used: mapped - n(2) - n(3), rss: mapped}
	// size resident shared …, in pages
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(text)); len(f) > 1 {
			if pages, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				m.rss = pages * int64(os.Getpagesize())
			}
		}
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		if f := strings.Fields(string(text)); len(f) > 1 && f[0] == "MemTotal:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			m.machine = kb << 10
		}
	}
	return m
}

// human is Redis's bytesToHuman.
func human(n int64) string {
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

// mallocStats is the text of MEMORY MALLOC-STATS: what Go's runtime tells.
func mallocStats() string {
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

// releaseMemory collects and gives back what is free. It takes a while.
func releaseMemory() { debug.FreeOSMemory() }
