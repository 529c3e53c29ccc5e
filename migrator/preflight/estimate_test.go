package preflight

import (
	"testing"
	"time"

	"keyferry/internal/topology"
)

// TestExpectedHeedsLimits: no job is faster than it may be, and one that was held back says
// nothing of others.
func TestExpectedHeedsLimits(t *testing.T) {
	past := func(change func(*topology.Job)) topology.State {
		var j topology.Job
		j.Phase, j.KeysMoved, j.StartedAtMs, j.EndedAtMs = topology.Done, 10_000, 1, 10_001 // 1000 keys/s
		slow := j.Clone()
		slow.EndedAtMs = 1_000_001
		change(&slow)
		return topology.State{Jobs: []topology.Job{j, slow}}
	}
	none := func(*topology.Job) {}
	slice := topology.Slice{Work: time.Second, Rest: 4 * time.Second}
	for _, x := range []struct {
		name        string
		st          topology.State
		keys, bytes int64
		limits      topology.JobLimits
		want        int64
	}{
		{"by the newest", past(none), 5000, 0, topology.JobLimits{}, 500},
		{"not by one with a RATE", past(func(j *topology.Job) { j.RateKeysPerS = 10 }), 5000, 0, topology.JobLimits{}, 5},
		{"not by one with BYTES", past(func(j *topology.Job) { j.RateBytesPerS = 10 }), 5000, 0, topology.JobLimits{}, 5},
		{"not by one with slices", past(func(j *topology.Job) { j.Slices = 3 }), 5000, 0, topology.JobLimits{}, 5},
		{"RATE", topology.State{}, 5000, 100, topology.JobLimits{RateKeysPerS: 10}, 500},
		{"a RATE that is above what it can", past(func(j *topology.Job) { j.Slices = 3 }), 5000, 0, topology.JobLimits{RateKeysPerS: 1e6}, 5},
		{"BYTES", topology.State{}, 10, 5000, topology.JobLimits{RateBytesPerS: 100}, 50},
		{"SLICE", past(func(j *topology.Job) { j.Slices = 3 }), 5000, 0, topology.JobLimits{Slice: slice}, 25},
		{"RATE and SLICE", topology.State{}, 100, 0, topology.JobLimits{RateKeysPerS: 10, Slice: slice}, 50},
		{"bytes not known", topology.State{}, 100, -1, topology.JobLimits{RateBytesPerS: 1}, 1},
		{"for ever", topology.State{}, 1 << 62, 0, topology.JobLimits{RateKeysPerS: 1e-9}, 1 << 62},
	} {
		if got := Expected(x.st, x.keys, x.bytes, x.limits); got != x.want {
			t.Errorf("%s: %d s, want %d", x.name, got, x.want)
		}
	}
}
