package proxy

import (
	"context"
	"sync"
	"time"

	"keyferry/internal/metrics"
	"keyferry/internal/resp"
	"keyferry/proxy/stats"
)

// hops measures what a client waits for that no loop can see: from its bytes' being there to
// the loop's running, and from the loop's reply to the client's running. On two busy cores that
// was as long as everything else. It is taken from a goroutine that has loops do nothing
// and waits for that, again and again, as long as somebody asks.
type hops struct {
	mu      sync.Mutex // protects all below
	seen    metrics.Histogram
	until   time.Time // asked for
	running bool
}

const (
	hopEvery = 2 * time.Millisecond // of all loops, one after the other
	hopsFor  = 2 * time.Second      // after they have been asked for
)

// hopLatency is what has been measured so far; it goes on for hopsFor.
//
// Nobody asks, nothing is measured: the goroutine ends by itself some seconds after the last
// question.
func (s *Server) hopLatency() metrics.Histogram {
	h := &s.stats.hops
	h.mu.Lock()
	defer h.mu.Unlock()
	h.until = time.Now().Add(hopsFor)
	if !h.running && s.life.ctx.Err() == nil {
		h.running = true
		go s.hop()
	}
	return h.seen
}

// hop: loops come and go with their transport's first events, so the list is taken anew at the end
// of each round.
func (s *Server) hop() {
	t := time.NewTicker(hopEvery)
	defer t.Stop()
	loops := s.allLoops()
	for i := 0; ; i++ {
		select {
		case <-t.C:
		case <-s.life.ctx.Done():
			return
		}
		if i >= len(loops) {
			i, loops = 0, s.allLoops()
		}
		var took time.Duration
		if len(loops) > 0 {
			begun := time.Now()
			if loops[i].call(s.life.ctx, func() {}) != nil {
				return
			}
			took = time.Since(begun)
		}
		if !s.stats.hops.took(took) {
			return
		}
	}
}

// took counts one; false: nobody wants more.
func (h *hops) took(d time.Duration) (more bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d > 0 {
		h.seen.Record(d)
	}
	h.running = time.Now().Before(h.until)
	return h.running
}

// ClientLatency says how long clients wait: the sum of two histograms that only grow. One is
// Latencies of all commands together but those that may block, which wait because their
// clients want it; the other is of what loops can't see of them, as hops has it. Not for a
// loop's goroutine.
func (s *Server) ClientLatency(ctx context.Context) (commands, hops metrics.Histogram) {
	counts := s.commandStats(ctx)
	stats.EachCommand(func(c *resp.Command) {
		if h := counts[c.Index].Times; h != nil && c.Flags&resp.Blocking == 0 {
			commands.Add(h)
		}
	})
	return commands, s.hopLatency()
}
