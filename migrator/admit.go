package migrator

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"keyferry/internal/topology"
	"keyferry/migrator/flow"
)

// admission is everything that a batch of keys has to get past before it is locked: the
// operator's ceilings, the health of both ends, the target's memory, the clients' latency,
// other jobs at the same servers, and who wants that nothing moves.
//
//	ceilings ─► target has room ─► governor ─► places at both ends ─► gate ─► keys are locked
//
// The workers of a pass go all the way; the resolvers, behind whom clients wait, pass the gate
// only. What is written while it is in use: ceilings and parallel, by LIMIT (see bound); the
// rest keeps its own locks.
type admission struct {
	gate   *flow.Gate   // of all jobs of the gateway
	places *flow.Places // likewise; nil: no bound

	gov       *flow.Governor  // how much may be in flight
	batch     *flow.BatchSize // adapted to the lock hold target
	limit     *rate.Limiter   // keys per second
	byteLimit *rate.Limiter   // bytes of DUMPs per second
	unpaid    atomic.Int64    // bytes that byteLimit has not been told of
	parallel  atomic.Int64    // workers of a pass
	crowded   atomic.Int64    // of them, how many wait for places
	room      targetRoom

	clients     ClientLatency // nil: nobody can tell
	wantClients atomic.Bool   // MAXP99 is not off, and there is somebody to ask

	workers currentPool
}

// newAdmission is one without ceilings, at the target of which nothing is known yet.
func newAdmission(cfg *Config) admission {
	return admission{
		gov:       flow.NewGovernor(cfg.BatchMaxKeys, cfg.MemoryLimit, cfg.LockHoldTarget),
		batch:     flow.NewBatchSize(cfg.LockHoldTarget, cfg.BatchMaxKeys),
		limit:     rate.NewLimiter(rate.Inf, cfg.BatchMaxKeys),
		byteLimit: rate.NewLimiter(rate.Inf, byteBurst),
	}
}

// currentPool is the pool of the pass under way, for LIMIT to grow it.
type currentPool struct {
	mu sync.Mutex // protects p
	p  *pool      // nil: none
}

func (c *currentPool) set(p *pool) {
	c.mu.Lock()
	c.p = p
	c.mu.Unlock()
}

// unset forgets p, unless another has come since.
func (c *currentPool) unset(p *pool) {
	c.mu.Lock()
	if c.p == p {
		c.p = nil
	}
	c.mu.Unlock()
}

func (c *currentPool) grow() {
	c.mu.Lock()
	p := c.p
	c.mu.Unlock()
	if p != nil {
		p.grow()
	}
}

// bound applies the job's ceilings to a mover that may be at work.
func (m *mover) bound(j topology.Job) {
	workers := j.Parallel
	if workers <= 0 {
		workers = m.cfg.Parallel
	}
	m.parallel.Store(int64(min(workers, maxParallel)))
	m.limit.SetLimit(limitOf(j.RateKeysPerS))
	m.limit.SetBurst(flow.Burst(j.RateKeysPerS, m.cfg.BatchMaxKeys))
	m.byteLimit.SetLimit(limitOf(j.RateBytesPerS))
	most := m.cfg.mostP99(j.MaxP99Ms)
	if m.clients == nil {
		most = -1 // nobody will ever tell of them
	}
	m.wantClients.Store(most >= 0)
	m.slice.lasts(j.Slice.Work)
	m.gov.Bound(workers*flowDepth*m.cfg.BatchMaxKeys, most)
	m.workers.grow()
}

// limitOf makes a ceiling of a setting, where 0 is none.
func limitOf(perSecond float64) rate.Limit {
	if perSecond <= 0 {
		return rate.Inf
	}
	return rate.Limit(perSecond)
}

// admit waits until n keys may be under way: for the operator's ceilings, the governor and
// the target's memory. release must be called with what it returns. A sweep moves nothing, and
// neither the ceilings nor the memory are about it.
func (m *mover) admit(ctx context.Context, n int) (release func(), err error) {
	stay := m.sweeping.on.Load()
	if !stay {
		if err := m.awaitRoom(ctx, n); err != nil {
			return nil, err
		}
		if err := m.awaitCeilings(ctx, n); err != nil {
			return nil, err
		}
	}
	for {
		g := m.gov.Grant(time.Now(), n, stay)
		switch {
		case g.OK:
			if g.Rest > 0 {
				sleep(ctx, g.Rest)
			}
			return func() { m.gov.Release(n, g.Bytes) }, nil
		case g.Short: // others were faster
			if err := m.awaitRoom(ctx, n); err != nil {
				return nil, err
			}
			continue
		}
		select {
		case <-g.Freed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// awaitCeilings waits until the operator's let n keys pass, and the bytes of those before are paid for.
func (m *mover) awaitCeilings(ctx context.Context, n int) error {
	if err := within(ctx, m.limit, min(n, m.limit.Burst())); err != nil {
		return err
	}
	for debt := m.unpaid.Swap(0); debt > 0; debt -= byteBurst {
		if err := within(ctx, m.byteLimit, int(min(debt, byteBurst))); err != nil {
			return err
		}
	}
	return nil
}

// limitEvery is how soon a ceiling that has been changed is heeded by who waits for it.
const limitEvery = 100 * time.Millisecond

// within waits until a ceiling lets n pass. Limiter.WaitN would wait as long as the ceiling
// asked for that stood when it was called, which after a change may be for hours.
func within(ctx context.Context, l *rate.Limiter, n int) error {
	for !l.AllowN(time.Now(), n) {
		wait := (float64(n) - l.Tokens()) / float64(l.Limit()) // s
		sleep(ctx, max(time.Duration(min(wait, limitEvery.Seconds())*float64(time.Second)), time.Millisecond))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// tryAdmit is admit where waiting is out of the question. What is refused costs nothing.
func (m *mover) tryAdmit(n int) (release func(), ok bool) {
	now := time.Now()
	if m.sweeping.on.Load() {
		return m.tryGrant(now, n, true)
	}
	if m.byteLimit.Limit() != rate.Inf {
		return nil, false
	}
	tokens := m.limit.ReserveN(now, min(n, m.limit.Burst()))
	if tokens.OK() && tokens.DelayFrom(now) == 0 {
		if release, ok = m.tryGrant(now, n, false); ok {
			return release, true
		}
	}
	tokens.CancelAt(now)
	return nil, false
}

// tryGrant is the governor's part of tryAdmit.
func (m *mover) tryGrant(now time.Time, n int, stay bool) (release func(), ok bool) {
	g := m.gov.TryGrant(now, n, stay)
	return func() { m.gov.Release(n, g.Bytes) }, g.OK
}

// takePlaces waits until a batch may be under way at both ends, as far as other jobs go.
func (m *mover) takePlaces(ctx context.Context, b *batch) error {
	leave, ok := m.places.Try(m.source.ID, m.target.ID)
	if !ok {
		m.crowded.Add(1)
		defer m.crowded.Add(-1)
		var err error
		if leave, err = takePlaces(ctx, m.places, m.source.ID, m.target.ID); err != nil {
			return err
		}
	}
	b.over = append(b.over, leave)
	return nil
}

// sleep waits, and less if ctx ends: whoever cares looks at ctx.Err afterwards.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

const crowdedText = "other jobs have all places at a group (migration.group-parallel)"

// throttle says what holds the mover back: trouble first, then the operator's ceilings.
func (m *mover) throttle(f flow.Status) string {
	switch {
	case f.Reason != "":
		return f.Reason
	case m.limit.Tokens() < 1:
		return "RATE"
	case m.byteLimit.Tokens() < 1:
		return "BYTES"
	case m.crowded.Load() > 0:
		return crowdedText
	}
	return ""
}
