package proxy

import (
	"context"
	"math"
	"time"

	"keyferry/internal/metrics"
	"keyferry/internal/resp"
	"keyferry/internal/transport"
	"keyferry/internal/upstream"
	"keyferry/proxy/stats"
)

// publish shows what the loop has counted, at the end of a turn.
func (l *loop) publish() {
	n := &l.rec.N
	n[stats.Parked] = uint64(l.parking.Len())
	inFlight := 0
	for _, pipe := range l.servers.pipes {
		inFlight += pipe.InFlight()
	}
	n[stats.InFlight] = uint64(inFlight)
	l.rec.Board.Publish(n)
}

// Stats sums up what the loops have published. Safe from any goroutine.
func (s *Server) Stats() stats.Counts {
	var out stats.Counts
	for _, l := range s.allLoops() {
		out[stats.Loops]++
		l.rec.Board.AddTo(&out)
	}
	out[stats.Clients], out[stats.Rejected] = uint64(max(s.clients.open.Load(), 0)), uint64(s.clients.rejected.Load())
	if eng, ok := s.eng.Load().(transport.Engine); ok {
		out[stats.Unlingered] = eng.Unlingered()
	}
	return out
}

// each runs f for every loop, on that loop, one after the other. Off the loops only. f may still
// run when ctx has ended and each has returned: what it writes to must be its own then, see ask.
func (s *Server) each(ctx context.Context, f func(*loop)) {
	for _, l := range s.allLoops() {
		_ = l.call(ctx, func() { f(l) })
	}
}

// ask has each loop say something, one after the other, and returns what those said that
// answered before ctx ended. What f returns must be a copy that the loop does not change. Off the
// loops only.
func ask[T any](ctx context.Context, s *Server, f func(*loop) T) []T {
	var out []T
	for _, l := range s.allLoops() {
		var x T
		if l.call(ctx, func() { x = f(l) }) == nil { // else f may write to x at any time
			out = append(out, x)
		}
	}
	return out
}

// commandStats is the sum over all loops. Off the loops only.
func (s *Server) commandStats(ctx context.Context) stats.CommandStats {
	sum := stats.NewCommandStats()
	for _, p := range ask(ctx, s, func(l *loop) stats.CommandStats { return l.rec.Calls.Commands() }) {
		sum.Add(p)
	}
	return sum
}

// Latencies is how long commands took from when they were parsed to the last byte of
// their reply, by the command's name ("get", "client|list"), since the start or CONFIG
// RESETSTAT. Commands that no one sent are absent. Not for a loop's goroutine.
func (s *Server) Latencies(ctx context.Context) map[string]metrics.Histogram {
	out := make(map[string]metrics.Histogram)
	counts := s.commandStats(ctx)
	stats.EachCommand(func(c *resp.Command) {
		if h := counts[c.Index].Times; h != nil {
			out[c.Name] = *h
		}
	})
	return out
}

// ErrorCounts is how many error replies clients were given, by code ("ERR", "WRONGTYPE").
// Not for a loop's goroutine.
func (s *Server) ErrorCounts(ctx context.Context) map[string]uint64 {
	out := make(map[string]uint64)
	for _, p := range ask(ctx, s, func(l *loop) map[string]uint64 { return l.rec.Calls.Errors() }) {
		for code, n := range p {
			out[code] += n
		}
	}
	return out
}

// SlowLog is the n newest slow commands, newest first; all that are kept if n is negative.
// Not for a loop's goroutine.
func (s *Server) SlowLog(ctx context.Context, n int) []stats.SlowEntry {
	var all []stats.SlowEntry
	for _, list := range ask(ctx, s, func(l *loop) []stats.SlowEntry { return l.rec.Slow.Entries() }) {
		all = append(all, list...)
	}
	if n < 0 {
		n = math.MaxInt
	}
	return stats.NewestSlow(all, min(n, s.settings.live.Load().SlowMax))
}

func (s *Server) resetSlowLog(ctx context.Context) {
	s.each(ctx, func(l *loop) { l.rec.Slow.Reset() })
}

// HotKeys are the keys met most often of late, the hottest first, at most n. Not for a
// loop's goroutine.
func (s *Server) HotKeys(ctx context.Context, n int) []stats.HotKey {
	parts := ask(ctx, s, func(l *loop) stats.HotPart { return l.rec.Hot.Part(l.ns) })
	s.mu.Lock()
	scheme := s.mu.table.Scheme
	s.mu.Unlock()
	return stats.Hottest(parts, n, scheme.Slot)
}

// BigValues are the big values that came by, the largest first. Not for a loop's
// goroutine.
func (s *Server) BigValues(ctx context.Context) []stats.BigValue {
	var all []stats.BigValue
	for _, list := range ask(ctx, s, func(l *loop) []stats.BigValue { return l.rec.Big.Seen() }) {
		all = append(all, list...)
	}
	return stats.Biggest(all)
}

// resetStats begins anew to count what INFO reports and LATENCY HISTOGRAM shows. What the
// loops have counted in all stays, for those who compute rates of it. Not for a loop's
// goroutine.
func (s *Server) resetStats(ctx context.Context) {
	s.each(ctx, func(l *loop) { l.rec.Reset() })
	s.stats.rates.Reset()
	now := s.Stats()
	s.stats.since.Store(&now)
}

// Sample asks every loop what it has counted: some ten µs on each. Loops that do not
// answer before ctx ends are missing in the sums, and ok is false. Unlike ask it asks all loops
// at once, so that one that is stuck takes nothing of the time of the others. Not for a loop's
// goroutine.
func (s *Server) Sample(ctx context.Context) (out stats.Sample, ok bool) {
	begin := time.Now()
	counts := s.Stats()
	sum := stats.NewAdder(&counts, uint64(s.stats.shared.Slow.Load()), s.opt.SampleEvery)
	loops := s.allLoops()
	parts := make(chan *stats.Part, len(loops)) // a loop that answers too late blocks on nothing
	for _, l := range loops {
		l.post(func() { parts <- l.part() })
	}
	ok = true
	for range loops {
		select {
		case p := <-parts:
			sum.Add(p)
		case <-ctx.Done():
			ok = false
		case <-s.life.ctx.Done():
			ok = false
		}
	}
	out = sum.Sum()
	out.Took = time.Since(begin)
	return out, ok
}

// part is what the loop adds to a Sample.
func (l *loop) part() *stats.Part {
	p := l.rec.Part()
	p.Blocked, p.Buffers, p.Links = int64(len(l.waiters.blocked)+len(l.waiters.pops)), int64(l.clients.memory), l.links()
	return p
}

// links is the state of the loop's shared connections, by group.
func (l *loop) links() map[string]stats.Link {
	out := make(map[string]stats.Link)
	for k, p := range l.servers.pipes {
		x := out[k.group]
		switch p.State() {
		case upstream.Up:
			x.Up++
		case upstream.Connecting:
			x.Connecting++
		case upstream.Down:
			x.Down++
			if err := p.Err(); err != nil {
				x.Error = err.Error()
			}
		}
		x.InFlight += p.InFlight()
		out[k.group] = x
	}
	return out
}
