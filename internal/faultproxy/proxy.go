// Package faultproxy is a TCP proxy for tests: it stands between two parties that speak
// RESP and does to their connections what networks do.
//
//	client ──► read ─► [trap] ─► queue ─► hold, delay, throttle, cut ─► write ──► server
//	client ◄── write ◄─ cut, throttle, delay, hold ◄─ queue ◄─ [trap] ◄─ read ◄── server
//
// Faults are set for the whole proxy, each direction apart, and hold for the connections
// that stand as well as for new ones; they may be changed at any moment. Bytes that are
// held back are not lost: they arrive when the fault ends, as TCP would have it, also when
// their sender has long given up. That is what makes outcomes unknown.
package faultproxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"

	"keyferry/internal/testredis"
)

// Direction is the way that bytes go.
type Direction uint8

const (
	ToServer Direction = iota // requests
	ToClient                  // replies
)

// Fault is what is done to the bytes of one direction. The zero value lets them pass.
type Fault struct {
	Blackhole bool          // nothing arrives before the fault has ended
	Delay     time.Duration // every byte is this late; throughput stays
	Jitter    time.Duration // up to so much later than Delay, by chunks and in order
	BytesPerS int           // 0: no limit
}

// ErrClosed is returned when a closed proxy is told to accept connections.
var ErrClosed = errors.New("faultproxy: closed")

// Proxy listens at Addr and hands every connection on to its server.
type Proxy struct {
	Addr    string
	wg      sync.WaitGroup // every goroutine of the proxy
	control control        // of every socket; never changed

	mu      sync.Mutex // protects what follows
	target  string
	fault   [2]Fault
	cutLeft [2]int64      // bytes until every connection is cut; < 0: never
	changed chan struct{} // closed and replaced when fault changes
	traps   []*Trap
	conns   map[*conn]bool
	ln      net.Listener // nil: connections are refused
	closed  bool
	rng     *rand.Rand
	stats   Stats
}

// Stats counts what has been done.
type Stats struct {
	Accepted  int // connections
	Cut       int // connections ended by Reset, CutAfter or a trap
	Swallowed int // replies that a trap kept back
	Bytes     [2]int64
}

// control sets options of a socket before it is connected or listens; nil: none.
type control func(network, address string, c syscall.RawConn) error

// New starts a proxy to the server at target. The seed picks the jitter.
func New(target string, seed uint64) (*Proxy, error) { return newProxy(target, seed, nil) }

// NewNarrow is New with SmallBuffers: what a Blackhole holds back is with its sender, but for
// the 2 MB or so that the proxy and its sockets take.
func NewNarrow(target string, seed uint64) (*Proxy, error) {
	return newProxy(target, seed, SmallBuffers)
}

func newProxy(target string, seed uint64, ctl control) (*Proxy, error) {
	port, err := testredis.FreePort()
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		Addr: fmt.Sprintf("127.0.0.1:%d", port), target: target, control: ctl, cutLeft: [2]int64{-1, -1},
		changed: make(chan struct{}), conns: map[*conn]bool{}, rng: rand.New(rand.NewPCG(seed, 1)),
	}
	if err := p.Refuse(false); err != nil {
		return nil, err
	}
	return p, nil
}

// Set changes what is done to the bytes of a direction.
func (p *Proxy) Set(d Direction, f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault[d] = f
	p.announce()
}

// SetBoth is Set for both directions.
func (p *Proxy) SetBoth(f Fault) {
	p.Set(ToServer, f)
	p.Set(ToClient, f)
}

func (p *Proxy) announce() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// Heal ends every fault. Connections that were cut stay cut.
func (p *Proxy) Heal() error {
	p.mu.Lock()
	p.fault, p.cutLeft, p.traps = [2]Fault{}, [2]int64{-1, -1}, nil
	p.announce()
	p.mu.Unlock()
	return p.Refuse(false)
}

// Refuse makes the kernel refuse new connections, or accept them again. Those that stand
// are not touched.
func (p *Proxy) Refuse(refuse bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return ErrClosed
	case refuse && p.ln != nil:
		err := p.ln.Close()
		p.ln = nil
		return err
	case !refuse && p.ln == nil:
		lc := net.ListenConfig{Control: p.control}
		ln, err := lc.Listen(context.Background(), "tcp", p.Addr)
		if err != nil {
			return fmt.Errorf("faultproxy: %w", err)
		}
		p.ln = ln
		p.wg.Go(func() { p.accept(ln) })
	}
	return nil
}

// Retarget moves the address to another server: those who connect from now on reach that.
// Connections that stand are not touched.
func (p *Proxy) Retarget(target string) {
	p.mu.Lock()
	p.target = target
	p.mu.Unlock()
}

// Reset cuts every connection at both ends, with RST.
func (p *Proxy) Reset() {
	for _, c := range p.all() {
		c.cut()
	}
}

// CutAfter cuts every connection, with RST, when n more bytes have gone in a direction.
func (p *Proxy) CutAfter(d Direction, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutLeft[d] = n
}

// HalfClose tells the receivers of a direction that their peer has said its last word.
// What the peers still send that way is thrown away; the other direction goes on.
func (p *Proxy) HalfClose(d Direction) {
	for _, c := range p.all() {
		c.halfClose(d)
	}
}

// Stats are the counts so far.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// Conns is the number of connections that stand.
func (p *Proxy) Conns() int { return len(p.all()) }

func (p *Proxy) all() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*conn, 0, len(p.conns))
	for c := range p.conns {
		out = append(out, c)
	}
	return out
}

// Close ends every connection and returns when no goroutine of the proxy is left.
func (p *Proxy) Close() error {
	err := p.Refuse(true)
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Reset()
	p.wg.Wait()
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

func (p *Proxy) accept(ln net.Listener) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(nc.(*net.TCPConn)) })
	}
}

// serve carries one connection to its end. A server that can't be reached shows as a
// connection that is reset at once.
func (p *Proxy) serve(client *net.TCPConn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	dialer := net.Dialer{Timeout: 5 * time.Second, Control: p.control}
	up, err := dialer.Dial("tcp", target)
	if err != nil {
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	c := newConn(p, client, up.(*net.TCPConn))
	p.mu.Lock()
	closed := p.closed
	p.conns[c] = true
	p.stats.Accepted++
	p.mu.Unlock()
	if closed {
		c.cut()
	}
	c.carry()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}
