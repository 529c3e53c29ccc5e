package proxy

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/faultproxy"
	"keyferry/internal/resp"
	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/proxy/stats"
	"keyferry/router"
	"keyferry/slotlock"
)

// hangBound is no expectation of speed: it ends a hang.
const hangBound = 3 * time.Minute

// startProxy runs a data plane over servers, each with an equal run of slots.
func startProxy(t testing.TB, servers ...*testredis.Server) (*Server, string) {
	t.Helper()
	return startProxyWith(t, func(*Options) {}, servers...)
}

// onEachTransport runs f with a proxy of one loop whose server is behind a link that can be cut.
func onEachTransport(t *testing.T, f func(t *testing.T, s *Server, addr string, server *testredis.Server, link *faultproxy.Proxy)) {
	for _, transport := range []string{"gnet", ""} {
		t.Run("transport "+transport, func(t *testing.T) {
			server := testredis.StartT(t)
			link, err := faultproxy.New(server.Addr, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer link.Close()
			s, addr := startProxyWith(t, func(o *Options) { o.Loops, o.Transport = 1, transport }, &testredis.Server{Addr: link.Addr})
			f(t, s, addr, server, link)
		})
	}
}

// startProxyWith lets a test change the options.
func startProxyWith(t testing.TB, change func(*Options), servers ...*testredis.Server) (*Server, string) {
	t.Helper()
	st := topology.NewState("redis", 16384, 16)
	st.Epoch = 1
	for i, s := range servers {
		id := fmt.Sprintf("g%d", i)
		if err := st.AddGroup(topology.Group{ID: id, Endpoint: topology.Endpoint{Addr: s.Addr}}); err != nil {
			t.Fatal(err)
		}
		n := 16384 / len(servers)
		last := (i+1)*n - 1
		if i == len(servers)-1 {
			last = 16383
		}
		if err := st.AssignSlots(topology.Range{First: i * n, Last: last}, id); err != nil {
			t.Fatal(err)
		}
	}
	table, err := router.Build(st.Topology, router.View{Locks: func(string) (*slotlock.Table, *slotlock.Whole) { return nil, nil }})
	if err != nil {
		t.Fatal(err)
	}
	port, err := testredis.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	opt := Options{
		ListenOptions: ListenOptions{Listen: addr, Loops: 2, ReadBuffer: 64 << 10},
		Identity:      Identity{Name: "t", Incarnation: 1},
		ClientOptions: ClientOptions{MaxClients: 1000, MaxBulk: 512 << 20, QueryLimit: 1 << 30, Output: OutputLimit{1 << 30, 1 << 28, time.Minute},
			OutputPubSub: OutputLimit{1 << 25, 1 << 23, time.Minute}, MemoryTotal: 1 << 31, MaxInFlight: 8192},
		ServerOptions: ServerOptions{Dialer: upstream.NewDialer("t", 1), ConnectTimeout: hangBound, ReconnectMin: 20 * time.Millisecond, ReconnectMax: time.Second,
			PipeBytes: 64 << 20, MaxDedicated: 1000},
		LockOptions: LockOptions{LockDeadline: hangBound, MaxParked: 1000},
		Config:      stats.Config{SlowerThan: 10 * time.Millisecond, SlowMax: 128, SampleEvery: 4, BigValue: 50000},
		Log:         zap.NewNop()}
	change(&opt)
	s := New(opt, table)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Stop(ctx)
	})
	return s, addr
}

// TestSplitKeepsTheOrderOfKeys: MGET over many slots and two servers, with keys that are
// missing and keys named twice.
func TestSplitKeepsTheOrderOfKeys(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t), testredis.StartT(t))
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	ctx := context.Background()
	var set []any
	var keys []string
	for i := range 300 {
		set = append(set, fmt.Sprint("k", i), i)
		keys = append(keys, fmt.Sprint("k", i), fmt.Sprint("none", i), fmt.Sprint("k", i/2))
	}
	if err := c.MSet(ctx, set...).Err(); err != nil {
		t.Fatal(err)
	}
	got, err := c.MGet(ctx, keys...).Result()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		if got[3*i] != fmt.Sprint(i) || got[3*i+1] != nil || got[3*i+2] != fmt.Sprint(i/2) {
			t.Fatalf("around key %d: %v", i, got[3*i:3*i+3])
		}
	}
	if n := c.Exists(ctx, keys...).Val(); n != 600 {
		t.Errorf("EXISTS counts %d, want 600", n)
	}
	if n := c.Unlink(ctx, keys...).Val(); n != 300 {
		t.Errorf("UNLINK counts %d, want 300", n)
	}
	if err := c.Do(ctx, "MSET", "a", "1", "b").Err(); err == nil {
		t.Error("an odd MSET was accepted")
	}
}

// TestTableChangeDrainsAndAdopts: a table in which a slot begins to move is drained only
// when the commands that were sent before it have been answered.
func TestTableChangeDrainsAndAdopts(t *testing.T) {
	srv := testredis.StartT(t)
	other := testredis.StartT(t)
	s, addr := startProxy(t, srv)
	ctx := context.Background()
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for s.Stats()[stats.InFlight] > 0 { // a loop publishes after it has written the reply
		time.Sleep(time.Millisecond)
	}
	if err := srv.Pause(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { answered <- c.Set(ctx, "k", "w", 0).Err() }()
	for s.Stats()[stats.InFlight] == 0 {
		time.Sleep(time.Millisecond)
	}
	st := topology.NewState("redis", 16384, 16)
	st.Epoch = 2
	_ = st.AddGroup(topology.Group{ID: "g0", Endpoint: topology.Endpoint{Addr: srv.Addr}})
	_ = st.AddGroup(topology.Group{ID: "g1", Endpoint: topology.Endpoint{Addr: other.Addr}})
	_ = st.AssignSlots(topology.Range{First: 0, Last: 16383}, "g0")
	st.Moves = []topology.Move{{Job: "m1", Slots: []topology.Range{{First: 0, Last: 16383}}, Source: "g0", Target: "g1", From: 1}}
	locks := slotlock.New(slotlock.Options{MaxWaiting: 10})
	table, err := router.Build(st.Topology, router.View{Locks: func(string) (*slotlock.Table, *slotlock.Whole) { return locks, nil }})
	if err != nil {
		t.Fatal(err)
	}
	drained, err := s.Apply(ctx, table) // adopted although the server is silent
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-drained:
		t.Fatal("drained with a command in flight at the source")
	case <-time.After(100 * time.Millisecond):
	}
	if err := srv.Continue(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	<-drained
}

// BenchmarkStablePath is one request from the socket's bytes to the server's pipe and
// back, by a client that pipelines; it reports the allocations of the whole gateway.
func BenchmarkStablePath(b *testing.B) {
	for name, req := range map[string]string{
		"GET": "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n", "SET": "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n",
		"INCR": "*2\r\n$4\r\nINCR\r\n$3\r\nctr\r\n", "HSET": "*4\r\n$4\r\nHSET\r\n$1\r\nh\r\n$1\r\nf\r\n$1\r\nv\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			_, addr := startProxy(b, testredis.StartT(b))
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			defer nc.Close()
			const pipeline = 500
			var out []byte
			for range pipeline {
				out = append(out, req...)
			}
			in := make([]byte, 64<<10)
			round := func() {
				if _, err := nc.Write(out); err != nil {
					b.Fatal(err)
				}
				var scan resp.ReplyScanner
				for n := 0; n < pipeline; {
					m, err := nc.Read(in)
					if err != nil {
						b.Fatal(err)
					}
					for p := in[:m]; len(p) > 0; {
						k, st := scan.Scan(p)
						if st == resp.OK {
							n++
						}
						p = p[k:]
					}
				}
			}
			for range 20 {
				round()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += pipeline {
				round()
			}
		})
	}
}
