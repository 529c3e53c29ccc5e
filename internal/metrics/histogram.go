// Package metrics holds what the gateway measures of itself. It is a leaf: nothing of the
// project is imported here.
package metrics

import (
	"math/bits"
	"time"
)

const (
	histUnit    = 1024 // ns: what is shorter falls into the first bucket
	histPerOct  = 4    // buckets for each doubling: a quantile is at most 25 % too large
	histOctaves = 31   // up to about 1,100 s
	// HistBuckets is the number of buckets of a Histogram.
	HistBuckets = histPerOct*histOctaves + 1
)

// Histogram counts durations in buckets that grow by octaves with four steps each. Its
// zero value is empty. It is not safe for concurrent use: each loop has its own, and a
// reader merges copies.
type Histogram struct {
	Count   uint64
	SumNs   uint64
	MaxNs   uint64
	Buckets [HistBuckets]uint64
}

func bucketOf(ns uint64) int {
	if ns < histUnit {
		return 0
	}
	oct := bits.Len64(ns/histUnit) - 1
	sub := int(ns>>(oct+8)) & (histPerOct - 1) // the two bits below the leading one
	return min(1+oct*histPerOct+sub, HistBuckets-1)
}

// BucketEndNs is the largest duration of bucket i, in ns.
func BucketEndNs(i int) uint64 {
	if i == 0 {
		return histUnit - 1
	}
	oct, sub := (i-1)/histPerOct, (i-1)%histPerOct
	return histUnit<<oct + uint64(sub+1)*(histUnit<<oct)/histPerOct - 1
}

// Record counts one duration.
func (h *Histogram) Record(d time.Duration) {
	ns := uint64(max(d, 0))
	h.Count++
	h.SumNs += ns
	h.MaxNs = max(h.MaxNs, ns)
	h.Buckets[bucketOf(ns)]++
}

// Add merges another histogram into h.
func (h *Histogram) Add(o *Histogram) {
	h.Count += o.Count
	h.SumNs += o.SumNs
	h.MaxNs = max(h.MaxNs, o.MaxNs)
	for i, n := range o.Buckets {
		h.Buckets[i] += n
	}
}

// Quantile is a duration that the fraction q (0 to 1) of all does not exceed: the end of
// its bucket, or the largest seen. An empty histogram gives 0.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.Count == 0 {
		return 0
	}
	rank := uint64(q*float64(h.Count) + 0.5)
	rank = min(max(rank, 1), h.Count)
	seen := uint64(0)
	for i, n := range h.Buckets {
		if seen += n; seen >= rank {
			return time.Duration(min(BucketEndNs(i), h.MaxNs))
		}
	}
	return time.Duration(h.MaxNs)
}

// Since is what was recorded after h was equal to before; all of h if it was reset since.
func (h *Histogram) Since(before *Histogram) Histogram {
	if h.Count < before.Count || h.SumNs < before.SumNs {
		return *h
	}
	d := Histogram{Count: h.Count - before.Count, SumNs: h.SumNs - before.SumNs}
	for i, n := range h.Buckets {
		if n < before.Buckets[i] {
			return *h
		}
		if d.Buckets[i] = n - before.Buckets[i]; d.Buckets[i] > 0 {
			d.MaxNs = min(BucketEndNs(i), h.MaxNs)
		}
	}
	return d
}
