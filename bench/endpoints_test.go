package bench

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"keyferry/internal/testredis"
)

// door is an address that leads to a server until it is shut or frozen.
type door struct {
	t        *testing.T
	addr, to string
	wg       sync.WaitGroup

	mu     sync.Mutex // protects what follows
	open   bool
	frozen chan struct{} // nil: it is not; closed when that ends
	conns  map[net.Conn]bool
}

func newDoor(t *testing.T, to string) *door {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{t: t, addr: ln.Addr().String(), to: to, open: true, conns: make(map[net.Conn]bool)}
	t.Cleanup(func() {
		ln.Close()
		d.thaw()
		d.shut()
		d.wg.Wait()
	})
	d.wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			d.wg.Go(func() { d.serve(client) })
		}
	})
	return d
}

// serve relays one connection.
func (d *door) serve(client net.Conn) {
	server, err := net.Dial("tcp", d.to)
	if err != nil || !d.keep(client, server) {
		client.Close()
		return
	}
	copied := make(chan struct{}, 2)
	relay := func(dst, src net.Conn) {
		b := make([]byte, 4096)
		for {
			n, err := src.Read(b)
			d.waitThawed()
			if _, werr := dst.Write(b[:n]); err != nil || werr != nil {
				break
			}
		}
		copied <- struct{}{}
	}
	d.wg.Go(func() { relay(server, client) })
	d.wg.Go(func() { relay(client, server) })
	<-copied
	client.Close()
	server.Close()
}

func (d *door) keep(conns ...net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range conns {
		d.conns[c] = true
	}
	return d.open
}

func (d *door) waitThawed() {
	d.mu.Lock()
	frozen := d.frozen
	d.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}

// shut cuts all connections, and lets no new one in.
func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = false
	for c := range d.conns {
		c.Close()
	}
	clear(d.conns)
}

func (d *door) reopen() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = true
}

// freeze has nothing go through while connections stay.
func (d *door) freeze() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frozen = make(chan struct{})
}

func (d *door) thaw() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen != nil {
		close(d.frozen)
		d.frozen = nil
	}
}

func (d *door) clients() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.conns) / 2
}

// TestClientsGoToTheNextEndpoint: of three addresses one is cut and one frozen. Their clients go on at others, and home
// again; clients of the third see nothing.
func TestClientsGoToTheNextEndpoint(t *testing.T) {
	server := testredis.StartT(t)
	a, b, c := newDoor(t, server.Addr), newDoor(t, server.Addr), newDoor(t, server.Addr)
	o := NewOracle(OracleConfig{Clients: 12, DBs: []int{0, 1}, Keys: 600, Pipeline: 4, Rate: 4000, Seed: time.Now().UnixNano(), IncludeDeletes: true,
		ReconnectOnError: true, Endpoints: Endpoints{Addrs: []string{a.addr, b.addr, c.addr}, Silence: 400 * time.Millisecond}})
	mustPreload(t, o)
	end := start(t, o)
	awaitOps(t, o, 500)

	o.Down(a.addr)
	a.shut()
	await(t, "clients of a to be gone", func() bool { return o.Snapshot().Downed.ConnErrors >= 4 })
	awaitOps(t, o, 1000)
	a.reopen()
	o.Up(a.addr)
	await(t, "clients to be at a again", func() bool { return a.clients() == 4 })
	awaitOps(t, o, 500)

	o.Down(b.addr)
	b.freeze()
	await(t, "clients of b to be gone", func() bool { return o.Snapshot().Downed.ConnErrors >= 8 })
	awaitOps(t, o, 1000)
	b.shut()
	b.thaw()
	b.reopen()
	o.Up(b.addr)
	await(t, "clients to be at b again", func() bool { return b.clients() == 4 })
	awaitOps(t, o, 500)
	end()

	s, v := o.Snapshot(), verify(t, o)
	if !v.OK() {
		t.Error(v)
	}
	if n := s.Living; n.Errors+n.ConnErrors > 0 || s.ConnErrors != s.Downed.ConnErrors {
		t.Errorf("clients of what lives saw errors: %+v, downed %+v", n, s.Downed)
	}
	if s.Downed.LongestOutageMS < 200 || s.Living.LongestOutageMS > 0 || s.InDoubt == 0 {
		t.Errorf("that an address was frozen is not to be seen: %+v", s)
	}
}

// TestErrorsOfTheLivingAreTheirs: who loses its connection to an address that nobody has taken down is counted
// apart, and so is an error reply.
func TestErrorsOfTheLivingAreTheirs(t *testing.T) {
	server := testredis.StartT(t)
	a, b := newDoor(t, server.Addr), newDoor(t, server.Addr)
	o := NewOracle(OracleConfig{Clients: 4, Keys: 200, Rate: 2000, Seed: 1, ReconnectOnError: true,
		Endpoints: Endpoints{Addrs: []string{a.addr, b.addr}, Silence: 10 * time.Second}})
	mustPreload(t, o)
	end := start(t, o)
	awaitOps(t, o, 200)
	a.shut()
	await(t, "clients to have noticed", func() bool { return o.Snapshot().Living.ConnErrors >= 2 })
	if err := server.Client().ConfigSet(context.Background(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	await(t, "an error reply", func() bool { return o.Snapshot().Living.Errors > 0 })
	end()
	s := o.Snapshot()
	texts := int64(0)
	for _, n := range s.Living.Texts {
		texts += n
	}
	if s.Living.Errors != s.Errors || s.Living.ConnErrors != s.ConnErrors || texts != s.Errors+s.ConnErrors || s.Downed.ConnErrors > 0 ||
		s.Living.Texts[connText(io.EOF)]+s.Living.Texts["read: connection reset by peer"] == 0 {
		t.Errorf("%+v", s)
	}
}
