package proxy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testredis"
)

// loopOfClient is the loop that has the client of this id.
func loopOfClient(s *Server, id string) (found *loop) {
	for _, l := range s.allLoops() {
		_ = l.call(context.Background(), func() {
			for c := range l.clients.all {
				if fmt.Sprintf(":%d", c.who.id) == id {
					found = l
				}
			}
		})
	}
	return found
}

// onAnotherLoop dials clients until there is one that is on another loop.
func onAnotherLoop(t *testing.T, s *Server, addr string, not *loop) *lineClient {
	t.Helper()
	for {
		c := dialLine(t, addr)
		c.send("CLIENT ID\n")
		if loopOfClient(s, c.line()) != not {
			return c
		}
	}
}

// TestPopForSomebodyGone: an element that is written after a client has closed its connection is
// not given to it, though the client's loop has not seen the end of the connection yet.
func TestPopForSomebodyGone(t *testing.T) {
	for _, transport := range []string{"gnet", ""} {
		t.Run("transport "+transport, func(t *testing.T) {
			server := testredis.StartT(t)
			s, addr := startProxyWith(t, func(o *Options) { o.Loops, o.Transport = 2, transport }, server)
			direct := server.Client()
			for _, x := range []struct{ prepare, wait, write, count, want string }{
				{"", "BLPOP k 0", "RPUSH k v", "LLEN k", ":1"},
				{"", "BRPOP k 0", "LPUSH k v", "LLEN k", ":1"},
				{"", "BRPOP {k}0 k 0", "LPUSH k v", "LLEN k", ":1"},
				{"", "BLMOVE k {k}to LEFT LEFT 0", "RPUSH k v", "LLEN k", ":1"},
				{"", "BRPOPLPUSH k {k}to 0", "RPUSH k v", "LLEN k", ":1"},
				{"", "BLMPOP 0 1 k LEFT", "RPUSH k v", "LLEN k", ":1"},
				{"", "BZPOPMIN k 0", "ZADD k 1 v", "ZCARD k", ":1"},
				{"", "BZPOPMAX k 0", "ZADD k 1 v", "ZCARD k", ":1"},
				{"", "BZMPOP 0 1 k MAX", "ZINCRBY k 1 v", "ZCARD k", ":1"},
				{"XGROUP CREATE k g $ MKSTREAM", "XREADGROUP GROUP g c BLOCK 0 STREAMS k >", "XADD k 1-1 f v", "XLEN k", ":1"},
				{"", "BLPOP k 0", "EVAL \"return redis.call('rpush',KEYS[1],'v')\" 1 k", "LLEN k", ":1"},
				{"RPUSH {k}from v", "BLPOP k 0", "RENAME {k}from k", "LLEN k", ":1"},
				{"RPUSH {k}from v", "BLPOP k 0", "LMOVE {k}from k LEFT LEFT", "LLEN k", ":1"},
				{"", "BLPOP k j 0", "RPUSH k v", "LLEN k", ":1"},
				{"", "BLPOP k 0", "MULTI\nRPUSH k v\nEXEC", "LLEN k", ":1"},
				{"", "BLPOP k 0", "SELECT 1\nRPUSH k v\nSELECT 0\nMOVE k 1\nLPUSH k v", "LLEN k", ":1"},
				// To the database in which it waits from another one.
				{"RPUSH k v", "SELECT 1\nBLPOP k 0", "MOVE k 1\nSELECT 1", "LLEN k", ":1"},
				{"RPUSH k v", "SELECT 1\nBLPOP k j 0", "MOVE k 1\nSELECT 1", "LLEN k", ":1"},
				{"RPUSH k v", "SELECT 1\nBLPOP k 0", "MULTI\nMOVE k 1\nEXEC\nSELECT 1", "LLEN k", ":1"},
				{"RPUSH {k}from v", "SELECT 1\nBLPOP k 0", "COPY {k}from k DB 1\nSELECT 1", "LLEN k", ":1"},
				{"RPUSH k v", "SELECT 1\nBLPOP k 0", "SWAPDB 0 1\nSELECT 1", "LLEN k", ":1"},
			} {
				t.Run(x.wait+", "+x.write, func(t *testing.T) {
					ctx := context.Background()
					if err := direct.FlushAll(ctx).Err(); err != nil {
						t.Fatal(err)
					}
					gone := dialLine(t, addr)
					gone.send("CLIENT ID\n")
					loop := loopOfClient(s, gone.line())
					c := onAnotherLoop(t, s, addr, loop)
					if x.prepare != "" {
						c.send(x.prepare + "\n")
						c.line()
					}
					gone.send(x.wait + "\n")
					eventually(t, "it waits", func() bool { return waitingClients(s) == 1 })
					if !strings.Contains(x.wait, "k j") {
						eventually(t, "it waits at the server", func() bool {
							info, _ := direct.Info(ctx, "clients").Result()
							return strings.Contains(info, "blocked_clients:1")
						})
					}
					// Its loop is busy when the connection ends.
					busy := make(chan struct{})
					loop.post(func() { <-busy })
					_ = gone.c.Close()
					c.send(x.write + "\n")
					time.AfterFunc(50*time.Millisecond, func() { close(busy) })
					c.send("ECHO written\n")
					for said := ""; said != "written"; {
						if said = c.line(); said[0] == '-' {
							t.Error(said)
						}
					}
					c.send(x.count + "\n")
					c.expect(x.want)
					eventually(t, "nobody waits", func() bool { return waitingClients(s) == 0 })
					if x.prepare != "" && strings.HasPrefix(x.wait, "XREADGROUP") {
						if p, err := direct.XPending(ctx, "k", "g").Result(); err != nil || p.Count != 0 {
							t.Errorf("pending for a client that has gone: %+v, %v", p, err)
						}
					}
				})
			}
		})
	}
}

// waitingClients counts those who wait for data, at a server or in the gateway.
func waitingClients(s *Server) (n int) {
	s.each(context.Background(), func(l *loop) { n += len(l.waiters.blocked) + len(l.waiters.pops) })
	return n
}

// TestPopForSomebodyUnblocked: who has been ended by another client (CLIENT UNBLOCK, CLIENT KILL) is
// given nothing that this client writes after that, although its server is slow to hear of it.
func TestPopForSomebodyUnblocked(t *testing.T) {
	server := testredis.StartT(t)
	link, err := faultproxy.New(server.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = link.Close() })
	_, addr := startProxyWith(t, func(o *Options) { o.Loops = 1 }, &testredis.Server{Addr: link.Addr})
	for _, x := range []struct{ how, heard string }{{"CLIENT UNBLOCK", "*-1"}, {"CLIENT KILL ID", ""}} {
		t.Run(x.how, func(t *testing.T) {
			waits, c := dialLine(t, addr), dialLine(t, addr)
			c.send("DEL k\n")
			c.line()
			waits.send("CLIENT ID\n")
			id := waits.line()[1:]
			waits.send("BLPOP k 0\n")
			eventually(t, "it waits at the server", func() bool {
				info, _ := server.Client().Info(context.Background(), "clients").Result()
				return strings.Contains(info, "blocked_clients:1")
			})
			link.SetTraps(faultproxy.Trap{Match: faultproxy.Command("client", "unblock"), Action: faultproxy.Answer, Reply: ":0\r\n", Times: 1})
			c.send(x.how + " " + id + "\nRPUSH k v\nLLEN k\n")
			c.expect(":1", ":1", ":1")
			if x.heard == "" {
				waits.closed()
			} else {
				waits.expect(x.heard)
			}
		})
	}
}
