package proxy

import (
	"context"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/proxy/stats"
	"keyferry/router"
	"keyferry/slotlock"
)

// slots of the keys that these tests use: the scheme is Redis's.
func slotOf(key string) int { return router.Redis.Slot([]byte(key)) }

// movingTable routes by g0, with the slots of one job on their way to g1.
func movingTable(t *testing.T, epoch uint64, source, target *testredis.Server, slots ...topology.Range) *router.Table {
	t.Helper()
	st := topology.NewState("redis", 16384, 16)
	st.Epoch = epoch
	_ = st.AddGroup(topology.Group{ID: "g0", Endpoint: topology.Endpoint{Addr: source.Addr}})
	_ = st.AddGroup(topology.Group{ID: "g1", Endpoint: topology.Endpoint{Addr: target.Addr}})
	_ = st.AssignSlots(topology.Range{First: 0, Last: 16383}, "g0")
	st.Moves = []topology.Move{{Job: "m1", Slots: slots, Source: "g0", Target: "g1", From: 1}}
	locks := slotlock.New(slotlock.Options{MaxWaiting: 10})
	table, err := router.Build(st.Topology, router.View{Locks: func(string) (*slotlock.Table, *slotlock.Whole) { return locks, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// blockedClients counts the clients that wait at a server.
func blockedClients(s *Server) (n int) {
	s.each(context.Background(), func(l *loop) {
		for x := range l.waiters.blocked {
			if x.on != nil {
				n++
			}
		}
	})
	return n
}

// TestBlockedElsewhereHoldsUpNoJob: a client that blocks on a key whose slot does not move
// may wait for ever, at the very group that a job moves other slots from.
func TestBlockedElsewhereHoldsUpNoJob(t *testing.T) {
	source, target := testredis.StartT(t), testredis.StartT(t)
	s, addr := startProxy(t, source)
	stays := dialLine(t, addr)
	stays.send("BLPOP stays 0\n")
	for blockedClients(s) < 1 {
		time.Sleep(time.Millisecond)
	}
	slot := slotOf("stays")
	drained, err := s.Apply(context.Background(), movingTable(t, 2, source, target, topology.Range{First: slot + 1, Last: 16383}))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-drained:
	case <-time.After(hangBound):
		t.Fatal("the job waits for a client that blocks on a slot that does not move")
	}
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	if err := c.RPush(context.Background(), "stays", "v").Err(); err != nil {
		t.Fatal(err)
	}
	stays.expect("*2", "$5", "stays", "$1", "v")
}

// TestSwapUnderWayHoldsUpTheJob: what SWAPDB does at the target after the first key has come
// would put that key into another database.
func TestSwapUnderWayHoldsUpTheJob(t *testing.T) {
	source, target := testredis.StartT(t), testredis.StartT(t)
	s, addr := startProxy(t, source, target)
	c := dialLine(t, addr)
	c.send("SWAPDB 0 1\n")
	c.expect("+OK")
	if err := target.Pause(); err != nil {
		t.Fatal(err)
	}
	c.send("SWAPDB 0 1\n")
	for s.Stats()[stats.InFlight] != 1 { // the source has answered
		time.Sleep(time.Millisecond)
	}
	drained, err := s.Apply(context.Background(), movingTable(t, 2, source, target, topology.Range{First: 0, Last: 8191}))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-drained:
		t.Error("drained with SWAPDB under way at the target")
	case <-time.After(50 * time.Millisecond):
	}
	if err := target.Continue(); err != nil {
		t.Fatal(err)
	}
	<-drained
	c.expect("+OK")
}

// TestRemovedGroupAnswersWhatItWasSent: a group that is removed has no slots, but it may have
// scripts under way.
func TestRemovedGroupAnswersWhatItWasSent(t *testing.T) {
	stays, goes := testredis.StartT(t), testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops = 1 }, stays)
	table := movingTable(t, 2, stays, goes)
	table.Jobs = nil
	ctx := context.Background()
	if _, err := s.Apply(ctx, table); err != nil {
		t.Fatal(err)
	}
	c := dialLine(t, addr)
	c.send("PING\n")
	c.expect("+PONG")
	c.send("SCRIPT LOAD return(1)\n") // connects
	c.expect("$40")
	loaded := c.line()
	if err := goes.Pause(); err != nil {
		t.Fatal(err)
	}
	c.send("SCRIPT LOAD return(1)\n")
	for s.Stats()[stats.InFlight] != 1 { // the other has answered
		time.Sleep(time.Millisecond)
	}
	without := *table
	without.Epoch, without.Groups = 3, table.Groups[:1]
	if _, err := s.Apply(ctx, &without); err != nil {
		t.Fatal(err)
	}
	if err := goes.Continue(); err != nil {
		t.Fatal(err)
	}
	c.expect("$40", loaded)
	for n := 1; n > 0; { // and then lets go of it
		list, err := goes.Client().ClientList(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		n = strings.Count(list, "name="+upstream.Prefix("t", 1))
	}
}
