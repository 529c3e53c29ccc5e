package proxy

import (
	"context"
	"net"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/slotlock"
)

// TestLostClientLeavesAPrefix: of the commands of a client that is gone none on a key is
// executed behind one that is not.
func TestLostClientLeavesAPrefix(t *testing.T) {
	source, target := testredis.StartT(t), testredis.StartT(t)
	s, addr := startProxy(t, source)
	ctx := context.Background()
	table := movingTable(t, 2, source, target, topology.Range{First: 0, Last: 16383})
	if _, err := s.Apply(ctx, table); err != nil {
		t.Fatal(err)
	}
	locks := table.Jobs[0].Locks
	a := slotlock.Key{Name: "a{t}"}
	if !locks.TryLock(a) {
		t.Fatal("a is in use")
	}
	parked := func() (n int) {
		for _, k := range s.Parked(ctx) {
			n += k
		}
		return n
	}
	c := dialLine(t, addr)
	c.send("MSET a{t} 1 b{t} 1\nAPPEND b{t} x\nAPPEND b{t} y\n")
	for parked() < 4 { // the first waits for two keys
		time.Sleep(time.Millisecond)
	}
	_ = c.c.(*net.TCPConn).SetLinger(0) // the end is a reset
	_ = c.c.Close()
	for parked() > 0 {
		time.Sleep(time.Millisecond)
	}
	locks.Abort(a, true)
	after := dialLine(t, addr)
	after.send("MGET a{t} b{t}\n")
	after.expect("*2", "$-1", "$-1")
}
