package transport

import (
	"bytes"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// startLingering runs an engine that writes the farewell to a client that sends something,
// and much more if that is a 'd', and closes it then if it is a 'd' or a 'q', or at its end.
// It is stopped when its clients, which are ended first, are waited for no longer.
func startLingering(t *testing.T, farewell []byte, set func(*lingerers)) (*epollEngine, string, *atomic.Int64) {
	t.Helper()
	e, addr, closed := openLingering(t, farewell, set)
	t.Cleanup(func() {
		if err := e.Stop(hangBound); err != nil {
			t.Error(err)
		}
	})
	return e, addr, closed
}

// openLingering is startLingering of what the test stops.
func openLingering(t *testing.T, farewell []byte, set func(*lingerers)) (*epollEngine, string, *atomic.Int64) {
	t.Helper()
	var closed atomic.Int64
	addr := freeAddr(t)
	eng, err := Start(Options{Kind: "epoll", Listen: addr, Loops: 2, ReadBuffer: 16 << 10, Log: zap.NewNop()}, &spy{
		opened: smallReceive,
		data: func(c Conn, b []byte) bool {
			_, _ = c.Write(farewell)
			if b[0] == 'd' {
				_, _ = c.Write(make([]byte, 2<<20))
			}
			return b[0] != 'q' && b[0] != 'd'
		},
		closed: func(Conn, error) { closed.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	e := eng.(*epollEngine)
	e.linger.mu.Lock()
	defer e.linger.mu.Unlock()
	set(e.linger)
	return e, addr, &closed
}

// smallReceive sets how much the kernel takes for an accepted connection that is not read from.
func smallReceive(c Conn) bool {
	return unix.SetsockoptInt(c.(*epollConn).fd, unix.SOL_SOCKET, unix.SO_RCVBUF, smallBuffer) == nil
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(hangBound); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (g *lingerers) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

// TestLingerReaches: a client that sends much more before it reads gets what was written to
// it, whole, and then the end.
func TestLingerReaches(t *testing.T) {
	farewell := bytes.Repeat([]byte("farewell"), 16<<10)
	e, addr, _ := startLingering(t, farewell, func(g *lingerers) { g.limit = time.Hour })
	for range 4 {
		c := dial(t, addr)
		_, _ = c.Write([]byte("q"))
		if _, err := c.Write(make([]byte, 2<<20)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(farewell))
		if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, farewell) {
			t.Fatalf("%d bytes of %d, %v", n, len(farewell), err)
		}
		_ = c.Close()
	}
	await(t, "the sockets' end", func() bool { return e.linger.count() == 0 })
}

// TestLingerDoesNotSpin: a socket whose peer has ended its sending side is always ready to be
// read from. It is read from until the end has been seen, and looked at each tick.
func TestLingerDoesNotSpin(t *testing.T) {
	e, addr, _ := startLingering(t, make([]byte, 2<<20), func(g *lingerers) { g.limit = time.Hour })
	begin := time.Now()
	c := dial(t, addr)
	_, _ = c.Write([]byte("q"))
	_ = c.CloseWrite()
	await(t, "50 looks", func() bool { return e.linger.looks.Load() >= 50 })
	looks, reads, most := e.linger.looks.Load(), e.linger.reads.Load(), int64(time.Since(begin)/lingerTick)+2
	if looks > most {
		t.Errorf("%d looks in the time of %d ticks", looks, most)
	}
	if reads > 2 {
		t.Errorf("%d reads after the peer's end", reads)
	}
	if n := e.linger.count(); n != 1 {
		t.Errorf("%d sockets linger, want 1", n)
	}
}

// TestLingerReadsAreBounded: peers that send without end are read from in turn, and no more a
// tick than the bounds allow.
func TestLingerReadsAreBounded(t *testing.T) {
	e, addr, _ := startLingering(t, make([]byte, 2<<20), func(g *lingerers) { g.limit = time.Hour })
	const clients = 3 * lingerReadsMaxAll / lingerReadsMax
	var sent [clients]atomic.Int64
	for i := range clients {
		c := dial(t, addr)
		go func() {
			for b := append([]byte("q"), make([]byte, 256<<10)...); ; {
				n, err := c.Write(b)
				if sent[i].Add(int64(n)); err != nil {
					return
				}
			}
		}()
	}
	const enough = 1 << 20 // more than the sockets' buffers take
	for i := range clients {
		await(t, "every client to be read from", func() bool { return sent[i].Load() > enough })
	}
	reads := e.linger.reads.Load() // first: a look is counted before its reads
	if looks := e.linger.looks.Load(); reads > looks*lingerReadsMaxAll {
		t.Errorf("%d reads at %d looks", reads, looks)
	}
}

// TestLingerIsBounded: beyond the bound sockets are closed at once, and counted; the others
// are waited for.
func TestLingerIsBounded(t *testing.T) {
	const bound, clients = 3, 10
	farewell := make([]byte, 1<<20)
	e, addr, closed := startLingering(t, farewell, func(g *lingerers) { g.limit, g.max = time.Hour, bound })
	var all []*net.TCPConn
	for range clients {
		c := dial(t, addr)
		_, _ = c.Write([]byte("q"))
		all = append(all, c)
	}
	await(t, "the clients' ends", func() bool { return closed.Load() == clients })
	if n, refused := e.linger.count(), e.Unlingered(); n != bound || refused != clients-bound {
		t.Errorf("%d sockets linger and %d were closed at once, want %d and %d", n, refused, bound, clients-bound)
	}
	for _, c := range all {
		_, _ = io.Copy(io.Discard, c)
	}
	await(t, "the sockets' end", func() bool { return e.linger.count() == 0 })
	c := dial(t, addr) // there is room again
	_, _ = c.Write([]byte("q"))
	await(t, "one more", func() bool { return e.linger.count() == 1 })
	_ = c.Close()
}

// TestLingerEnds: a peer that does not read is waited for no longer than the limit, and one
// that has reset its connection not at all.
func TestLingerEnds(t *testing.T) {
	for _, tc := range []struct {
		name  string
		limit time.Duration
		do    func(*net.TCPConn)
	}{
		{"limit", 100 * time.Millisecond, func(*net.TCPConn) {}},
		{"reset", time.Hour, func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() }},
		{"reset after the end", time.Hour, func(c *net.TCPConn) {
			_ = c.CloseWrite()
			time.Sleep(20 * lingerTick) // in most cases the end is seen first
			_ = c.SetLinger(0)
			_ = c.Close()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, addr, closed := startLingering(t, make([]byte, 2<<20), func(g *lingerers) { g.limit = tc.limit })
			c := dial(t, addr)
			_, _ = c.Write([]byte("q"))
			await(t, "a look at it", func() bool { return closed.Load() == 1 && e.linger.looks.Load() > 0 })
			tc.do(c)
			await(t, "the socket's end", func() bool { return e.linger.count() == 0 })
		})
	}
}

// TestStopEndsLingering: who begins to read while an engine stops gets all.
func TestStopEndsLingering(t *testing.T) {
	farewell := bytes.Repeat([]byte("farewell"), 16<<10)
	e, addr, closed := openLingering(t, farewell, func(g *lingerers) { g.limit = time.Hour })
	reader, deaf := dial(t, addr), dial(t, addr)
	_, _ = reader.Write(append([]byte("q"), make([]byte, 2<<20)...))
	_, _ = deaf.Write([]byte("d"))
	await(t, "the ends", func() bool { return closed.Load() == 2 })
	stopped := make(chan error)
	go func() { stopped <- e.Stop(time.Hour) }()
	got := make([]byte, len(farewell))
	if _, err := io.ReadFull(reader, got); err != nil || !bytes.Equal(got, farewell) {
		t.Errorf("the one that reads did not get all: %v", err)
	}
	await(t, "the one that reads to be done with", func() bool { return e.linger.count() == 1 })
	_ = deaf.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if n := e.linger.count(); n != 0 {
		t.Errorf("%d sockets are left", n)
	}
}

// TestStopDoesNotWaitForTheDeaf: a peer that never reads does not keep an engine from stopping.
func TestStopDoesNotWaitForTheDeaf(t *testing.T) {
	e, addr, closed := openLingering(t, make([]byte, 2<<20), func(g *lingerers) { g.limit = time.Hour })
	deaf := dial(t, addr)
	_, _ = deaf.Write([]byte("d"))
	await(t, "the end", func() bool { return closed.Load() == 1 })
	await(t, "the deaf to be waited for", func() bool { return e.linger.count() == 1 }) // stop is for when nobody comes any more
	e.linger.stop(10 * time.Millisecond)                                                // of the engine's own time limit the loops may need some
	if n := e.linger.count(); n != 0 {
		t.Errorf("%d sockets are left", n)
	}
	if err := e.Stop(hangBound); err != nil {
		t.Error(err)
	}
}
