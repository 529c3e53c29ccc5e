package migrator

import (
	"context"
	"time"

	"keyferry/internal/metrics"
	"keyferry/internal/topology"
	"keyferry/migrator/job"
)

const (
	byteBurst   = 1 << 20 // the byte limit lets so much pass at once
	maxParallel = 64
)

// mostP99 is a job's MaxP99Ms as pace wants it.
func (c *Config) mostP99(ms int) time.Duration {
	if ms == job.MaxP99Off || ms == 0 && !c.MaxP99Auto {
		return -1
	}
	return time.Duration(max(ms, 0)) * time.Millisecond
}

// ClientLatency is the data plane's word on how long clients wait: the sum of two histograms
// that only grow, what commands take and what clients wait besides.
type ClientLatency func(context.Context) (commands, besides metrics.Histogram)

// SetClientLatency tells the Manager whom to ask about clients. Call it before Begin.
func (m *Manager) SetClientLatency(f ClientLatency) { m.plane.clients = f }

// Limit changes the ceilings of a job that has not ended, at once and for good.
func (m *Manager) Limit(ctx context.Context, id string, l job.Limits) error {
	return m.tell(ctx, id, job.Event{Kind: job.LimitBy, Limits: &l}, nil)
}

// copyJob is the whole job for an action, beside which its ceilings may be changed.
func (r *runner) copyJob() topology.Job {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	return r.job.Clone()
}

// limit stores new ceilings while the job's action goes on. Of r.job it writes nothing that
// an action reads.
//
// LIMIT is the one verb that does not stop the action: an operator who finds that a job goes too
// fast must not have to pay with a pass that begins anew.
func (r *runner) limit(ctx context.Context, ev job.Event) error {
	next, err := job.Step(r.job, ev)
	if err != nil {
		return err
	}
	if err := r.persist(ctx, next); err != nil {
		return err
	}
	r.m.mu.Lock()
	r.job.RateKeysPerS, r.job.RateBytesPerS = next.RateKeysPerS, next.RateBytesPerS
	r.job.Parallel, r.job.MaxP99Ms, r.job.Slice = next.Parallel, next.MaxP99Ms, next.Slice
	if job.Resting(&next) {
		r.job.NextTryAtMs = next.NextTryAtMs
	}
	mv := r.mover
	r.m.mu.Unlock()
	select {
	case r.relimited <- struct{}{}:
	default:
	}
	if mv != nil {
		mv.bound(next)
	}
	e := job.Record(next.Phase, next, ev)
	e.AtMs, e.Reason = time.Now().UnixMilli(), job.LimitsText(next)
	r.m.record(ctx, e)
	return nil
}
