package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/proxy/stats"
	"keyferry/slotlock"
)

// transcript is all that a client is told who sends a script that ends with QUIT.
func transcript(t *testing.T, addr, script string) string {
	t.Helper()
	c := dialLine(t, addr)
	c.send(script)
	_ = c.c.SetReadDeadline(time.Now().Add(hangBound))
	all, err := io.ReadAll(c.r)
	if err != nil {
		t.Fatalf("%q: %v", all, err)
	}
	return regexp.MustCompile(`id\r\n:\d+`).ReplaceAllString(string(all), "id")
}

// TestTranscriptsLikeRedis: what a server would say byte for byte.
func TestTranscriptsLikeRedis(t *testing.T) {
	srv := testredis.StartT(t)
	_, addr := startProxy(t, srv)
	for _, script := range []string{
		// PING of a subscriber
		"PING\nPING a\nSUBSCRIBE c\nPING\nPING hello\nUNSUBSCRIBE c\nPING\nPSUBSCRIBE c*\nPING\nPUNSUBSCRIBE\nSSUBSCRIBE c\nPING\nPING a b\nSUNSUBSCRIBE\nPING\nQUIT\n",
		"HELLO 3\nSUBSCRIBE c\nPING\nPING hello\nQUIT\n",
		"MULTI\nPING\nPING a\nEXEC\nSUBSCRIBE c\nRESET\nPING\nQUIT\n",
		// numbers
		"SELECT +1\nSELECT 01\nSELECT -0\nSELECT 2147483648\nSELECT 9999999999\nSELECT -1\nSELECT 16\nSELECT \" 1\"\nSELECT 15\nQUIT\n",
		"HELLO 03\nHELLO +3\nHELLO 3\nHELLO 2\nQUIT\n",
		"SWAPDB 01 1\nSWAPDB 1 +1\nSWAPDB 1 2147483648\nSWAPDB 0 16\nSLOWLOG GET 01\nACL LOG +1\nACL GENPASS 08\nCONFIG SET maxclients +100\nCONFIG SET slowlog-log-slower-than 010\nQUIT\n",
		"CLIENT KILL ID 01\nCLIENT UNBLOCK 01\nCLIENT UNBLOCK +1\nCLIENT LIST ID 01\nCLIENT PAUSE 00\nCLIENT PAUSE 1 WRITE x\nQUIT\n",
		"COMMAND INFO nothing get2\nHELLO 3\nCOMMAND INFO nothing\nQUIT\n",
		// what CLIENT TRACKING refuses, and what it adds to what was there
		"HELLO 3\nCLIENT TRACKING ON OPTIN OPTOUT\nCLIENT TRACKING ON BCAST OPTIN OPTOUT\nCLIENT TRACKING ON PREFIX a\nCLIENT TRACKING ON OPTIN\nCLIENT TRACKING ON OPTOUT\nCLIENT TRACKING ON BCAST\n" +
			"CLIENT TRACKING ON BCAST OPTIN\nCLIENT TRACKING ON\nCLIENT TRACKINGINFO\nCLIENT TRACKING ON OPTOUT\nCLIENT TRACKING ON OPTIN\nCLIENT TRACKING OFF\nCLIENT TRACKINGINFO\nQUIT\n",
		"HELLO 3\nCLIENT TRACKING ON BCAST PREFIX foo PREFIX bar\nCLIENT TRACKING ON BCAST PREFIX baz\nCLIENT TRACKING ON BCAST PREFIX fo\nCLIENT TRACKING ON BCAST PREFIX foo\nCLIENT TRACKING ON BCAST PREFIX x PREFIX y PREFIX xy\n" +
			"CLIENT TRACKINGINFO\nCLIENT TRACKING ON BCAST\nCLIENT TRACKING ON BCAST\nCLIENT TRACKINGINFO\nCLIENT TRACKING ON BCAST PREFIX q\nCLIENT TRACKING ON OPTIN\nQUIT\n",
		"HELLO 3\nCLIENT TRACKING ON BCAST\nCLIENT TRACKINGINFO\nCLIENT TRACKING ON BCAST PREFIX q\nQUIT\n",
	} {
		if a, b := transcript(t, addr, script), transcript(t, srv.Addr, script); a != b {
			t.Errorf("%q\ngateway %q\nserver  %q", script, a, b)
		}
	}
}

// TestCachingIsAboutTheNextCommand: CLIENT CACHING NO of a client that tracks all else is over
// with the next command, whatever that is. What it reads then it is told of.
func TestCachingIsAboutTheNextCommand(t *testing.T) {
	srv := testredis.StartT(t)
	_, addr := startProxy(t, srv)
	for _, to := range []string{addr, srv.Addr} {
		other := testredis.NewClient(to, "", 0)
		defer other.Close()
		for _, x := range []struct{ next, reply string }{
			{"PING", "+PONG"}, {"nonsense", "-ERR unknown command 'nonsense', with args beginning with: "}, {"GET", "-ERR wrong number of arguments for 'get' command"},
			{"MULTI\nDISCARD", "+OK\n+OK"}, {"MULTI\nGET j\nEXEC", "+OK\n+QUEUED\n*1\n_"},
		} {
			c := dialLine(t, to)
			c.send("HELLO 3\n")
			for c.line() != "$7" || c.line() != "modules" {
			}
			c.expect("*0")
			c.send("CLIENT TRACKING ON OPTOUT\nCLIENT CACHING NO\n" + x.next + "\nGET k\n")
			c.expect("+OK", "+OK")
			c.expect(strings.Split(x.reply, "\n")...)
			c.expect("_")
			if err := other.Set(context.Background(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			c.expect(">2", "$10", "invalidate", "*1", "$1", "k")
			if err := other.Del(context.Background(), "k").Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestUnblockOfWait: who waits for replicas is unblocked with an error, if that was asked for.
func TestUnblockOfWait(t *testing.T) {
	srv := testredis.StartT(t)
	_, addr := startProxy(t, srv)
	for _, to := range []string{addr, srv.Addr} {
		other := testredis.NewClient(to, "", 0)
		defer other.Close()
		for _, x := range []struct{ how, reply string }{{"ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK"}, {"TIMEOUT", ":0"}} {
			c := dialLine(t, to)
			c.send("CLIENT ID\n")
			id := strings.TrimPrefix(c.line(), ":")
			c.send("WAIT 1 0\n")
			for {
				if n, err := other.Do(context.Background(), "CLIENT", "UNBLOCK", id, x.how).Int(); err != nil {
					t.Fatal(err)
				} else if n == 1 {
					break
				}
				time.Sleep(time.Millisecond)
			}
			c.expect(x.reply)
			c.send("PING\n")
			c.expect("+PONG")
		}
	}
}

// TestUnblockOfAParkedClient: a client that blocks on a key which is being moved is at no
// server, and is unblocked all the same.
func TestUnblockOfAParkedClient(t *testing.T) {
	source, target := testredis.StartT(t), testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.LockDeadline = time.Hour }, source)
	ctx := context.Background()
	table := movingTable(t, 2, source, target, topology.Range{First: 0, Last: 16383})
	if _, err := s.Apply(ctx, table); err != nil {
		t.Fatal(err)
	}
	key := slotlock.Key{Name: "k"}
	if !table.Jobs[0].Locks.TryLock(key) {
		t.Fatal("the key is in use")
	}
	other := testredis.NewClient(addr, "", 0)
	defer other.Close()
	for _, x := range []struct{ how, reply string }{{"ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK"}, {"TIMEOUT", "*-1"}} {
		c := dialLine(t, addr)
		c.send("CLIENT ID\n")
		id := strings.TrimPrefix(c.line(), ":")
		c.send("BLPOP k 0\n")
		for s.Parked(ctx)["k"] == 0 {
			time.Sleep(time.Millisecond)
		}
		if n, err := other.Do(ctx, "CLIENT", "UNBLOCK", id, x.how).Int(); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		c.expect(x.reply)
		if n := s.Parked(ctx)["k"]; n != 0 {
			t.Errorf("%d commands are still parked", n)
		}
	}
}

// TestWriteAllThenRead: a client that sends a long pipeline before it reads a byte can do that,
// as with a server, also when many of its replies had to wait for a server that is slower.
func TestWriteAllThenRead(t *testing.T) {
	slow, fast := testredis.StartT(t), testredis.StartT(t)
	s, addr := startProxy(t, slow, fast) // b is in the slots of the first, a and d in those of the second
	c := dialSmall(t, addr)              // what the client leaves unread is with the gateway
	value := strings.Repeat("x", 256<<10)
	c.send(string(resp.AppendRequest(nil, []byte("SET"), []byte("a"), []byte(value))))
	c.expect("+OK")
	c.send("GET b\n")
	c.expect("$-1")
	if err := slow.Pause(); err != nil {
		t.Fatal(err)
	}
	await := func(what string, holds func(client *session) bool) {
		t.Helper()
		eventually(t, what, func() (ok bool) {
			s.each(context.Background(), func(l *loop) {
				for client := range l.clients.all {
					ok = holds(client)
				}
			})
			return ok
		})
	}
	const reads, writes = 64, 400
	c.send("GET b\n" + strings.Repeat("GET a\n", reads))
	await("replies wait for the slower server", func(client *session) bool { return client.out.held > reads*len(value) })
	written := make(chan error, 1)
	last := ""
	go func() {
		for i := range writes { // more than the gateway keeps of a client that waits
			last = fmt.Sprintf("%d %4096d", i, i)
			if _, err := c.c.Write(resp.AppendRequest(nil, []byte("SET"), []byte("d"), []byte(last))); err != nil {
				written <- fmt.Errorf("SET %d: %w", i, err)
				return
			}
		}
		written <- nil
	}()
	await("the client waits", func(client *session) bool { return client.isHeld() && client.input.reads == readsHeld })
	_ = slow.Continue()
	await("the client does not read", func(client *session) bool { return client.conn.Buffered() > heldMax })
	_ = c.c.SetWriteDeadline(time.Now().Add(hangBound))
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	eventually(t, "the last command is executed", func() bool {
		return fast.Client().Get(context.Background(), "d").Val() == last
	})
	c.expect("$-1")
	for range reads {
		c.expect("$"+strconv.Itoa(len(value)), value)
	}
	for range writes {
		c.expect("+OK")
	}
}

// TestWaitGoesWhereTheWriteWent: also when that was to a key that has moved, or by a command
// that is split.
func TestWaitGoesWhereTheWriteWent(t *testing.T) {
	source, target := testredis.StartT(t), testredis.StartT(t)
	waits := func(srv *testredis.Server) int {
		c := testredis.NewClient(srv.Addr, "", 0)
		defer c.Close()
		info, err := c.Info(context.Background(), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(info, "cmdstat_wait:")
	}
	t.Run("moved", func(t *testing.T) {
		s, addr := startProxy(t, source)
		table := movingTable(t, 2, source, target, topology.Range{First: 0, Last: 16383})
		if _, err := s.Apply(context.Background(), table); err != nil {
			t.Fatal(err)
		}
		key := slotlock.Key{Name: "k"}
		if locks := table.Jobs[0].Locks; !locks.TryLock(key) {
			t.Fatal("the key is in use")
		} else {
			locks.Commit(key)
		}
		c := dialLine(t, addr)
		c.send("SET other v\nSET k v\nWAIT 0 0\n")
		c.expect("+OK", "+OK", ":0")
		if a, b := waits(source), waits(target); a != 0 || b != 1 {
			t.Errorf("WAIT came to the source %d times, to the target %d times", a, b)
		}
	})
	t.Run("split", func(t *testing.T) {
		first, second := testredis.StartT(t), testredis.StartT(t)
		_, addr := startProxy(t, first, second)
		c := dialLine(t, addr)
		c.send("SET b v\nMSET a v d v\nWAIT 0 0\n") // b is in the lower half of the slots, the others are not
		c.expect("+OK", "+OK", ":0")
		if a, b := waits(first), waits(second); a != 0 || b != 1 {
			t.Errorf("WAIT came to the first server %d times, to the second %d times", a, b)
		}
	})
}

// TestIdleIsWhoIsSilent: a client that waits for its reply, has just had one or still reads one
// is not idle, however long ago it said something.
func TestIdleIsWhoIsSilent(t *testing.T) {
	l := &loop{opt: &Options{ClientOptions: ClientOptions{IdleTimeout: 10 * time.Second, Output: OutputLimit{1 << 20, 1 << 20, time.Minute}}}, srv: &Server{}, now: time.Unix(1e9, 0)}
	s := &session{l: l, who: identity{active: l.now}}
	idleAfter := func(d time.Duration, want bool, what string) {
		t.Helper()
		if l.now = l.now.Add(d); s.idle() != want {
			t.Errorf("%s: idle is %v", what, !want)
		}
	}
	s.queue.push(&request{s: s})
	idleAfter(time.Minute, false, "it blocks")
	s.queue.pop()
	s.flush() // its reply
	idleAfter(9*time.Second, false, "it has just had its reply")
	s.out.held = 100
	idleAfter(time.Second, false, "it has a long reply to read")
	s.out.held = 60
	idleAfter(9*time.Second, false, "it reads")
	s.out.held = 20
	idleAfter(9*time.Second, false, "it goes on reading")
	idleAfter(11*time.Second, true, "it has stopped to read")
}

// TestQueuedCommandsAreMemory: what a client has queued since MULTI counts as its memory.
func TestQueuedCommandsAreMemory(t *testing.T) {
	s, addr := startProxyWith(t, func(o *Options) { o.Loops, o.MemoryTotal = 1, 4<<20 }, testredis.StartT(t))
	c := dialLine(t, addr)
	c.send("MULTI\n")
	c.expect("+OK")
	set := string(resp.AppendRequest(nil, []byte("SET"), []byte("k"), []byte(strings.Repeat("x", 1<<20))))
	go func() { // until it is closed, which no reply needs to come before
		for range 100 {
			if _, err := c.c.Write([]byte(set)); err != nil {
				return
			}
		}
	}()
	_ = c.c.SetReadDeadline(time.Now().Add(hangBound))
	if n, err := io.Copy(io.Discard, c.r); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the client is not closed after %d bytes of replies", n)
	}
	if n := s.Stats()[stats.Evicted]; n != 1 {
		t.Errorf("%d clients were closed for memory", n)
	}
}
