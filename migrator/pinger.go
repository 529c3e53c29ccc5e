package migrator

import (
	"context"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/metrics"
	"keyferry/internal/topology"
	"keyferry/migrator/flow"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
)

const (
	pingEvery    = 50 * time.Millisecond
	clientWindow = 200 * time.Millisecond // how often clients' latency is read
	firstWindow  = 50 * time.Millisecond
	longestWait  = time.Second // for enough commands in a window
	fewClients   = 20          // commands in a window: fewer say nothing of a p99
	lookEvery    = time.Second // at the marks of the target
)

// ping asks one end again and again how it is, over a connection of its own: what it takes
// to answer PING is what any command waits for. It also steers, so that the governor sees
// silence.
func (m *mover) ping(ctx context.Context, end int, g topology.Group) {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	var l *link.Link
	defer func() { l.Close() }()
	care := tending{saved: -1}
	if end == 1 {
		m.saveAccount(ctx, &care.saved)
	}
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
			if l, err = link.Dial(ctx, m.dialer, g, m.cfg.CallTimeout); err != nil {
				l = nil
				continue // the governor still waits for this answer
			}
			m.gov.PingSent(end, time.Now())
		}
		c, cancel := context.WithTimeout(ctx, m.cfg.CallTimeout)
		if err = l.Conn.Ping(c).Err(); err == nil || joberr.Refused(err) {
			m.gov.PingAnswered(end, time.Now())
			if end == 1 {
				err = m.tend(c, l, &care)
			}
		}
		cancel()
		if err != nil {
			l.Close()
			l = nil
		}
	}
}

// tending is what the target's pinger does besides, and did last.
type tending struct {
	weighedAt time.Time
	lookedAt  time.Time
	saved     int64 // of the account, as Ledger.Account counts changes
	told      bool  // that the target has forgotten
}

// tend weighs the target, and looks whether it still has what it was given: also while nothing is
// sent there, so that an operator hears of it soon.
func (m *mover) tend(ctx context.Context, l *link.Link, care *tending) error {
	if m.room.asked.Swap(false) || time.Since(care.weighedAt) > weighEvery {
		if err := m.weigh(ctx, l); err != nil {
			m.room.ask()
			return err
		}
		care.weighedAt = time.Now()
	}
	if time.Since(care.lookedAt) < lookEvery {
		return nil
	}
	care.lookedAt = time.Now()
	if err := l.Refresh(ctx); err != nil {
		return err
	}
	if err := m.lookAtTarget(ctx, l); joberr.IsForgot(err) {
		if !care.told {
			care.told = true
			m.log.Error("the target has forgotten keys; no other is given up", zap.String("job", m.job), zap.Error(err))
		}
		m.stopFor(err)
	} else if err != nil {
		return err
	}
	m.saveAccount(ctx, &care.saved)
	return nil
}

// The clients' latency is read from counts that only grow, so that nobody has to be asked to
// begin a measurement: what came between two readings is one window. A window with few commands
// says nothing of a p99 and is made longer; with next to none for a second there are no clients
// who could be held up.

// steer runs the governor's clock and tells it of the clients.
func (m *mover) steer(ctx context.Context) {
	t := time.NewTicker(flow.TickEvery)
	defer t.Stop()
	var before waits
	readAt := time.Time{}
	if m.wantClients.Load() { // it is soon to be known whether there are any
		before, readAt = m.waits(ctx), time.Now().Add(firstWindow-clientWindow)
		t.Reset(firstWindow)
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
			readAt = time.Time{} // what has come by the time that it is wanted again is old
		case now.Sub(readAt) >= clientWindow:
			seen := m.waits(ctx)
			p99, n := before.p99(&seen)
			if readAt.IsZero() {
				before, readAt = seen, now
			} else if n == 0 || n >= fewClients || now.Sub(readAt) >= longestWait {
				m.gov.Clients(now, p99)
				before, readAt = seen, now
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
