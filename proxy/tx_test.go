package proxy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/resp"
	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/slotlock"
)

// TestExecThatCouldNotRunLeavesNoWatch: the connection of an EXEC that waited in vain for its
// key goes to the next client without the keys that it watched.
func TestExecThatCouldNotRunLeavesNoWatch(t *testing.T) {
	source, target := testredis.StartT(t), testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops, o.LockDeadline = 1, 50*time.Millisecond }, source)
	table := movingTable(t, 2, source, target, topology.Range{First: 0, Last: 16383})
	if _, err := s.Apply(context.Background(), table); err != nil {
		t.Fatal(err)
	}
	locks := table.Jobs[0].Locks
	first, second, writer := dialLine(t, addr), dialLine(t, addr), dialLine(t, addr)
	first.send("WATCH k\nMULTI\nSET k 1\n")
	first.expect("+OK", "+OK", "+QUEUED")
	if !locks.TryLock(slotlock.Key{Name: "k"}) {
		t.Fatal("k is in use")
	}
	first.send("EXEC\n")
	first.expect("-TRYAGAIN timed out waiting for the key, which is being moved (exec); nothing was executed")
	locks.Abort(slotlock.Key{Name: "k"}, true)
	second.send("WATCH j\n")
	second.expect("+OK")
	writer.send("SET k 2\n")
	writer.expect("+OK")
	second.send("MULTI\nSET j 1\nEXEC\n")
	second.expect("+OK", "+QUEUED", "*1", "+OK")
	s.each(context.Background(), func(l *loop) {
		if len(l.dedicated.all) != 1 {
			t.Errorf("%d connections were borrowed, want the same one twice", len(l.dedicated.all))
		}
	})
}

// TestExecOfVeryManyWatchedKeys: the loop does not compare each with each.
func TestExecOfVeryManyWatchedKeys(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t))
	names := func(n int, kind string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "$10\r\n{t}%s%06d\r\n", kind, i)
		}
		return b.String()
	}
	const used = 300000
	exec := func(watched int) (cost time.Duration) {
		c := dialLine(t, addr)
		c.send(fmt.Sprintf("*%d\r\n$5\r\nWATCH\r\n%s", watched+1, names(watched, "w"))) // a server compares them with each other
		c.expect("+OK")
		frame := fmt.Sprintf("MULTI\r\n*%d\r\n$6\r\nEXISTS\r\n%sEXEC\r\n", used+1, names(used, "u"))
		return costOf(t, func() {
			c.send(frame)
			c.expect("+OK", "+QUEUED", "*1", ":0")
		})
	}
	one, many := exec(1), exec(10000)
	t.Logf("processor time with one key watched %v, with many %v", one, many)
	if many > 5*one+time.Second {
		t.Errorf("%v of processor time with one key watched, %v with many", one, many)
	}
}

// TestWatchingConnectionEndsAtExec: that shows when the transaction is written, which is at once,
// since it is large.
func TestWatchingConnectionEndsAtExec(t *testing.T) {
	onEachTransport(t, func(t *testing.T, s *Server, addr string, _ *testredis.Server, link *faultproxy.Proxy) {
		c := dialLine(t, addr)
		c.send("WATCH k\nMULTI\n" + string(resp.AppendRequest(nil, []byte("SET"), []byte("k"), make([]byte, 100<<10))))
		c.expect("+OK", "+OK", "+QUEUED")
		s.each(context.Background(), func(l *loop) {
			link.Reset()
			for client := range l.clients.all {
				client.data([]byte("EXEC\n"))
			}
		})
		c.expect("-ERR connection to the server was lost (exec); the command may or may not have been executed")
		c.send("PING\n")
		c.expect("+PONG")
	})
}
