package transport

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
)

// TestHoldReads: this transport, which can stop to read, leaves what comes in the socket.
func TestHoldReads(t *testing.T) {
	var received, resumed atomic.Int64
	var mu sync.Mutex
	var held Conn
	resume := make(chan Loop, 1)
	h := &spy{
		opened: smallReceive,
		data: func(c Conn, b []byte) bool {
			if received.Add(int64(len(b))) >= 1<<20 && held == nil {
				mu.Lock()
				held = c
				mu.Unlock()
				c.HoldReads(true)
				resume <- c.Loop()
			} else if resumed.Load() == 0 && held != nil {
				t.Error("data while reads are held")
			}
			return true
		},
		turn: func(Loop) {
			mu.Lock()
			defer mu.Unlock()
			if held != nil && resumed.CompareAndSwap(1, 2) {
				held.HoldReads(false)
			}
		},
	}
	addr := freeAddr(t)
	e, err := Start(Options{Kind: "epoll", Listen: addr, Loops: 1, ReadBuffer: 16 << 10, Log: zap.NewNop()}, h)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Stop(hangBound) }()
	c := dial(t, addr)
	const total = 16 << 20
	var sent atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		chunk := make([]byte, 1<<20)
		for range total >> 20 {
			n, _ := c.Write(chunk)
			sent.Add(int64(n))
		}
	}()
	l := <-resume
	for last := int64(-1); last != sent.Load(); { // until the sockets are full
		last = sent.Load()
		time.Sleep(200 * time.Millisecond)
	}
	if n := sent.Load(); n >= total {
		t.Errorf("all %d bytes were taken from a client whose reads are held", n)
	}
	resumed.Store(1)
	l.Wake()
	<-done
	for deadline := time.Now().Add(hangBound); received.Load() < total && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	if received.Load() != total {
		t.Errorf("%d of %d bytes were received", received.Load(), total)
	}
}
