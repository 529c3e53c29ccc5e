package proxy

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyferry/internal/testredis"
)

// TestStopAnswersWhatIsSent: clients that send without pause do not keep a stopping gateway
// from coming to an end, and none loses the reply of a command that a server was sent.
func TestStopAnswersWhatIsSent(t *testing.T) {
	server := testredis.StartT(t)
	s, addr := startProxy(t, server)
	var answered atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		wg.Go(func() {
			for some := []byte(strings.Repeat("INCR n\r\n", 50)); ; {
				if _, err := nc.Write(some); err != nil {
					return
				}
			}
		})
		wg.Go(func() {
			b := make([]byte, 4096)
			for {
				n, err := nc.Read(b)
				answered.Add(int64(strings.Count(string(b[:n]), "\n")))
				if err != nil {
					return
				}
			}
		})
	}
	blocked := dialLine(t, addr)
	blocked.send("BLPOP never 0\n")
	for answered.Load() < 1000 || blockedClients(s) < 1 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute) // it would never end
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Error("clients that go on sending have kept the gateway from stopping")
	}
	wg.Wait()
	n, err := server.Client().Get(context.Background(), "n").Int64()
	if err != nil {
		t.Fatal(err)
	}
	if got := answered.Load(); got != n {
		t.Errorf("%d commands were executed and %d answered", n, got)
	}
	// The connection that it has borrowed may not have stood yet.
	if line, err := blocked.r.ReadString('\n'); err != io.EOF && !strings.HasSuffix(line, "nothing was executed\r\n") {
		t.Errorf("the blocked client: %q, %v, want the end", line, err)
	}
}
