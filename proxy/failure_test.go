package proxy

import (
	"fmt"
	"strings"
	"testing"

	"keyferry/internal/faultproxy"
	"keyferry/internal/resp"
	"keyferry/internal/testredis"
)

// ofBothGroups are keys of a cluster of two groups: two of the first and two of the second.
func ofBothGroups() (lo1, lo2, hi1, hi2 string) {
	var lo, hi []string
	for i := 0; len(lo) < 2 || len(hi) < 2; i++ {
		if k := fmt.Sprint("k", i); slotOf(k) < 8192 {
			lo = append(lo, k)
		} else {
			hi = append(hi, k)
		}
	}
	return lo[0], lo[1], hi[0], hi[1]
}

// TestFailureOfOneGroup: what a command over two groups says when one of them can't be had. What
// it says was executed was, and what it says was not was not.
func TestFailureOfOneGroup(t *testing.T) {
	lo1, lo2, hi1, hi2 := ofBothGroups()
	names := strings.NewReplacer("LO1", lo1, "LO2", lo2, "HI1", hi1, "HI2", hi2)
	port, err := testredis.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	away := &testredis.Server{Addr: fmt.Sprintf("127.0.0.1:%d", port)}
	server := testredis.StartT(t)
	for _, firstAway := range []bool{false, true} {
		groups, here, gone := []*testredis.Server{server, away}, "g0", "g1"
		if firstAway {
			groups, here, gone = []*testredis.Server{away, server}, "g1", "g0"
			names = strings.NewReplacer("LO1", hi1, "LO2", hi2, "HI1", lo1, "HI2", lo2)
		}
		_, addr := startProxy(t, groups...)
		c := dialLine(t, addr)
		all := "; it was executed at group " + here + ", not executed at group " + gone
		for _, x := range []struct{ cmd, want string }{
			{"MSET LO1 1 HI1 1", "-ERR server not reachable (mset); it was executed for key 1 of 2, not executed for key 2 of 2"},
			{"MSET HI1 1 LO1 1 LO2 1 HI2 1", "-ERR server not reachable (mset); it was executed for key 2-3 of 4, not executed for key 1,4 of 4"},
			{"DEL LO1 HI1", "-ERR server not reachable (del); it was executed for key 1 of 2, not executed for key 2 of 2"},
			{"UNLINK HI1 LO2", "-ERR server not reachable (unlink); it was executed for key 2 of 2, not executed for key 1 of 2"},
			{"MSET HI1 1 HI2 1", "-ERR server not reachable (mset); nothing was executed"},
			{"SET HI1 1", "-ERR server not reachable (set); nothing was executed"},
			{"MGET LO1 HI1", "-ERR server not reachable (mget); nothing was changed"},
			{"EXISTS HI1 LO1", "-ERR server not reachable (exists); nothing was changed"},
			{"FLUSHALL", "-ERR server not reachable (flushall)" + all},
			{"FLUSHDB", "-ERR server not reachable (flushdb)" + all},
			{"SWAPDB 0 1", "-ERR server not reachable (swapdb)" + all},
			{"SCRIPT FLUSH", "-ERR server not reachable (script|flush)" + all},
			{"FUNCTION FLUSH", "-ERR server not reachable (function|flush)" + all},
			{"CONFIG SET notify-keyspace-events KEA", "-ERR server not reachable (config|set)" + all},
		} {
			c.send(names.Replace(x.cmd) + "\n")
			got := c.line()
			if why, rest, ok := strings.Cut(got, ": dial tcp"); ok { // why it is not reachable is the system's to say
				_, rest, _ = strings.Cut(rest, " (")
				got = why + " (" + rest
			}
			if got != x.want {
				t.Errorf("%s: %s\n want %s", names.Replace(x.cmd), got, x.want)
			}
			if x.cmd == "MSET HI1 1 LO1 1 LO2 1 HI2 1" {
				c.send(names.Replace("GET LO1\nGET LO2\n"))
				c.expect("$1", "1", "$1", "1")
			}
		}
	}
}

// TestFailureThatIsTheServers: a server refuses its part, or its answer is lost: that is told, and
// what became of the other part.
func TestFailureThatIsTheServers(t *testing.T) {
	lo, _, hi, _ := ofBothGroups()
	one, two := testredis.StartT(t), testredis.StartT(t)
	link, err := faultproxy.New(two.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	_, addr := startProxy(t, one, &testredis.Server{Addr: link.Addr})
	c := dialLine(t, addr)
	mset := "MSET " + lo + " 1 " + hi + " 1\n"
	c.send(mset)
	c.expect("+OK")
	refuse := two.Client()
	defer refuse.Close()
	if err := refuse.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	c.send(mset)
	if got := c.line(); !strings.HasPrefix(got, "-OOM ") || !strings.HasSuffix(got, "; it was executed for key 1 of 2, not executed for key 2 of 2") {
		t.Error(got)
	}
	if err := refuse.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	for cmd, name := range map[string]string{mset: "mset", "DEL " + lo + " " + hi + "\n": "del"} {
		eventually(t, "the server to be reached", func() bool {
			c.send("EXISTS " + hi + "\n")
			return strings.HasPrefix(c.line(), ":")
		})
		link.SetTraps(faultproxy.Trap{Match: faultproxy.Command(name), Action: faultproxy.DropReplyAndCut, Times: 1})
		c.send(cmd)
		if got, want := c.line(), "-ERR connection to the server was lost ("+name+"); it was executed for key 1 of 2, perhaps executed for key 2 of 2"; got != want {
			t.Errorf("%s\n want %s", got, want)
		}
	}
}

// TestFailureOfPartsThatWaited: TRYAGAIN promises that nothing was executed. Of a command of which
// a part was it becomes ERR; of one that only reads it stays.
func TestFailureOfPartsThatWaited(t *testing.T) {
	waited := "-TRYAGAIN timed out waiting for the key, which is being moved (x); nothing was executed\r\n"
	for _, x := range []struct {
		name, want string
		ends       []request
		order      []int32
	}{
		{"mset", "-ERR timed out waiting for the key, which is being moved (x); it was executed for key 2 of 2, not executed for key 1 of 2\r\n",
			[]request{{reply: []byte(waited), fate: fateNothing}, {reply: []byte("+OK\r\n")}}, []int32{0, 1}},
		{"mset", waited, []request{{reply: []byte(waited), fate: fateNothing}, {reply: []byte(waited), fate: fateNothing}}, []int32{0, 1}},
		{"del", "-ERR timed out waiting for the key, which is being moved (x); it was executed for key 2,4 of 5, perhaps executed for key 5 of 5, not executed for key 1,3 of 5\r\n",
			[]request{{reply: []byte(waited), fate: fateNothing}, {reply: []byte(":2\r\n")}, {reply: []byte("-ERR lost\r\n"), fate: fateUnknown}}, []int32{0, 1, 0, 1, 2}},
		{"mget", "-TRYAGAIN timed out waiting for the key, which is being moved (x); nothing was changed\r\n",
			[]request{{reply: []byte("*1\r\n$-1\r\n")}, {reply: []byte(waited), fate: fateNothing}}, []int32{0, 1}},
	} {
		g := &gather{order: x.order}
		for i := range x.ends {
			x.ends[i].cmd = resp.Lookup([]byte(x.name))
			g.parts = append(g.parts, &x.ends[i])
		}
		if got := string(g.merge()); got != x.want {
			t.Errorf("%s: %s want %s", x.name, got, x.want)
		}
	}
	var order []int32
	for i := range 10_000 {
		order = append(order, int32(i%2))
	}
	cmd := resp.Lookup([]byte("del"))
	g := &gather{order: order, parts: []*request{{cmd: cmd, reply: []byte(":1\r\n")}, {cmd: cmd, reply: []byte("-OOM full\r\n")}}}
	if got := g.merge(); len(got) > 500 || !strings.HasPrefix(string(got), "-OOM full; it was executed for key 1,3,5,") {
		t.Errorf("%d bytes: %.200s", len(got), got)
	}
}
