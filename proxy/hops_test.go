package proxy

import (
	"context"
	"testing"
	"time"

	"keyferry/internal/testredis"
)

// TestHops: what a client waits for because a loop is busy is seen, as long as somebody asks,
// though no command takes long.
func TestHops(t *testing.T) {
	s, addr := startProxy(t, testredis.StartT(t))
	ctx := context.Background()
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	if err := c.Ping(ctx).Err(); err != nil { // there is a loop
		t.Fatal(err)
	}
	await := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(hangBound); !is(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("no ", what)
			}
		}
	}
	await("hops", func() bool { _, h := s.ClientLatency(ctx); return h.Count > 20 })
	const busy = 50 * time.Millisecond
	await("hop that waited for a busy loop", func() bool {
		s.each(ctx, func(*loop) { time.Sleep(busy) }) // again, should nobody have asked meanwhile
		_, h := s.ClientLatency(ctx)
		return h.MaxNs > uint64(busy/2)
	})
	s.stats.hops.mu.Lock()
	s.stats.hops.until = time.Time{}
	s.stats.hops.mu.Unlock()
	await("end", func() bool {
		s.stats.hops.mu.Lock()
		defer s.stats.hops.mu.Unlock()
		return !s.stats.hops.running
	})
	_, before := s.ClientLatency(ctx)
	await("second beginning", func() bool { _, h := s.ClientLatency(ctx); return h.Count > before.Count })
}
