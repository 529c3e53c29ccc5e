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
