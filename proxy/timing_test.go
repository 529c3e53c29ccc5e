package proxy

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/proxy/stats"

	"github.com/redis/go-redis/v9"
)

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
	counts := s.commandStats(ctx)
	at := func(name string) stats.CommandStat { return counts[findCommand([]byte(name)).Index] }
	if at("get").Rejected != 1 || at("rename").Rejected != 1 || at("lpush").Failed != 1 || at("select").Failed != 1 {
		t.Errorf("get %+v, rename %+v, lpush %+v, select %+v", at("get").Rejected, at("rename").Rejected, at("lpush").Failed, at("select").Failed)
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
	for s.Stats()[stats.InFlight] == 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond)
	if err := srv.Continue(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	sets := func() (of []stats.SlowEntry) { // where the machine is busy, other commands are slow too
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
