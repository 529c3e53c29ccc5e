package migrator

import (
	"context"
	"fmt"
	"strconv"
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
	MaxP99Ms  *int     // 0: as configured; or MaxP99Off, MaxP99Auto
	Slice     *topology.Slice
}

const (
	byteBurst   = 1 << 20 // the byte limit lets so much pass at once
	maxParallel = 64
)

// What a job's MaxP99Ms can be besides a number of milliseconds and 0, which is as
// configured.
const (
	MaxP99Off  = -1 // clients are not looked at
	MaxP99Auto = -2 // boundFactor of what clients wait without the job
)

// mostP99 is a job's MaxP99Ms as pace wants it.
func (c *Config) mostP99(ms int) time.Duration {
	if ms == MaxP99Off || ms == 0 && !c.MaxP99Auto {
		return -1
	}
	return time.Duration(max(ms, 0)) * time.Millisecond
}

// Apply changes the job's limits.
func (l *Limits) Apply(j *topology.Job) {
	if l == nil {
		return
	}
	set(&j.RateKeysPerS, l.KeysPerS)
	set(&j.RateBytesPerS, l.BytesPerS)
	set(&j.Parallel, l.Parallel)
	set(&j.MaxP99Ms, l.MaxP99Ms)
	set(&j.Slice, l.Slice)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// text is the limits as the history tells them.
func limitsText(j topology.Job) string {
	return fmt.Sprintf("RATE %g BYTES %g PARALLEL %d MAXP99 %s SLICE %v", j.RateKeysPerS, j.RateBytesPerS, j.Parallel, MaxP99Text(j.MaxP99Ms), j.Slice)
}

// MaxP99Text is a job's MAXP99 as it is said.
func MaxP99Text(ms int) string {
	switch ms {
	case 0:
		return "as configured"
	case MaxP99Off:
		return "off"
	case MaxP99Auto:
		return "auto"
	}
	return strconv.Itoa(ms)
}

// ClientLatency is the data plane's word on how long clients wait: the sum of two histograms
// that only grow, what commands take and what clients wait besides.
type ClientLatency func(context.Context) (commands, besides metrics.Histogram)

// SetClientLatency tells the Manager whom to ask about clients. Call it before Run.
func (m *Manager) SetClientLatency(f ClientLatency) { m.clients = f }

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
	m.limit.SetBurst(burstOf(j.RateKeysPerS, m.cfg.BatchMaxKeys))
	m.byteLimit.SetLimit(limitOf(j.RateBytesPerS))
	most := m.cfg.mostP99(j.MaxP99Ms)
	if m.clients == nil {
		most = -1 // nobody will ever tell of them
	}
	m.wantClients.Store(most >= 0)
	m.slice.lasts(j.Slice.Work)
	m.gov.bound(workers*flowDepth*m.cfg.BatchMaxKeys, most)
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

// burstOf is how many keys may go at once under a ceiling: those of a hundredth of a second, and
// no more than a batch has at most.
func burstOf(perSecond float64, most int) int {
	if perSecond <= 0 {
		return most
	}
	return max(1, min(most, int(perSecond/100)))
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
	r.job.Parallel, r.job.MaxP99Ms, r.job.Slice = next.Parallel, next.MaxP99Ms, next.Slice
	if resting(&next) {
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
	e := jobEvent(next.Phase, next, ev)
	e.AtMs, e.Reason = time.Now().UnixMilli(), limitsText(next)
	r.m.record(ctx, e)
	return nil
}
