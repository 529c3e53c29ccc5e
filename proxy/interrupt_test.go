package proxy

import (
	"strings"
	"testing"

	"keyferry/internal/testredis"
)

// TestKilledByWhatGroupsSay: in whatever order the groups are, a success tells more than an error, and
// NOTBUSY is the answer only if nobody says anything else.
func TestKilledByWhatGroupsSay(t *testing.T) {
	const ok, unkillable, busy, gone, idle = "+OK", "-UNKILLABLE x", "-BUSY x", "-ERR server a did not answer", "-NOTBUSY x"
	for _, x := range []struct {
		want  string
		parts []string
	}{
		{ok, []string{ok, unkillable, busy, gone, idle}},
		{unkillable, []string{busy, unkillable, gone, idle}},
		{busy, []string{gone, busy, idle}},
		{gone, []string{idle, gone}},
		{idle, []string{idle, idle}},
	} {
		for turn := range x.parts {
			var parts [][]byte
			for i := range x.parts {
				parts = append(parts, []byte(x.parts[(i+turn)%len(x.parts)]))
			}
			if got := string(killed(parts)); got != x.want {
				t.Errorf("%q: %s, want %s", parts, got, x.want)
			}
		}
	}
}

// TestKillOverGroups: a script that can be killed is, though another group has one that can't; that one
// is told of then, though a third runs a function.
func TestKillOverGroups(t *testing.T) {
	servers := []*testredis.Server{busyServer(t), busyServer(t), busyServer(t)}
	_, addr := startProxyWith(t, func(o *Options) { o.Loops = 1 }, servers...)
	c := dialLine(t, addr)
	c.send("FUNCTION LOAD \"#!lua name=l\\nredis.register_function('f', function() while true do end end)\"\n")
	c.expect("$1", "l")
	keys := make([]string, 3) // one of each group
	for i := range keys {
		for _, k := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
			if slotOf(k)*3/16384 == i {
				keys[i] = k
			}
		}
	}
	run := func(at int, command string) *lineClient {
		b := dialLine(t, addr)
		b.send(command + " 1 " + keys[at] + "\n")
		awaitBusy(t, servers[at])
		return b
	}
	run(0, "FCALL f")
	run(1, "EVAL \"redis.call('set',KEYS[1],'x') while true do end\"")
	mild := run(2, "EVAL \"while true do end\"")
	c.send("SCRIPT KILL\n")
	c.expect("+OK")
	mild.expectPrefix("EVAL", "-ERR Script killed by user")
	c.send("SCRIPT KILL\n")
	c.expectPrefix("SCRIPT KILL", "-UNKILLABLE")
	c.send("FUNCTION KILL\n")
	c.expect("+OK")
	if err := servers[1].Kill(); err != nil {
		t.Fatal(err)
	}
	c.send("SCRIPT KILL\n")
	c.expectPrefix("SCRIPT KILL with a group away", "-ERR server "+servers[1].Addr)
}
