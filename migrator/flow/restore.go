package flow

import (
	"math"
	"time"
)

// restoring is how the target fares with RESTORE, by rounds of small keys that had to be waited for.
//
//	late:  took > lateFactor × baseline × units + what a probe takes + 3 × hold
//	             └── what is in the round ───────┘ └── what any round takes, however small ──┘
//
// A round says whether it was late, and no more: one that took very long is one. And a round that was
// under way while the target was busy with a large value of ours says nothing: it has waited for that.
type restoring struct {
	each latency   // for each unit of work
	late float64   // share of the rounds that were, smoothed
	at   time.Time // of the last one

	large   int       // rounds with large values that are under way
	largeAt time.Time // when the last of them was over
}

const (
	largeRound = 128 * unitBytes // bytes of a round that keep a target busy for long, by far for longest if they are of a hash
	mostlyLate = 0.5
)

// Sent tells that a round of RESTOREs with so many bytes has been sent, and Heard that it has been
// answered, or that nobody listens any more.
func (g *Governor) Sent(bytes int) {
	if bytes < largeRound {
		return
	}
	g.mu.Lock()
	g.restore.large++
	g.mu.Unlock()
}

// Heard: see Sent.
func (g *Governor) Heard(now time.Time, bytes int) {
	if bytes < largeRound {
		return
	}
	g.mu.Lock()
	g.restore.large--
	g.restore.largeAt = now
	g.mu.Unlock()
}

// Restored tells how long a round of RESTOREs took.
func (g *Governor) Restored(now time.Time, d time.Duration, keys, bytes int) {
	if keys == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	r := &g.restore
	if bytes >= largeRound || r.large > 0 || now.Add(-d).Before(r.largeAt) {
		return
	}
	units := time.Duration(keys + bytes/unitBytes)
	if now.Sub(r.at) > oldNews { // what was before says nothing of now
		r.each.now, r.late = d/units, 0
	}
	r.at = now
	late := 0.0
	if r.each.base > 0 && d > lateFactor*r.each.base*units+g.ends[1].median()+3*g.hold {
		late = 1
	}
	r.late += (late - r.late) / 4
	r.each.add(d / units)
}

// suffers reports that the target is slow with what it is given.
func (r *restoring) suffers(now time.Time) bool {
	return now.Sub(r.at) < staleNews && r.late > mostlyLate
}

// sizes are those that keys had so far, for two ends. Where memory is at stake larger ones count at
// once, and smaller ones slowly. Where work is, a large value counts when it has been met: the
// small keys behind it are no more work for that.
type sizes struct {
	most    float64 // bytes of one key: what the next ones are thought to have at most
	typical float64 // … and to have, large values apart
}

// typicalMost is what a key counts for at most in what is typical; the rest is paid for afterwards.
const typicalMost = 16 * unitBytes

// Sized tells the sizes of keys that the target has restored.
func (g *Governor) Sized(bytes ...int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.memory.done += int64(len(bytes))
	for _, n := range bytes {
		b := float64(n)
		if b > g.size.most {
			g.size.most += (b - g.size.most) / 2
		} else {
			g.size.most += (b - g.size.most) / 64
		}
		g.size.typical += (math.Min(b, typicalMost) - g.size.typical) / 64
		if b > typicalMost {
			g.pace.owe((b - typicalMost) / unitBytes)
		}
	}
}

// work is what n keys count for in pace, before it is known how large they are. mu is held.
func (g *Governor) work(n int) float64 { return float64(n) * (1 + g.size.typical/unitBytes) }
