package proxy

import (
	"context"
	"strings"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/resp"
	"keyferry/internal/testredis"
)

// TestTimeoutsOfBlockingCommands: those that are kept count down while the client is placed
// again; what a server will refuse is left alone.
func TestTimeoutsOfBlockingCommands(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, x := range []struct {
		args []string
		at   int
		left time.Duration // 0: for ever
	}{
		{[]string{"BLPOP", "k", "0"}, 2, 0},
		{[]string{"BLPOP", "k", "0.25"}, 2, 250 * time.Millisecond},
		{[]string{"BLMPOP", "2", "1", "k", "LEFT"}, 1, 2 * time.Second},
		{[]string{"XREAD", "BLOCK", "2000000000", "STREAMS", "s", "$"}, 2, 2e9 * time.Millisecond},
		{[]string{"BLPOP", "k", "-1"}, 0, 0},
		{[]string{"BLPOP", "k", "nan"}, 0, 0},
		{[]string{"BLPOP", "k", "inf"}, 0, 0},
		{[]string{"BLPOP", "k", "1e300"}, 0, 0},
	} {
		var b blocking
		for _, a := range x.args {
			b.args = append(b.args, []byte(a))
		}
		cmd, bad := resp.Resolve(b.args)
		if bad != "" {
			t.Fatal(bad)
		}
		b.findTimeout(cmd, now)
		left := time.Duration(0)
		if !b.deadline.IsZero() {
			left = b.deadline.Sub(now)
		}
		if b.timeout != x.at || left != x.left {
			t.Errorf("%q: argument %d, %v left, want %d, %v", x.args, b.timeout, left, x.at, x.left)
		}
	}
}

// TestNewestIDOnALostConnection: a client that waits for what is new in several streams is not
// given what is old because the connection ended when it was asked what the newest is.
func TestNewestIDOnALostConnection(t *testing.T) {
	onEachTransport(t, func(t *testing.T, s *Server, addr string, _ *testredis.Server, link *faultproxy.Proxy) {
		long := []byte("{s}" + strings.Repeat("x", 40<<10)) // so that it is asked for at once
		c := dialLine(t, addr)
		c.send(string(resp.AppendRequest(nil, []byte("XADD"), long, []byte("1-1"), []byte("f"), []byte("old"))))
		c.expect("$3", "1-1")
		c.send("BLPOP {s}list 0.01\n") // leaves a connection
		c.expect("*-1")
		s.each(context.Background(), func(l *loop) {
			link.Reset()
			for client := range l.clients.all {
				client.data(resp.AppendRequest(nil, []byte("XREAD"), []byte("BLOCK"), []byte("0"), []byte("STREAMS"), long, []byte("{s}other"), []byte("$"), []byte("$")))
			}
		})
		c.expect("-ERR connection to the server was lost (xread); the command may or may not have been executed")
	})
}
