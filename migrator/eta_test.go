package migrator

import (
	"testing"

	"keyferry/internal/topology"
)

// TestEtaHeedsLimits: a limit counts from when it is set, and not from when the last second under
// the former one is over.
func TestEtaHeedsLimits(t *testing.T) {
	for _, x := range []struct {
		rate     int64
		limits   topology.JobLimits
		keyBytes float64
		want     int64
	}{
		{0, topology.JobLimits{}, 0, -1}, {0, topology.JobLimits{RateKeysPerS: 10}, 0, -1}, {100, topology.JobLimits{}, 0, 10},
		{100, topology.JobLimits{RateKeysPerS: 10}, 0, 100}, {100, topology.JobLimits{RateKeysPerS: 1000}, 0, 10},
		{100, topology.JobLimits{RateBytesPerS: 1000}, 50, 50}, {100, topology.JobLimits{RateBytesPerS: 1000}, 0, 10},
	} {
		if got := eta(1000, x.rate, x.limits, x.keyBytes); got != x.want {
			t.Errorf("1000 keys at %d/s with %+v: %d s, want %d", x.rate, x.limits, got, x.want)
		}
	}
}
