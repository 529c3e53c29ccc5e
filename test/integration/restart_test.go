package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testrig"
	"keyferry/internal/topology"
)

// TestTargetAwayAtRestart: a gateway that comes back while the target is away serves what
// it can prove, says what it waits for, and finishes when the target is back.
func TestTargetAwayAtRestart(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2, "--set", "migration.batch-max-keys=8", "--set", "migration.call-timeout=1s", "--set", "locks.wait-deadline=200ms")
	c := r.client()
	for i := range 1000 {
		if err := c.Set(ctx, fmt.Sprintf("k%d", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	r.proxy("MIGRATE", "0-8191", "TO", "g2", "RATE", "50")
	r.awaitMoved(50)
	r.kill()
	if err := r.servers[1].Kill(); err != nil {
		t.Fatal(err)
	}
	r.start("")
	// Where the keys of moving slots are can't be known without the target.
	err := c.Get(ctx, keyInSlots(0, 8191)).Err()
	if err == nil || !strings.HasPrefix(err.Error(), "TRYAGAIN") {
		t.Errorf("a key of a moving slot, target away: %v", err)
	}
	if err := c.Set(ctx, keyInSlots(8192, 16383), "x", 0).Err(); err != nil {
		t.Errorf("a key of a stable slot: %v", err)
	}
	r.await("the job to say why it waits", func() bool {
		j := r.job()
		return j.Phase == topology.Backoff && j.FirstError != nil && j.FirstError.Origin == "target"
	})
	if err := r.servers[1].Restart(); err != nil {
		t.Fatal(err)
	}
	r.unlimited()
	r.awaitDone()
	for i := range 1000 {
		if v, err := c.Get(ctx, fmt.Sprintf("k%d", i)).Int(); err != nil || v != i {
			t.Errorf("k%d = %d, %v", i, v, err)
		}
	}
	r.placesRight()
}

// TestHalfClosedClient: who has sent his last byte still gets his replies, also those that
// were not there yet, and the gateway still stops in good order.
func TestHalfClosedClient(t *testing.T) {
	r := newRig(t, 1)
	const n = 30000 // more than a client may have in flight: the rest waits as bytes
	nc, err := net.Dial("tcp", r.listen)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := io.WriteString(nc, strings.Repeat("INCR k\r\n", n)); err != nil {
		t.Fatal(err)
	}
	if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = nc.SetReadDeadline(time.Now().Add(5 * time.Minute))
	out, err := io.ReadAll(nc)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(out), "\r\n"); got != n || !strings.HasSuffix(string(out), fmt.Sprintf(":%d\r\n", n)) {
		t.Errorf("%d replies, want %d; the last bytes are %q", got, n, testrig.Tail(string(out), 20))
	}
}

// TestClientsThatVanish close their connections, with and without a reset, in the middle
// of large replies, of long pipelines and of parked commands. The others don't notice.
func TestClientsThatVanish(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	c := r.client()
	if err := c.Set(ctx, "big", strings.Repeat("x", 1<<20), 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(ctx, "small", "y", 0).Err(); err != nil {
		t.Fatal(err)
	}
	requests := []string{
		strings.Repeat("GET big\r\nGET small\r\n", 10), strings.Repeat("INCR n\r\n", 5000), strings.Repeat("COMMAND\r\n", 10),
		strings.Repeat("MGET big small n none\r\n", 10), "*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$5000000\r\nabc",
	}
	for round := range 120 {
		if round == 50 {
			r.proxy("MIGRATE", "0-16383", "TO", "g2")
		}
		nc, err := net.Dial("tcp", r.listen)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(nc, requests[round%len(requests)]); err != nil {
			t.Fatal(err)
		}
		if round%3 > 0 && round%5 < 4 { // the last request is not complete and gets no reply
			if _, err := io.CopyN(io.Discard, nc, int64(1+round%20*1000)); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if round%2 == 0 {
			_ = nc.(*net.TCPConn).SetLinger(0)
		}
		_ = nc.Close()
		if v, err := c.Get(ctx, "small").Result(); err != nil || v != "y" {
			t.Fatalf("round %d: %q %v", round, v, err)
		}
	}
	r.awaitDone()
	r.await("the vanished to be forgotten", func() bool {
		return strings.Contains(c.Info(ctx, "clients").Val(), "connected_clients:1\r\n")
	})
	if n := len(c.Get(ctx, "big").Val()); n != 1<<20 {
		t.Errorf("big has %d bytes", n)
	}
}
