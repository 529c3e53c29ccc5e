package proxy

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testredis"
)

const busyText = "-BUSY Redis is busy running a script. You can only call "

// busyServer runs scripts for 50 ms before it says that it is busy.
func busyServer(t *testing.T) *testredis.Server {
	t.Helper()
	s := testredis.StartT(t)
	if err := s.Client().ConfigSet(context.Background(), "busy-reply-threshold", "50").Err(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (c *lineClient) expectPrefix(what, want string) {
	c.t.Helper()
	if got := c.line(); !strings.HasPrefix(got, want) {
		c.t.Errorf("%s: %q, want %s…", what, got, want)
	}
}

// awaitBusy waits until the server says that it is busy.
func awaitBusy(t *testing.T, s *testredis.Server) {
	t.Helper()
	eventually(t, "the server is busy", func() bool {
		err := s.Client().Ping(context.Background()).Err()
		return err != nil && strings.HasPrefix(err.Error(), "BUSY")
	})
}

const endless = "EVAL \"while true do end\" 1 k\n"

// TestBusyScript: while a script keeps a server busy its clients are told so at once, also those of
// the same loop, other scripts' and those for whom there is no connection yet, and it can be asked
// what it runs, and killed.
func TestBusyScript(t *testing.T) {
	for _, transport := range []string{"gnet", ""} {
		t.Run("transport "+transport, func(t *testing.T) {
			server := busyServer(t)
			_, addr := startProxyWith(t, func(o *Options) { o.Loops, o.Transport = 1, transport }, server)
			c, busy := dialLine(t, addr), dialLine(t, addr)
			for range 2 {
				c.send("SET k v\n")
				c.expect("+OK")
				busy.send(endless)
				awaitBusy(t, server)
				for _, command := range []string{"GET k", "MGET k j", "EVAL \"return 1\" 1 k", "MULTI\nGET k\nEXEC"} {
					c.send(command + "\n")
					if strings.HasPrefix(command, "MULTI") {
						c.expect("+OK", "+QUEUED")
						c.expectPrefix(command, "-EXECABORT")
						continue
					}
					c.expectPrefix(command, busyText)
				}
				other := dialLine(t, addr)
				other.send("SELECT 3\nGET k\n")
				other.expect("+OK")
				other.expectPrefix("GET in a database without a connection", busyText)
				other.send("SELECT 0\nHELLO 3\n")
				other.expect("+OK")
				other.skipMap()
				other.send("GET k\n")
				other.expectPrefix("GET without a connection of its version", busyText)
				c.send("FUNCTION KILL\n")
				c.expectPrefix("FUNCTION KILL of a script", busyText)
				c.send("SCRIPT KILL\n")
				c.expect("+OK")
				busy.expectPrefix("EVAL", "-ERR Script killed by user")
				c.send("GET k\nSCRIPT KILL\n")
				c.expect("$1", "v")
				c.expectPrefix("SCRIPT KILL", "-NOTBUSY")
			}
		})
	}
}

// skipMap takes the reply of HELLO 3.
func (c *lineClient) skipMap() {
	c.t.Helper()
	for line := ""; !strings.HasPrefix(line, "*"); {
		line = c.line() // modules come last, an array
	}
}

// TestBusyFunction: FUNCTION STATS tells of the group that runs something, and FUNCTION KILL ends it,
// though another group has nothing to kill.
func TestBusyFunction(t *testing.T) {
	servers := []*testredis.Server{busyServer(t), busyServer(t)}
	_, addr := startProxyWith(t, func(o *Options) { o.Loops = 1 }, servers...)
	c, busy := dialLine(t, addr), dialLine(t, addr)
	c.send("FUNCTION LOAD \"#!lua name=l\\nredis.register_function('f', function() while true do end end)\\nredis.register_function('w', function(k) redis.call('set',k[1],'x') while true do end end)\"\n")
	c.expect("$1", "l")
	for i, key := range []string{"a", "b"} { // of the second group, and of the first
		if slotOf(key) < 8192 != (i == 1) {
			t.Fatal("keys of the wrong groups")
		}
		busy.send("FCALL f 1 " + key + "\n")
		awaitBusy(t, servers[1-i])
		c.send("FUNCTION STATS\n")
		c.expect("*4", "$14", "running_script", "*6", "$4", "name", "$1", "f", "$7", "command")
		for c.line() != "functions_count" {
		}
		c.expect(":2")
		c.send("GET " + key + "\n")
		c.expectPrefix("GET", busyText)
		c.send("FUNCTION KILL\n")
		c.expect("+OK")
		busy.expectPrefix("FCALL", "-ERR Script killed by user")
	}
	c.send("FUNCTION STATS\n")
	c.expect("*4", "$14", "running_script", "$-1")
	for c.line() != "functions_count" {
	}
	c.expect(":2")
	// What has written can't be killed: the group that says so is the one that matters.
	busy.send("FCALL w 1 a\n")
	awaitBusy(t, servers[1])
	c.send("FUNCTION KILL\n")
	c.expectPrefix("FUNCTION KILL", "-UNKILLABLE")
	if err := servers[1].Kill(); err != nil {
		t.Fatal(err)
	}
}

// TestBusyBeyondTheTimeout: a script may take longer than any other command, if its server says that
// it is busy with one.
func TestBusyBeyondTheTimeout(t *testing.T) {
	server := busyServer(t)
	_, addr := startProxyWith(t, func(o *Options) { o.Loops, o.RequestTimeout = 1, time.Second }, server)
	busy, c := dialLine(t, addr), dialLine(t, addr)
	busy.send(endless)
	time.Sleep(3500 * time.Millisecond) // several ticks beyond it
	c.send("SCRIPT KILL\n")
	c.expect("+OK")
	busy.expectPrefix("EVAL", "-ERR Script killed by user")
}

// TestScriptsInOrder: a client's scripts and its other commands are executed in the order in which
// it sent them, though they go by different connections.
func TestScriptsInOrder(t *testing.T) {
	_, addr := startProxyWith(t, func(o *Options) { o.Loops = 1 }, testredis.StartT(t))
	c := dialLine(t, addr)
	const incr = "EVAL \"return redis.call('incr',KEYS[1])\" 1 n\n"
	c.send(strings.Repeat("INCR n\n"+incr+incr+"MULTI\nINCR n\n"+incr+"EXEC\nGET n\n", 50))
	n := 0
	next := func() string { n++; return ":" + strconv.Itoa(n) }
	for range 50 {
		c.expect(next(), next(), next(), "+OK", "+QUEUED", "+QUEUED", "*2", next(), next())
		c.line()
		c.expect(strconv.Itoa(n))
	}
}
