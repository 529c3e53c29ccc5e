package proxy

import (
	"context"
	"fmt"
	"net"
	"strings"
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

// TestManyKeysOfOneCommand: what a command on very many keys costs the loop while these are
// moved is proportional to their number.
func TestManyKeysOfOneCommand(t *testing.T) {
	source, target := testredis.StartT(t), testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.LockDeadline = time.Hour }, source)
	ctx := context.Background()
	table := movingTable(t, 2, source, target, topology.Range{First: 0, Last: 16383})
	if _, err := s.Apply(ctx, table); err != nil {
		t.Fatal(err)
	}
	locks := table.Jobs[0].Locks
	const n = 30000
	var frame strings.Builder
	fmt.Fprintf(&frame, "*%d\r\n$4\r\nMGET\r\n", n+1)
	for i := range n {
		name := fmt.Sprintf("{t}%d", i)
		fmt.Fprintf(&frame, "$%d\r\n%s\r\n", len(name), name)
		if !locks.TryLock(slotlock.Key{Name: name}) {
			t.Fatal(name, " is in use")
		}
	}
	first, second := dialLine(t, addr), dialLine(t, addr)
	for _, c := range []*lineClient{first, second} {
		c.send(frame.String())
	}
	for parked := 0; parked < 2*n; { // in the queue of each of their keys
		parked = 0
		for _, k := range s.Parked(ctx) {
			parked += k
		}
	}
	began := cpuTime(t)
	for i := range n {
		if cpuTime(t)-began > time.Minute {
			t.Fatal("the loops do little else than to look at the keys again")
		}
		locks.Commit(slotlock.Key{Name: fmt.Sprintf("{t}%d", i)})
		if i%30 == 0 { // as many as a mover moves at a time
			s.each(ctx, func(*loop) {})
		}
	}
	for _, c := range []*lineClient{first, second} {
		c.expect(fmt.Sprintf("*%d", n))
		for range n {
			c.expect("$-1")
		}
	}
}
