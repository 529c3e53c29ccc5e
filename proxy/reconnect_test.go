package proxy

import (
	"context"
	"strconv"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/internal/upstream"
)

// TestServerEndsAnIdleConnection, as one does that has a timeout: no client sees it.
func TestServerEndsAnIdleConnection(t *testing.T) {
	server := testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops, o.ReconnectMin = 1, time.Minute }, server)
	ctx := context.Background()
	c := dialLine(t, addr)
	c.send("SET k v\n")
	c.expect("+OK")
	pipe := func() (id int64, up bool) {
		s.each(ctx, func(l *loop) {
			for _, p := range l.pipes {
				id, up = p.ClientID(), p.State() == upstream.Up
			}
		})
		return id, up
	}
	for range 3 {
		first, _ := pipe()
		if err := server.Client().Do(ctx, "CLIENT", "KILL", "ID", strconv.FormatInt(first, 10)).Err(); err != nil {
			t.Fatal(err)
		}
		for id, up := pipe(); up && id == first; id, up = pipe() {
			time.Sleep(time.Millisecond)
		}
		c.send("GET k\n")
		c.expect("$1", "v")
	}
}
