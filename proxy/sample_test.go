package proxy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/proxy/stats"
)

// TestSampleAndHeat: what clients did is in the sample, the hot key is found, big values
// are named whether they were written or read, and slots are told apart.
func TestSampleAndHeat(t *testing.T) {
	srv := testredis.StartT(t)
	s, addr := startProxy(t, srv)
	ctx := context.Background()
	c := testredis.NewClient(addr, "", 3)
	defer c.Close()
	const rounds = 400
	for i := range rounds {
		pipe := c.Pipeline()
		for range 10 {
			pipe.Get(ctx, "hot")
		}
		pipe.Set(ctx, fmt.Sprint("cold", i), "v", 0)
		if _, err := pipe.Exec(ctx); err != nil && !strings.Contains(err.Error(), "nil") {
			t.Fatal(err)
		}
	}
	c.Set(ctx, "written", strings.Repeat("x", 100000), 0)
	srv.ClientDB(3).Set(ctx, "read", strings.Repeat("x", 200000), 0)
	c.Get(ctx, "read")
	c.Get(ctx, "read")

	hot := s.HotKeys(ctx, 5)
	if len(hot) == 0 || hot[0].Key != "hot" || hot[0].DB != 3 || hot[0].Slot != s.mu.table.Scheme.Slot([]byte("hot")) || hot[0].Writes != 0 {
		t.Errorf("hot keys: %+v", hot)
	}
	big := s.BigValues(ctx)
	if len(big) != 2 || big[0].Key != "read" || big[0].Bytes < 200000 || big[1].Key != "written" || big[1].Bytes < 100000 || big[0].DB != 3 {
		t.Errorf("big values: %+v", big)
	}
	got, ok := s.Sample(ctx)
	if !ok || got.Classes[stats.Reads].Count != 10*rounds+2 || got.Classes[stats.Writes].Count != rounds+1 || got.Counts[stats.Clients] < 1 || got.Links["g0"].Up < 1 {
		t.Errorf("ok %v, %d reads, %d writes, %d clients, links %+v", ok, got.Classes[stats.Reads].Count, got.Classes[stats.Writes].Count, got.Counts[stats.Clients], got.Links)
	}
	sampled := 0
	for _, n := range got.SlotOps {
		sampled += int(n)
	}
	// 4,400 commands, one in four looked at: 1,100 with a deviation of about 20.
	if sampled < 800 || sampled > 1400 {
		t.Errorf("%d commands sampled of %d", sampled, 11*rounds)
	}
	if n := int(got.SlotOps[s.mu.table.Scheme.Slot([]byte("hot"))]); n < sampled*8/10 {
		t.Errorf("the hot slot was met %d times of %d", n, sampled)
	}
}

// TestSampleOfAStuckLoop: a loop that does not answer does not hold up the others.
func TestSampleOfAStuckLoop(t *testing.T) {
	s, addr := startProxy(t, testredis.StartT(t))
	clients := 0
	for len(s.allLoops()) < 2 { // connections go to the loops in turn
		c := testredis.NewClient(addr, "", 0)
		defer c.Close()
		c.Ping(context.Background())
		if clients++; clients > 10 {
			t.Fatal("one loop has all clients")
		}
	}
	release := make(chan struct{})
	stuck := make(chan struct{})
	s.allLoops()[0].post(func() { close(stuck); <-release })
	<-stuck
	for patience := 100 * time.Millisecond; ; patience *= 2 { // the other loop may need some time
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		got, ok := s.Sample(ctx)
		cancel()
		if ok || got.Counts[stats.Loops] != 2 {
			t.Fatalf("ok %v of a data plane with a stuck loop, %d loops", ok, got.Counts[stats.Loops])
		}
		if got.Classes[stats.Others].Count > 0 {
			break
		}
		if patience > hangBound {
			t.Fatal("the other loop is held up")
		}
	}
	close(release)
	if _, ok := s.Sample(context.Background()); !ok {
		t.Error("the loop is back and does not answer")
	}
}
