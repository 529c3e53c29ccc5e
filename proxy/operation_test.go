package proxy

import (
	"context"
	"strings"
	"testing"

	"keyferry/internal/faultproxy"
	"keyferry/internal/resp"
	"keyferry/internal/testredis"
)

// ear is an observer that tells what it hears.
type ear struct{ heard chan string }

func (e ear) answered(_ *request, b []byte) { e.heard <- string(b) }
func (e ear) failed(_ *request, sent bool) {
	if sent {
		e.heard <- "failed"
	} else {
		e.heard <- "not sent"
	}
}

// TestObserversOfARequest: every one is told once how the request has ended, before the
// client is.
func TestObserversOfARequest(t *testing.T) {
	onEachTransport(t, func(t *testing.T, s *Server, addr string, _ *testredis.Server, link *faultproxy.Proxy) {
		c := dialLine(t, addr)
		c.send("SET k 1\n")
		c.expect("+OK")
		one, other := ear{make(chan string, 8)}, ear{make(chan string, 8)}
		incr := func(key string, then func()) {
			s.each(context.Background(), func(l *loop) {
				for client := range l.clients.all {
					r := l.newRequest(client, resp.Lookup([]byte("incr")))
					client.queue.push(r)
					r.observe(one)
					r.observe(other)
					then()
					r.transmit(l.pipe(0, 0, 2), block{frame: resp.AppendRequest(nil, []byte("INCR"), []byte(key))})
				}
			})
		}
		hear := func(want string) {
			for _, e := range []ear{one, other} {
				select {
				case got := <-e.heard:
					if got != want || len(e.heard) > 0 {
						t.Errorf("heard %q and %d more, want %q", got, len(e.heard), want)
					}
				default:
					t.Errorf("heard nothing, want %q", want)
				}
			}
		}
		incr("k", func() {})
		c.expect(":2")
		hear(":2\r\n")
		incr(strings.Repeat("k", 40<<10), link.Reset) // so long that it is sent at once
		c.expect("-ERR connection to the server was lost (incr); the command may or may not have been executed")
		hear("failed")
	})
}
