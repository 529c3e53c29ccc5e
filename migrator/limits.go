package migrator

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"keyferry/internal/metrics"
	"keyferry/internal/topology"
)

// Limits are an operator's ceilings of one job. In a change, nil leaves a limit as it is.
type Limits struct {
	KeysPerS  *float64 // 0: none
	BytesPerS *float64 // 0: none
	Parallel  *int     // 0: the default
	MaxP99Ms  *int     // 0: clients are not looked at
}

const (
	byteBurst   = 1 << 20 // the byte limit lets so much pass at once
	maxParallel = 64
)

// Apply changes the job's limits.
func (l *Limits) Apply(j *topology.Job) {
	if l == nil {
		return
	}
	set(&j.RateKeysPerS, l.KeysPerS)
	set(&j.RateBytesPerS, l.BytesPerS)
	set(&j.Parallel, l.Parallel)
	set(&j.MaxP99Ms, l.MaxP99Ms)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// text is the limits as the history tells them.
func limitsText(j topology.Job) string {
	return fmt.Sprintf("RATE %g BYTES %g PARALLEL %d MAXP99 %d", j.RateKeysPerS, j.RateBytesPerS, j.Parallel, j.MaxP99Ms)
}

// SetClientLatency gives the Manager the data plane's word on how long clients wait: a
// histogram that only grows. Call it before Run.
func (m *Manager) SetClientLatency(f func(context.Context) metrics.Histogram) { m.clients = f }

// Limit changes the ceilings of a job that has not ended, at once and for good.
func (m *Manager) Limit(ctx context.Context, id string, l Limits) error {
	return m.tell(ctx, id, Event{Kind: LimitBy, Limits: &l})
}

// bound applies the job's ceilings to a mover that may be at work.
func (m *mover) bound(j topology.Job) {
	workers := j.Parallel
	if workers <= 0 {
		workers = m.cfg.Parallel
	}
	m.parallel.Store(int64(min(workers, maxParallel)))
	m.limit.SetLimit(limitOf(j.RateKeysPerS))
	m.byteLimit.SetLimit(limitOf(j.RateBytesPerS))
	m.wantClients.Store(j.MaxP99Ms > 0)
	m.gov.bound(workers*flowDepth*m.cfg.BatchMaxKeys, time.Duration(j.MaxP99Ms)*time.Millisecond)
	m.mu.Lock()
	p := m.pool
	m.mu.Unlock()
	if p != nil {
		p.grow()
	}
}

func limitOf(perSecond float64) rate.Limit {
	if perSecond <= 0 {
		return rate.Inf
	}
	return rate.Limit(perSecond)
}

// copyJob is the whole job for an action, beside which its ceilings may be changed.
func (r *runner) copyJob() topology.Job {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	return r.job.Clone()
}

// limit stores new ceilings while the job's action goes on. Of r.job it writes nothing that
// an action reads.
func (r *runner) limit(ctx context.Context, ev Event) error {
	next, err := Step(r.job, ev)
	if err != nil {
		return err
	}
	if err := r.persist(ctx, next); err != nil {
		return err
	}
	r.m.mu.Lock()
	r.job.RateKeysPerS, r.job.RateBytesPerS = next.RateKeysPerS, next.RateBytesPerS
	r.job.Parallel, r.job.MaxP99Ms = next.Parallel, next.MaxP99Ms
	mv := r.mover
	r.m.mu.Unlock()
	if mv != nil {
		mv.bound(next)
	}
	e := jobEvent(next.Phase, next, ev)
	e.AtMs, e.Reason = time.Now().UnixMilli(), limitsText(next)
	r.m.record(ctx, e)
	return nil
}
