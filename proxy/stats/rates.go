package stats

import (
	"sync"
	"sync/atomic"
	"time"
)

// Rates are the instantaneous figures of INFO: means over the last samples, which the server's
// ticker takes ten times a second, as Redis does. Any goroutine may call its methods.
type Rates struct {
	mu   sync.Mutex // protects list and next
	list [17]rateSample
	next int // the oldest of list, and the next that is replaced

	peak atomic.Int64 // bytes: the most memory that was in use when somebody looked
}

type rateSample struct {
	at           time.Time
	ops, in, out uint64
}

// Rate is what comes to pass in a second: commands, and bytes from and to clients.
type Rate struct{ Ops, In, Out float64 }

// Sample notes what had been counted at a time.
func (q *Rates) Sample(at time.Time, c *Counts) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list[q.next] = rateSample{at, c[Commands], c[BytesIn], c[BytesOut]}
	q.next = (q.next + 1) % len(q.list)
}

// Now is the mean rate over the samples that there are; 0 before there are two.
func (q *Rates) Now() Rate {
	q.mu.Lock()
	defer q.mu.Unlock()
	last := q.list[(q.next+len(q.list)-1)%len(q.list)]
	first := q.list[q.next]
	for i := 1; first.at.IsZero() && i < len(q.list); i++ { // the ring is not full yet
		first = q.list[(q.next+i)%len(q.list)]
	}
	d := last.at.Sub(first.at).Seconds()
	if d <= 0 {
		return Rate{}
	}
	per := func(a, b uint64) float64 { return float64(b-a) / d }
	return Rate{per(first.ops, last.ops), per(first.in, last.in), per(first.out, last.out)}
}

// Reset forgets all samples and the peak.
func (q *Rates) Reset() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list, q.next = [len(q.list)]rateSample{}, 0
	q.peak.Store(0)
}

// NotePeak keeps the largest of the bytes that it is given.
func (q *Rates) NotePeak(used int64) {
	for {
		old := q.peak.Load()
		if used <= old || q.peak.CompareAndSwap(old, used) {
			return
		}
	}
}

// Peak is the most bytes that NotePeak was given since the last Reset.
func (q *Rates) Peak() int64 { return q.peak.Load() }
