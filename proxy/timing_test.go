package proxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/testredis"

	"github.com/redis/go-redis/v9"
)

func head(args ...string) []byte {
	b := make([][]byte, len(args))
	for i, a := range args {
		b[i] = []byte(a)
	}
	f := resp.AppendRequest(nil, b...)
	return f[:min(len(f), headBytes)]
}

func TestSlowArgs(t *testing.T) {
	for _, x := range []struct {
		head []byte
		want []string
	}{
		{head("GET", "k"), []string{"GET", "k"}},
		{head("SET", "k", strings.Repeat("x", 130)), []string{"SET", "k", strings.Repeat("x", 128) + "... (2 more bytes)"}},
		{head("SET", "k", strings.Repeat("x", 1000), "EX", "5"), []string{"SET", "k", strings.Repeat("x", 128) + "... (872 more bytes)", "... (2 more arguments)"}},
		{head("SET", "k", ""), []string{"SET", "k", ""}},
		{head("AUTH", "me", "secret"), []string{"AUTH", "(redacted)", "(redacted)"}},
		{head("CONFIG", "SET", "RequirePass", "secret"), []string{"CONFIG", "SET", "RequirePass", "(redacted)"}},
		{nil, nil},
	} {
		if got := slowArgs(x.head); !slices.Equal(got, x.want) {
			t.Errorf("%.60q: got %q, want %q", x.head, got, x.want)
		}
	}
	many := []string{"DEL"}
	for i := range 40 {
		many = append(many, fmt.Sprint(i%10))
	}
	got := slowArgs(head(many...))
	if len(got) != slowMaxArgs || got[31] != "... (10 more arguments)" {
		t.Errorf("%d arguments, last %q", len(got), got[len(got)-1])
	}
	for n := range headBytes { // wherever the head ends, it is read without harm
		slowArgs(head(many...)[:min(n, len(head(many...)))])
	}
}

// TestCommandsAreTimed: what the loops count is what clients sent, whoever answered.
func TestCommandsAreTimed(t *testing.T) {
	srv := testredis.StartT(t)
	s, addr := startProxy(t, srv, testredis.StartT(t))
	ctx := context.Background()
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	c.Set(ctx, "k", "v", 0)
	for range 5 {
		c.Get(ctx, "k")
	}
	c.LPush(ctx, "k", "v")          // WRONGTYPE, by the server
	c.Do(ctx, "GET")                // rejected: arity
	c.Do(ctx, "SELECT", 99)         // failed, by the gateway
	c.MGet(ctx, "a", "b", "c", "d") // split
	c.Do(ctx, "RENAME", "a", "b")   // rejected: CROSSSLOT
	pipe := c.Pipeline()            // answered behind one another
	pipe.Get(ctx, "k")
	pipe.Ping(ctx)
	pipe.Do(ctx, "CLIENT", "LIST")
	_, _ = pipe.Exec(ctx)
	lat := s.Latencies(ctx)
	for name, want := range map[string]uint64{"get": 6, "set": 1, "lpush": 1, "select": 1, "mget": 1, "ping": 1, "client|list": 1, "rename": 0} {
		if h := lat[name]; h.Count != want {
			t.Errorf("%s: %d calls, want %d", name, h.Count, want)
		}
	}
	errs := s.ErrorCounts(ctx)
	if errs["WRONGTYPE"] != 1 || errs["CROSSSLOT"] != 1 || errs["ERR"] != 2 {
		t.Errorf("errors: %v", errs)
	}
	stats := s.commandStats(ctx)
	at := func(name string) commandStat { return stats[findCommand([]byte(name)).Index] }
	if at("get").rejected != 1 || at("rename").rejected != 1 || at("lpush").failed != 1 || at("select").failed != 1 {
		t.Errorf("get %+v, rename %+v, lpush %+v, select %+v", at("get").rejected, at("rename").rejected, at("lpush").failed, at("select").failed)
	}
}

// TestSlowLog: a server that is frozen makes a slow command of what it is sent, and the
// time is charged to it.
func TestSlowLog(t *testing.T) {
	srv := testredis.StartT(t)
	s, addr := startProxy(t, srv)
	ctx := context.Background()
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	if err := c.Do(ctx, "CLIENT", "SETNAME", "me").Err(); err != nil {
		t.Fatal(err)
	}
	if err := srv.Pause(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	conn := c.Conn()
	defer conn.Close()
	go func() { done <- conn.Set(ctx, "k", strings.Repeat("x", 500), 0).Err() }()
	for s.Stats().InFlight == 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond)
	if err := srv.Continue(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	sets := func() (of []SlowEntry) { // where the machine is busy, other commands are slow too
		for _, e := range s.SlowLog(ctx, 10) {
			if e.Args[0] == "set" {
				of = append(of, e)
			}
		}
		return of
	}
	list := sets()
	if len(list) != 1 {
		t.Fatalf("slow log: %+v", list)
	}
	e := list[0]
	if e.Args[1] != "k" || e.Group != "g0" || e.ClientName != "me" || e.Total < 10*time.Millisecond || e.Backend+e.LockWait != e.Total {
		t.Errorf("%+v", e)
	}
	got, err := c.SlowLogGet(ctx, -1).Result()
	got = slices.DeleteFunc(got, func(l redis.SlowLog) bool { return l.Args[0] != "set" })
	if err != nil || len(got) != 1 || got[0].ID != e.ID || got[0].ClientName != "me" || got[0].Duration/time.Microsecond != e.Total/time.Microsecond {
		t.Errorf("SLOWLOG GET: %+v %v", got, err)
	}
	if err := c.Do(ctx, "SLOWLOG", "RESET").Err(); err != nil {
		t.Fatal(err)
	}
	if n := c.Do(ctx, "SLOWLOG", "LEN").Val(); n.(int64) > 1 || len(sets()) > 0 { // RESET itself may have been slow
		t.Errorf("SLOWLOG LEN after RESET: %v", n)
	}
}

// TestSlowFlood: of a second that has more slow commands than anybody could read, the
// slowest are entered all the same, and the next second begins anew.
func TestSlowFlood(t *testing.T) {
	var q slowRing
	second := int64(time.Second)
	for range slowFlood {
		if !q.wants(second, 10) {
			t.Fatal("not a flood yet")
		}
	}
	for i, x := range []struct {
		ns, d int64
		want  bool
	}{{second, 10, false}, {second + 1, 9, false}, {second + 2, 11, true}, {second + 3, 11, false}, {2*second - 1, 12, true}, {2 * second, 5, true}} {
		if got := q.wants(x.ns, x.d); got != x.want {
			t.Errorf("%d: %v ns at %v: %v", i, x.d, x.ns, got)
		}
	}
}

func TestSlowRing(t *testing.T) {
	var q slowRing
	q.resize(3)
	ids := func() (out []int64) {
		for _, e := range q.ordered() {
			out = append(out, e.ID)
		}
		return out
	}
	for i := range 5 {
		q.add(&SlowEntry{ID: int64(i)})
	}
	if got := ids(); !slices.Equal(got, []int64{2, 3, 4}) {
		t.Error(got)
	}
	q.resize(2)
	q.resize(4)
	q.add(&SlowEntry{ID: 5})
	if got := ids(); !slices.Equal(got, []int64{3, 4, 5}) {
		t.Error(got)
	}
}
