package proxy

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/testredis"
	"keyferry/internal/upstream"
	"keyferry/proxy/stats"
)

// TestServerCommandsLikeRedis: what a client asks of the server is answered as by a server.
func TestServerCommandsLikeRedis(t *testing.T) {
	srv, twin := testredis.StartT(t), testredis.StartT(t)
	_, addr := startProxy(t, srv)
	for g, s := range pairs(t, addr, twin.Addr) {
		sayTheSame(t, g, s, "SET k v", "LPUSH l a b c", "DEL nokey",
			"ACL", "ACL CAT", "ACL CAT foo", "ACL CAT fast x", "ACL GENPASS 0", "ACL GENPASS x", "ACL GENPASS 4097", "ACL GENPASS 5 5", "ACL GETUSER default", "ACL GETUSER foo", "ACL LIST", "ACL USERS",
			"ACL WHOAMI", "ACL LOG", "ACL LOG 5", "ACL LOG -1", "ACL LOG x", "ACL LOG RESET", "ACL LOG 1 2", "ACL DRYRUN default get a", "ACL DRYRUN foo get a", "ACL DRYRUN default foo", "ACL DRYRUN default get", "ACL DRYRUN default acl|foo",
			"ACL DRYRUN default client id", "ACL nonsense",
			"MEMORY", "MEMORY USAGE", "MEMORY USAGE nokey", "MEMORY USAGE k", "MEMORY USAGE l SAMPLES 0", "MEMORY USAGE k SAMPLES", "MEMORY USAGE k SAMPLES -1", "MEMORY PURGE", "MEMORY HELP", "MEMORY nonsense", "MEMORY MALLOC-STATS x",
			"OBJECT ENCODING k", "OBJECT REFCOUNT k", "OBJECT FREQ k", "OBJECT ENCODING nokey", "OBJECT HELP", "OBJECT nonsense k", "OBJECT",
			"XGROUP HELP", "XINFO HELP", "ROLE x", "LASTSAVE x", "MODULE LIST", "MODULE nonsense", "MODULE",
			"DEBUG", "DEBUG nonsense", "DEBUG SLEEP", "DEBUG SLEEP 0", "DEBUG SLEEP x", "DEBUG OBJECT nokey",
			"COMMAND GETKEYSANDFLAGS set k v", "COMMAND GETKEYSANDFLAGS set k v get", "COMMAND GETKEYSANDFLAGS bitfield k get u8 0", "COMMAND GETKEYSANDFLAGS bitfield k set u8 0 1",
			"COMMAND GETKEYSANDFLAGS sort k by x store d", "COMMAND GETKEYSANDFLAGS georadius k 1 1 1 m store d", "COMMAND GETKEYSANDFLAGS zunionstore d 2 a b", "COMMAND GETKEYSANDFLAGS mset a 1 b 2",
			"COMMAND GETKEYSANDFLAGS eval x 2 a b", "COMMAND GETKEYSANDFLAGS eval x 0", "COMMAND GETKEYSANDFLAGS xreadgroup group g c streams s x", "COMMAND GETKEYSANDFLAGS migrate h 1 k 0 10", "COMMAND GETKEYSANDFLAGS lmove a b left right",
			"COMMAND GETKEYSANDFLAGS object encoding k", "COMMAND GETKEYSANDFLAGS", "COMMAND GETKEYSANDFLAGS nonsense x", "COMMAND GETKEYSANDFLAGS ping x", "COMMAND GETKEYSANDFLAGS get a b", "COMMAND GETKEYSANDFLAGS zunion 5 a")
		for _, words := range [][]string{{"ACL", "CAT", "a\x00b"}, {"ACL", "DRYRUN", "\x00", "GET", "a"}, {"CLIENT", "KILL", "TYPE", "a\x00b"}, {"CLIENT", "LIST", "TYPE", "\x00"}, {"CLIENT", "KILL", "USER", "a\x00b"}, {"CONFIG", "SET", "a\x00b", "c"}} {
			_, a := do(g, words...)
			_, b := do(s, words...)
			if fmt.Sprint(a) != fmt.Sprint(b) {
				t.Errorf("%q: gateway %v, server %v", words, a, b)
			}
		}
		for _, cat := range aclCategories {
			a, _ := do(g, "ACL", "CAT", cat)
			b, _ := do(s, "ACL", "CAT", cat)
			for _, name := range b.([]any) {
				if c := findCommand([]byte(name.(string))); c != nil && !slices.Contains(a.([]any), name) {
					t.Errorf("%s is in %s", name, cat)
				}
			}
		}
		a, _ := do(g, "ROLE")
		b, _ := do(s, "ROLE")
		if fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("ROLE: %v and %v", a, b)
		}
		for _, cmd := range []string{"MEMORY DOCTOR", "MEMORY STATS", "MEMORY MALLOC-STATS", "LOLWUT", "LASTSAVE", "ACL GENPASS", "ACL GENPASS 128", "ACL HELP", "COMMAND HELP", "DEBUG HELP", "MODULE HELP", "DEBUG OBJECT l"} {
			a, errA := do(g, strings.Fields(cmd)...)
			b, errB := do(s, strings.Fields(cmd)...)
			if fmt.Sprintf("%T %v", a, errA) != fmt.Sprintf("%T %v", b, errB) {
				t.Errorf("%s: gateway %T %v, server %T %v", cmd, a, errA, b, errB)
			}
		}
	}
}

// TestACLLog: failed logins are kept, and counted when they come again.
func TestACLLog(t *testing.T) {
	srv := testredis.StartT(t)
	_, addr := startProxy(t, srv)
	read := func(at string) string {
		c := dialOne(t, at, 2)
		if _, err := do(c, "CONFIG", "SET", "requirepass", "p"); err != nil {
			t.Fatal(err)
		}
		for _, cmd := range []string{"AUTH wrong", "AUTH nobody p", "AUTH wrong", "HELLO 3 AUTH default secret", "AUTH p", "AUTH default p"} {
			_, _ = do(c, strings.Fields(cmd)...)
		}
		v, err := do(c, "ACL", "LOG")
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, e := range v.([]any) { // count, reason, context, object, username
			out = append(out, fmt.Sprint(e.([]any)[:10]))
		}
		if strings.Contains(fmt.Sprint(v), "wrong") || strings.Contains(fmt.Sprint(v), "secret") {
			t.Errorf("what was tried is shown: %v", v)
		}
		if v, _ := do(c, "ACL", "LOG", "1"); len(v.([]any)) != 1 {
			t.Errorf("ACL LOG 1: %v", v)
		}
		_, _ = do(c, "ACL", "LOG", "RESET")
		if v, _ := do(c, "ACL", "LOG"); len(v.([]any)) != 0 {
			t.Errorf("after RESET: %v", v)
		}
		v, _ = do(c, "ACL", "LIST")
		u, _ := do(c, "ACL", "GETUSER", "default")
		return strings.Join(out, "\n") + fmt.Sprint(v, u)
	}
	if a, b := read(addr), read(srv.Addr); a != b {
		t.Errorf("gateway\n%s\nserver\n%s", a, b)
	}
}

// monitorScript has commands of every kind; those that wait for a reply of another client are left out.
const monitorScript = "SET k \"a b\\x00\\n\\\"q\"\nGET k\nMULTI\nSET a 1\nGET a\nEXEC\nMULTI\nSET a 1\nDISCARD\nWATCH a\nUNWATCH\nEVAL 'return 1' 1 k\n" +
	"AUTH x\nAUTH u p\nHELLO 3 AUTH default pp SETNAME z\nHELLO 2\nCONFIG GET port\nCLIENT LIST\nCLIENT ID\nSELECT 3\nget\nfoo bar\nget a b c\nPING\nSCRIPT LOAD 'return 1'\n" +
	"EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0\nSLOWLOG LEN\nSUBSCRIBE x\nUNSUBSCRIBE x\nBLPOP l 0.01\nDEBUG SLEEP 0\nLPUSH k v\nPUBLISH c m\nINFO server\nACL WHOAMI\nRESET\n" +
	"OBJECT ENCODING k\nMEMORY USAGE k\nCOMMAND COUNT\nLATENCY RESET\nCLIENT REPLY SKIP\nCLIENT SETNAME q\nEXEC\nMGET a b c d\nMULTI\nnonsense\nEXEC\nQUIT\n"

// TestMonitorLikeRedis: a monitoring client sees what it sees at a server, from whatever
// loop, and in each client's order.
func TestMonitorLikeRedis(t *testing.T) {
	srv, twin := testredis.StartT(t), testredis.StartT(t)
	_, addr := startProxy(t, srv)
	stamp := regexp.MustCompile(`^\+\d{10}\.\d{6} \[(\d+) (\S+)\] `)
	see := func(at string, skip string) (out []string) {
		m := dialLine(t, at)
		m.send("MONITOR\n")
		m.expect("+OK")
		c := dialLine(t, at)
		for line := range strings.Lines(monitorScript) {
			c.send(line)
		}
		for {
			line := m.line()
			p := stamp.FindStringSubmatch(line)
			if p == nil {
				t.Fatalf("line %q", line)
			}
			if p[2] == skip {
				continue
			}
			if p[2] != c.c.LocalAddr().String() {
				t.Fatalf("a line of %s", p[2])
			}
			out = append(out, p[1]+" "+line[len(p[0]):])
			if strings.HasSuffix(line, `"QUIT"`) {
				return out
			}
		}
	}
	a, b := see(addr, ""), see(twin.Addr, "lua")
	if !slices.Equal(a, b) {
		t.Errorf("gateway\n%s\nserver\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
	for _, secret := range []string{"pp", `"p"`, `"x"`} {
		for _, line := range a {
			if strings.Contains(line, secret) && !strings.Contains(line, "SUBSCRIBE") {
				t.Errorf("%s is shown", line)
			}
		}
	}
}

// TestMonitorOfEveryLoop: clients of all loops are seen by monitors on all loops, which may
// come and go, and are told no data.
func TestMonitorOfEveryLoop(t *testing.T) {
	s, addr := startProxy(t, testredis.StartT(t))
	var monitors, clients []*lineClient
	for range 4 {
		m, c := dialLine(t, addr), dialLine(t, addr)
		m.send("MONITOR\n")
		m.expect("+OK")
		c.send("PING\n")
		c.expect("+PONG")
		monitors, clients = append(monitors, m), append(clients, c)
	}
	for i, c := range clients {
		c.send(fmt.Sprintf("ECHO it%d\n", i))
		c.expect("$3", fmt.Sprintf("it%d", i))
	}
	for _, m := range monitors {
		seen := 0
		for seen < len(clients) {
			if strings.Contains(m.line(), `"ECHO" "it`) {
				seen++
			}
		}
	}
	m := monitors[0]
	m.send("GET k\nMONITOR\nRESET\n")
	for want := []string{"-" + noKeyspaceText, "+RESET"}; len(want) > 0; {
		if line := m.line(); line == want[0] {
			want = want[1:]
		} else if strings.HasPrefix(line, "+OK") {
			t.Error("MONITOR was answered twice")
		}
	}
	m.send("GET k\n")
	m.expect("$-1")
	for _, x := range monitors {
		_ = x.c.Close()
	}
	for deadline := time.Now().Add(hangBound); ; time.Sleep(time.Millisecond) {
		left := 0
		s.each(context.Background(), func(l *loop) { left += len(l.monitoring.at) + len(l.monitoring.here) })
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d monitors are left", left)
		}
	}
}

// TestMonitorThatDoesNotRead is closed as every client is that does not.
func TestMonitorThatDoesNotRead(t *testing.T) {
	s, addr := startProxy(t, testredis.StartT(t))
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	if _, err := do(c, "CONFIG", "SET", "client-output-buffer-limit", "normal 1mb 1mb 0"); err != nil {
		t.Fatal(err)
	}
	m := dialSmall(t, addr)
	m.send("MONITOR\n")
	m.expect("+OK")
	big := strings.Repeat("x", 10<<10)
	for deadline := time.Now().Add(hangBound); s.Stats()[stats.LimitCloses] == 0; {
		for range 100 {
			if err := c.Set(context.Background(), "k", big, 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("it is not closed")
		}
	}
}

// TestDebugSleepHoldsItsClientAlone, and what is big is cut in a monitor's line.
func TestDebugSleepHoldsItsClientAlone(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t))
	a := dialLine(t, addr)
	a.send("DEBUG SLEEP 3600\nPING\n")
	for range 4 { // on both loops
		c := dialLine(t, addr)
		c.send("SET k v\n")
		c.expect("+OK")
	}
	_ = a.c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if line, err := a.r.ReadString('\n'); err == nil {
		t.Errorf("the sleeper was answered %q", line)
	}
	b := dialLine(t, addr)
	b.send("DEBUG SLEEP 0.02\nPING\n")
	b.expect("+OK", "+PONG")
	m := dialLine(t, addr)
	m.send("MONITOR\n")
	m.expect("+OK")
	b.send("ECHO " + strings.Repeat("x", monitorArg+5) + "\n")
	if line := m.line(); !strings.HasSuffix(line, `x"... (5 more bytes)`) {
		t.Errorf("...%s", line[max(0, len(line)-100):])
	}
}

// TestEveryRefusalHasItsReason, and no reason is left of what is served by now.
func TestEveryRefusalHasItsReason(t *testing.T) {
	refused := map[string]bool{"sentinel": true, "debug": true}
	stats.EachCommand(func(c *resp.Command) {
		if c.Serve != resp.Refused || c.Subs != nil {
			return
		}
		refused[c.Name] = true
		if refusalText[c.Name] == "" {
			t.Errorf("%s is refused without a reason", c.Name)
		}
	})
	for name, why := range refusalText {
		if !refused[name] {
			t.Errorf("%s is served, and there is a reason for its refusal", name)
		}
		if why == "" || why[0] < 'a' || why[0] > 'z' || strings.HasSuffix(why, ".") {
			t.Errorf("%s: the reason %q does not go on behind a colon", name, why)
		}
	}
	_, addr := startProxy(t, testredis.StartT(t))
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	for _, cmd := range []string{"SENTINEL masters", "SHUTDOWN NOSAVE", "REPLICAOF no one", "SYNC", "SAVE", "ACL SETUSER x on", "DEBUG SEGFAULT", "DEBUG JMAP", "SCRIPT DEBUG YES", "MIGRATE h 1 k 0 1"} {
		_, err := do(c, strings.Fields(cmd)...)
		if err == nil || !strings.Contains(err.Error(), "is not supported through the gateway: ") {
			t.Errorf("%s: %v", cmd, err)
		}
	}
}

// TestFlushWithoutAServer fails at once, and the client goes on.
func TestFlushWithoutAServer(t *testing.T) {
	server := testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops, o.ReconnectMin = 1, time.Minute }, server)
	c := dialLine(t, addr)
	c.send("GET k\n")
	c.expect("$-1")
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	for down := false; !down; time.Sleep(time.Millisecond) {
		s.each(context.Background(), func(l *loop) {
			for _, p := range l.servers.pipes {
				down = p.State() == upstream.Down
			}
		})
	}
	for _, cmd := range []string{"FLUSHALL", "FLUSHDB", "SWAPDB 0 1"} {
		c.send(cmd + "\nPING\n")
		if got := c.line(); !strings.HasPrefix(got, "-ERR server not reachable") {
			t.Errorf("%s: %s", cmd, got)
		}
		if c.expect("+PONG"); t.Failed() {
			return
		}
	}
}
