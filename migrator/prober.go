package migrator

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"keyferry/internal/metrics"
	"keyferry/internal/topology"
	"keyferry/migrator/flow"
)

const (
	probeEvery  = 50 * time.Millisecond
	memoryEvery = time.Second
	clientEvery = 200 * time.Millisecond
	firstLook   = 50 * time.Millisecond
	longestLook = time.Second
	fewClients  = 20 // commands in a window: fewer say nothing of a p99
)

// fullError says that the target has too little memory left to go on, before it would have
// to refuse the clients' own writes.
type fullError struct{ used, most int64 }

func (e *fullError) Error() string {
	return fmt.Sprintf("it has %d of %d bytes in use (maxmemory): the mover leaves it the rest for its clients", e.used, e.most)
}

// roomIn is how many bytes a target has for the mover; -1 when there is no limit.
func roomIn(i serverInfo) int64 {
	return flow.RoomIn(i.usedBytes, i.maxBytes, i.policy != "noeviction")
}

// roomAgain reports whether a target that was full takes keys again.
func roomAgain(i serverInfo, keyCost int64) bool {
	return flow.RoomAgain(roomIn(i), i.maxBytes, keyCost)
}

// probe asks one end again and again how it is, over a connection of its own: what it takes
// to answer PING is what any command waits for. It also steers, so that the governor sees
// silence.
func (m *mover) probe(ctx context.Context, end int, g topology.Group) {
	t := time.NewTicker(probeEvery)
	defer t.Stop()
	var l *link
	defer func() { l.close() }()
	var memoryAt time.Time
	for first := true; ; first = false {
		if !first {
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
		}
		m.gov.PingSent(end, time.Now())
		var err error
		if l == nil {
			if l, err = dial(ctx, m.dialer, g, m.cfg.CallTimeout); err != nil {
				l = nil
				continue // the governor still waits for this probe
			}
			m.gov.PingSent(end, time.Now())
		}
		c, cancel := context.WithTimeout(ctx, m.cfg.CallTimeout)
		if err = l.conn.Ping(c).Err(); err == nil || refused(err) {
			m.gov.PingAnswered(end, time.Now())
			if end == 1 && (m.mustWeigh.Swap(false) || time.Since(memoryAt) > memoryEvery) {
				if err = m.weigh(c, l); err == nil {
					memoryAt = time.Now()
				} else {
					m.mustWeigh.Store(true)
				}
			}
		}
		cancel()
		if err != nil {
			l.close()
			l = nil
		}
	}
}

// weigh looks at the target's memory.
func (m *mover) weigh(ctx context.Context, l *link) error {
	m.gov.Weighing()
	text, err := l.conn.Info(ctx, "memory").Result()
	if err != nil {
		return err
	}
	i := readInfo(text)
	m.memory.Store(&fullError{i.usedBytes, i.maxBytes})
	m.gov.Weighed(roomIn(i))
	return nil
}

// awaitRoom waits until the target has room for n keys as far as is known. It is looked at
// again as long as that depends on what is under way; a fullError says that it is full.
func (m *mover) awaitRoom(ctx context.Context, n int) error {
	short, _, seen := m.gov.Room(n)
	if !short {
		return nil
	}
	t := time.NewTicker(probeEvery / 2)
	defer t.Stop()
	end := time.NewTimer(m.cfg.CallTimeout)
	defer end.Stop()
	for m.mustWeigh.Store(true); ; {
		select {
		case <-t.C:
		case <-end.C:
			return at(fromTarget, fmt.Errorf("no answer to INFO memory within %v, without which nothing is sent there: %w", m.cfg.CallTimeout, context.DeadlineExceeded))
		case <-ctx.Done():
			return ctx.Err()
		}
		short, full, looks := m.gov.Room(n)
		switch {
		case !short:
			return nil
		case looks == seen:
			continue
		case full:
			return at(fromTarget, m.memory.Load())
		}
		seen = looks
		m.mustWeigh.Store(true)
		end.Reset(m.cfg.CallTimeout)
	}
}

// steer runs the governor's clock and tells it of the clients.
func (m *mover) steer(ctx context.Context) {
	t := time.NewTicker(flow.TickEvery)
	defer t.Stop()
	var before waits
	looked := time.Time{}
	if m.wantClients.Load() { // it is soon to be known whether there are any
		before, looked = m.waits(ctx), time.Now().Add(firstLook-clientEvery)
		t.Reset(firstLook)
	}
	for {
		select {
		case <-t.C:
			t.Reset(flow.TickEvery)
		case <-ctx.Done():
			return
		}
		switch now := time.Now(); {
		case !m.wantClients.Load():
			looked = time.Time{} // what has come by the time that it is wanted again is old
		case now.Sub(looked) >= clientEvery:
			seen := m.waits(ctx)
			p99, n := before.p99(&seen)
			if looked.IsZero() {
				before, looked = seen, now
			} else if n == 0 || n >= fewClients || now.Sub(looked) >= longestLook {
				m.gov.Clients(now, p99)
				before, looked = seen, now
			} // else it is worth to wait for more
		}
		m.gov.Tick(time.Now())
	}
}

// waits is a ClientLatency.
type waits struct{ commands, besides metrics.Histogram }

func (m *mover) waits(ctx context.Context) (w waits) {
	w.commands, w.besides = m.clients(ctx)
	return w
}

// p99 is what of 100 clients that sent a command since all but one waited at most, of n
// commands; 0 of next to nothing. The sum of two p99s is above the p99 of sums, by as much
// with the job as without.
func (w *waits) p99(now *waits) (p99 time.Duration, n uint64) {
	if p99, n = p99Since(&w.commands, &now.commands); p99 > 0 {
		besides, _ := p99Since(&w.besides, &now.besides)
		p99 += besides
	}
	return p99, n
}

// p99Since is the p99 of the n commands that came between two readings of one histogram; 0
// of next to nothing.
func p99Since(before, now *metrics.Histogram) (p99 time.Duration, n uint64) {
	d := metrics.Histogram{MaxNs: now.MaxNs}
	for i, n := range now.Buckets {
		if n >= before.Buckets[i] { // else it was reset
			d.Buckets[i] = n - before.Buckets[i]
			d.Count += d.Buckets[i]
		}
	}
	if d.Count < fewClients {
		return 0, d.Count
	}
	return d.Quantile(0.99), d.Count
}

// admit waits until n keys may be under way: for the operator's ceilings, the governor and
// the target's memory. release must be called with what it returns.
func (m *mover) admit(ctx context.Context, n int) (release func(), err error) {
	stay := m.sweeping.Load()
	if !stay {
		if err := m.awaitRoom(ctx, n); err != nil {
			return nil, err
		}
	}
	if err := within(ctx, m.limit, min(n, m.limit.Burst())); err != nil {
		return nil, err
	}
	for debt := m.stats.unpaid.Swap(0); debt > 0; debt -= byteBurst {
		if err := within(ctx, m.byteLimit, int(min(debt, byteBurst))); err != nil {
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
	if m.byteLimit.Limit() != rate.Inf {
		return nil, false
	}
	now := time.Now()
	tokens := m.limit.ReserveN(now, min(n, m.limit.Burst()))
	if tokens.OK() && tokens.DelayFrom(now) == 0 {
		if g := m.gov.TryGrant(now, n, m.sweeping.Load()); g.OK {
			return func() { m.gov.Release(n, g.Bytes) }, true
		}
	}
	tokens.CancelAt(now)
	return nil, false
}

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
