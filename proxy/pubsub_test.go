package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/internal/upstream"
)

// TestMessageToBothVersions: one message goes to clients of either protocol version on every
// loop, each in its own form.
func TestMessageToBothVersions(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t))
	var all []*lineClient
	for i := range 8 { // four for each of two loops
		c := dialLine(t, addr)
		if i/2%2 == 1 {
			c.send("HELLO 3\n")
			for c.line() != "$7" || c.line() != "modules" {
			}
			c.expect("*0")
		}
		c.send("SUBSCRIBE ch\n")
		c.expect(first(i), "$9", "subscribe", "$2", "ch", ":1")
		all = append(all, c)
	}
	p := dialLine(t, addr)
	const n = 2000
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "PUBLISH ch m%d\n", i)
	}
	p.send(b.String())
	for i := range n {
		for j, c := range all {
			c.expect(first(j), "$7", "message", "$2", "ch", fmt.Sprintf("$%d", len(fmt.Sprint("m", i))), fmt.Sprint("m", i))
		}
	}
}

// first is how a message begins for the i-th client: that of two is RESP2, of the next two RESP3.
func first(i int) string {
	if i/2%2 == 1 {
		return ">3"
	}
	return "*3"
}

// TestSubscribeToVeryMany: the time that it takes is proportional to the number of channels.
func TestSubscribeToVeryMany(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t))
	subscribe := func(n int) time.Duration {
		var b strings.Builder
		fmt.Fprintf(&b, "*%d\r\n$9\r\nSUBSCRIBE\r\n", n+1)
		for i := range n {
			fmt.Fprintf(&b, "$8\r\nch%06d\r\n", i)
		}
		c := dialLine(t, addr)
		defer c.c.Close()
		return costOf(t, func() {
			c.send(b.String())
			for i := range n {
				c.expect("*3", "$9", "subscribe", "$8", fmt.Sprintf("ch%06d", i), fmt.Sprintf(":%d", i+1))
			}
			c.send("UNSUBSCRIBE\n")
			for i := range n {
				c.expect("*3", "$11", "unsubscribe", "$8", fmt.Sprintf("ch%06d", i), fmt.Sprintf(":%d", n-1-i))
			}
		})
	}
	const n, times = 7_500, 8
	few, many := subscribe(n), subscribe(n*times)
	t.Logf("processor time for %d channels %v, for %d times as many %v", n, few, times, many)
	if many > 3*times*few+time.Second {
		t.Errorf("%v of processor time for %d channels, %v for %d times as many", few, n, many, times)
	}
}

// TestPublishWhileAGroupIsAway: any group can take a message; that of its channel is only the first
// to be asked. Messages of one client stay in order.
func TestPublishWhileAGroupIsAway(t *testing.T) {
	away := testredis.StartT(t)
	s, addr := startProxy(t, testredis.StartT(t), away, testredis.StartT(t))
	sub, pub := dialLine(t, addr), dialLine(t, addr)
	const channels = 20
	for i := range channels {
		sub.send(fmt.Sprintf("SUBSCRIBE ch%d\n", i))
		sub.expect("*3", "$9", "subscribe")
		sub.line()
		sub.line()
		sub.line()
	}
	pub.send("EXISTS k0 k1 k2 k3 k4 k5\n") // it has connections to all groups
	pub.expect(":0")
	if err := away.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the loops to know", func() bool {
		up := false
		s.each(t.Context(), func(l *loop) {
			for k, p := range l.servers.pipes {
				up = up || k.group == "g1" && p.State() == upstream.Up
			}
		})
		return !up
	})
	for i := range channels {
		ch := fmt.Sprint("ch", i)
		pub.send(fmt.Sprintf("PUBLISH %s m1\nPUBLISH %s m2\n", ch, ch))
		pub.expect(":1", ":1")
		for _, m := range []string{"m1", "m2"} {
			sub.expect("*3", "$7", "message", fmt.Sprintf("$%d", len(ch)), ch, "$2", m)
		}
	}
}

// TestNamelessInRESP3: no name is a null of the protocol that the client speaks.
func TestNamelessInRESP3(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t))
	c := dialLine(t, addr)
	c.send("CLIENT GETNAME\nHELLO 3\n")
	c.expect("$-1", "%7")
	for c.line() != "modules" {
	}
	c.expect("*0")
	c.send("CLIENT GETNAME\nCLIENT SETNAME me\nCLIENT GETNAME\n")
	c.expect("_", "+OK", "$2", "me")
}

// countedAgainstDelivered has a client subscribe and leave by a command, again and again, while another
// publishes by a command of its own: what is counted comes to what was delivered.
func countedAgainstDelivered(t *testing.T, addr, leave, left string, publish func(c *lineClient) (count string)) {
	t.Helper()
	counted, delivered := 0, 0
	done := make(chan int)
	stop := make(chan struct{})
	go func() {
		n := 0
		for pub := dialLine(t, addr); ; {
			select {
			case <-stop:
				done <- n
				return
			default:
			}
			if publish(pub) == ":1" {
				n++
			}
		}
	}()
	sub := dialLine(t, addr)
	for range 300 {
		sub.send("SUBSCRIBE ch\n")
		sub.expect("*3", "$9", "subscribe", "$2", "ch", ":1")
		sub.send(leave + "\n")
		for line := ""; line != left; {
			if line = sub.line(); line == "message" {
				delivered++
			}
		}
		if left == "unsubscribe" {
			sub.expect("$2", "ch", ":0")
		}
	}
	close(stop)
	counted = <-done
	t.Logf("%s: %d counted, %d delivered", leave, counted, delivered)
	if counted != delivered {
		t.Errorf("%s: %d counted, %d delivered", leave, counted, delivered)
	}
}

// TestResetBehindTheMail: a message that is on its way to the loop when it comes to RESET or UNSUBSCRIBE, and
// for which the client has been counted, is in front of the answer.
func TestResetBehindTheMail(t *testing.T) {
	server := testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops = 1 }, server)
	for _, version := range []string{"2", "3"} {
		sub, first := dialLine(t, addr), "*3"
		if version == "3" {
			sub.send("HELLO 3\n")
			sub.skipMap()
			first = ">3"
		}
		sub.send("SUBSCRIBE ch\n")
		sub.expect(first, "$9", "subscribe", "$2", "ch", ":1")
		s.each(t.Context(), func(l *loop) { // the loop is at it, and its mail is read later
			if n := server.Client().Publish(t.Context(), "ch", "m").Val(); n != 1 {
				t.Errorf("%d receivers", n)
			}
			s.hub.AwaitHeard(t.Context(), "g0")
			for c := range l.clients.all {
				if c.nsubs > 0 {
					c.data([]byte("RESET\r\nPING\r\n"))
				}
			}
		})
		sub.expect(first, "$7", "message", "$2", "ch", "$1", "m", "+RESET", "+PONG")
	}
}

// TestSubscribeBehindTheMail: nor does a client get a message that was counted before it subscribed, for
// another client of its loop.
func TestSubscribeBehindTheMail(t *testing.T) {
	server := testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops = 1 }, server)
	early, late := dialLine(t, addr), dialLine(t, addr)
	early.send("SUBSCRIBE ch\n")
	early.expect("*3", "$9", "subscribe", "$2", "ch", ":1")
	late.send("CLIENT SETNAME late\n")
	late.expect("+OK")
	s.each(t.Context(), func(l *loop) {
		if n := server.Client().Publish(t.Context(), "ch", "m").Val(); n != 1 {
			t.Errorf("%d receivers", n)
		}
		s.hub.AwaitHeard(t.Context(), "g0")
		for c := range l.clients.all {
			if c.who.name == "late" {
				c.data([]byte("SUBSCRIBE ch\r\nPING\r\n"))
			}
		}
	})
	early.expect("*3", "$7", "message", "$2", "ch", "$1", "m")
	late.expect("*3", "$9", "subscribe", "$2", "ch", ":1", "*2", "$4", "pong", "$0", "")
}

// TestCountedIsDeliveredBeforeReset: RESET ends subscriptions, and what its client has been counted for
// comes in front of its answer.
func TestCountedIsDeliveredBeforeReset(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t), testredis.StartT(t))
	publish := func(c *lineClient) string {
		c.send("PUBLISH ch m\n")
		return c.line()
	}
	countedAgainstDelivered(t, addr, "RESET", "+RESET", publish)
}

// TestExecCountsClients: the replies of PUBLISH and SPUBLISH inside EXEC are the clients that get the
// message, as from a server, wherever they are.
func TestExecCountsClients(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t), testredis.StartT(t))
	twin := testredis.StartT(t)
	exec := func(at string) (out []string) {
		pub := dialLine(t, at)
		for _, verb := range []string{"SUBSCRIBE ch", "SUBSCRIBE ch", "SUBSCRIBE ch", "PSUBSCRIBE c*", "PSUBSCRIBE c*", "PSUBSCRIBE *h", "SSUBSCRIBE ch", "SUBSCRIBE other"} {
			c := dialLine(t, at)
			c.send(verb + "\n")
			for range 6 {
				c.line()
			}
		}
		for _, script := range []string{
			"SET k v\nPUBLISH ch m\nGET k\nPUBLISH ch m\nSPUBLISH ch m\nPUBLISH nobody m\nPUBLISH other x\nHSCAN {k}h 0\nPUBLISH ch m2", "PUBLISH ch m", "SELECT 1\nPUBLISH ch m\nGET k", "WATCHED",
		} {
			if script == "WATCHED" {
				pub.send("WATCH k\n")
				pub.expect("+OK")
				script = "PUBLISH ch m\nSET k v"
			}
			pub.send("MULTI\n" + script + "\nEXEC\nECHO end\n")
			for line := ""; line != "end"; {
				line = pub.line()
				out = append(out, line)
			}
		}
		return out
	}
	if a, b := exec(addr), exec(twin.Addr); strings.Join(a, " ") != strings.Join(b, " ") {
		t.Errorf("gateway\n%s\nserver\n%s", a, b)
	}
	// While somebody comes and goes what is counted is delivered.
	countedAgainstDelivered(t, addr, "UNSUBSCRIBE ch", "unsubscribe", func(c *lineClient) string {
		c.send("MULTI\nPUBLISH ch busy\nEXEC\n")
		c.expect("+OK", "+QUEUED", "*1")
		n := c.line()
		if n == ":7" { // six of before, and who comes and goes
			return ":1"
		}
		return n
	})
}
