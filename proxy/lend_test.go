package proxy

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/resp"
	"keyferry/internal/testredis"
)

// someValue is n bytes that tell where they are, and whose.
func someValue(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		v := rng.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	return b
}

// TestLargeValuesToABusyServer: large values of many clients, which wait in the gateway for a
// server that does not read for a while, arrive as they were sent, though their memory is
// used again for what comes later.
func TestLargeValuesToABusyServer(t *testing.T) {
	server := testredis.StartT(t)
	link := narrowLink(t, server)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops = 1 }, &testredis.Server{Addr: link.Addr})
	direct := server.Client()
	ctx := t.Context()
	const clients, rounds = 20, 3
	connectToServer(t, addr)
	var conns []net.Conn
	for range clients {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(5 * hangBound))
		conns = append(conns, nc)
	}
	for round := range rounds {
		link.Set(faultproxy.ToServer, faultproxy.Fault{Blackhole: true})
		var wg sync.WaitGroup
		sums := map[string][32]byte{}
		for i, nc := range conns {
			key := fmt.Sprintf("k%d", i)
			v := someValue(uint64(round*clients+i), 400<<10+i*(100<<10)+i)
			sums[key] = sha256.Sum256(v)
			frame := resp.AppendRequest(nil, []byte("SET"), []byte("small"+key), []byte("x"))
			frame = resp.AppendRequest(frame, []byte("SET"), []byte(key), v)
			if i%2 == 0 { // one behind it, in the same write
				frame = resp.AppendRequest(frame, []byte("SET"), []byte("more"+key), []byte("y"))
			}
			wg.Go(func() { _, _ = nc.Write(frame) })
		}
		wg.Wait()
		eventually(t, "4 MB wait for the server", func() bool { return pendingToServers(ctx, s) >= 4<<20 })
		link.Set(faultproxy.ToServer, faultproxy.Fault{})
		for i, nc := range conns {
			want := 2 * len("+OK\r\n")
			if i%2 == 0 {
				want += len("+OK\r\n")
			}
			got := make([]byte, want)
			for n := 0; n < want; {
				m, err := nc.Read(got[n:])
				if err != nil {
					t.Fatalf("round %d, client %d: %q, %v", round, i, got[:n], err)
				}
				n += m
			}
		}
		for key, sum := range sums {
			if got, err := direct.Get(ctx, key).Bytes(); err != nil || sha256.Sum256(got) != sum {
				t.Errorf("round %d: %s arrived as other %d bytes, %v", round, key, len(got), err)
			}
		}
	}
}

// narrowLink is a link to a server of which one can make the gateway's bytes wait in the
// gateway, and not in sockets.
func narrowLink(t *testing.T, server *testredis.Server) *faultproxy.Proxy {
	t.Helper()
	link, err := faultproxy.NewNarrow(server.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = link.Close() })
	return link
}

// connectToServer returns when the loop has a connection to the server.
func connectToServer(t *testing.T, addr string) {
	t.Helper()
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	if err := c.Set(t.Context(), "first", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
}

func pendingToServers(ctx context.Context, s *Server) (n int) {
	for _, l := range s.allLoops() {
		_ = l.call(ctx, func() {
			for _, p := range l.servers.pipes {
				n += p.Pending()
			}
		})
	}
	return n
}

// TestLentMemoryComesBack: when a server connection ends, the memory that waited for it is
// used for what follows, once.
func TestLentMemoryComesBack(t *testing.T) {
	server := testredis.StartT(t)
	link := narrowLink(t, server)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops = 1 }, &testredis.Server{Addr: link.Addr})
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(5 * hangBound))
	ctx := t.Context()
	connectToServer(t, addr)
	spares := func() (n int) {
		for _, l := range s.allLoops() {
			_ = l.call(ctx, func() { n += l.spares.buffers.bytes })
		}
		return n
	}
	link.Set(faultproxy.ToServer, faultproxy.Fault{Blackhole: true})
	var frame []byte
	for i := range 8 {
		frame = resp.AppendRequest(frame, []byte("SET"), []byte("k"+strconv.Itoa(i)), someValue(1, 1_000_000))
	}
	go func() { _, _ = nc.Write(frame) }()
	eventually(t, "2 MB wait for the server", func() bool { return pendingToServers(ctx, s) >= 2<<20 })
	before := spares()
	for _, l := range s.allLoops() {
		if err := l.call(ctx, func() {
			for _, p := range l.servers.pipes {
				p.Close()
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	link.Set(faultproxy.ToServer, faultproxy.Fault{})
	for end := time.Now().Add(hangBound); spares() < before+1<<20; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes of spare buffers before and %d after", before, spares())
		}
	}
	seen := map[*byte]bool{}
	for _, l := range s.allLoops() {
		_ = l.call(ctx, func() {
			for _, list := range l.spares.buffers.free {
				for _, b := range list {
					if p := &b[:1][0]; seen[p] {
						t.Error("a buffer is there twice")
					} else {
						seen[p] = true
					}
				}
			}
		})
	}
}

// TestDeclaredLengthTakesNoMemory: what a client says is to come takes memory only as some
// multiple of what has come.
func TestDeclaredLengthTakesNoMemory(t *testing.T) {
	s, addr := startProxyWith(t, func(o *Options) { o.Loops = 1 }, testredis.StartT(t))
	for _, sent := range []int{100, 10_000, 70_000, 200_000, 1_000_000, 3_000_000} {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		head := "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870000\r\n"
		if _, err := nc.Write(append([]byte(head), make([]byte, sent)...)); err != nil {
			t.Fatal(err)
		}
		have, room := 0, 0
		for end := time.Now().Add(hangBound); have < sent+len(head); time.Sleep(time.Millisecond) {
			for _, l := range s.allLoops() {
				_ = l.call(t.Context(), func() {
					for x := range l.clients.all {
						if x.who.addr == nc.LocalAddr().String() {
							have, room = len(x.input.buf), cap(x.input.buf)
						}
					}
				})
			}
			if time.Now().After(end) {
				t.Fatalf("%d of %d bytes were received", have, sent)
			}
		}
		if most := max(bufferSize(0), 2*4*have); room > most { // sizes are powers of two
			t.Errorf("%d bytes were sent and room is for %d, want at most %d", sent, room, most)
		}
	}
}
