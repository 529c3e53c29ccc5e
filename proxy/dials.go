package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"

	"keyferry/internal/transport"
	"keyferry/internal/upstream"
	"keyferry/router"
)

// dials are the connections to servers that are being made. The loops that they are to be
// enrolled on must not end before them.
type dials struct {
	mu     sync.Mutex // protects all but wg
	wg     sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
	ended  bool
}

// newDials: its context is not the server's: dials must end before the loops, and these before the rest.
func newDials() *dials {
	ctx, cancel := context.WithCancel(context.Background())
	return &dials{ctx: ctx, cancel: cancel}
}

// do runs f on a goroutine, unless stop has been called. The context ends with stop.
func (d *dials) do(f func(ctx context.Context)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ended {
		d.wg.Go(func() { f(d.ctx) })
	}
}

// stop lets no more begin and returns when none is under way.
//
// A connection that is enrolled on a loop which has ended would never be answered; so dials
// end first, and the engine is stopped after that (Server.Stop).
func (d *dials) stop() {
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
	d.cancel()
	d.wg.Wait()
}

// dialed is one connection to a server, from the dial on; the owner of its Conn.
type dialed struct {
	l    *loop
	pipe *upstream.Pipe // nil once the connection has ended or was superseded
	name string
	id   int64 // CLIENT ID at the server
	conn transport.Conn
}

// Write, Buffered and Close make it the pipe's upstream.Socket. After OnClose the
// descriptor may belong to another connection, so conn is nil from then on.
func (d *dialed) Write(p []byte) (int, error) {
	if d.conn == nil {
		return 0, net.ErrClosed
	}
	if l := d.l; l.mayLend(p) {
		if d.conn.WriteLent(p, l.spares.input, l) {
			l.spares.input = nil
		}
		return len(p), nil
	}
	return d.conn.Write(p)
}

// Buffered: nothing waits on a connection that has ended.
func (d *dialed) Buffered() int {
	if d.conn == nil {
		return 0
	}
	return d.conn.Buffered()
}

func (d *dialed) Close() {
	if d.conn != nil {
		d.conn.Close()
	}
}

// opened: the pipe may have been retired, or given up the wait, since it asked.
func (d *dialed) opened(c transport.Conn) {
	d.l.clock()
	if d.pipe.State() != upstream.Connecting {
		d.pipe = nil
		c.Close()
		return
	}
	d.conn = c
	d.pipe.Connected(d, d.name, d.id, d.l.now)
}

func (d *dialed) closed(err error) {
	d.conn = nil
	if p := d.pipe; p != nil {
		d.pipe = nil
		p.Closed(err)
	}
}

// dial connects p off the loop and enrols the connection.
func (s *Server) dial(l *loop, p *upstream.Pipe) {
	target := upstream.Target{Endpoint: p.Endpoint, DB: p.DB, Proto: p.Proto, Peer: isPeerID(p.Group)}
	s.dials.do(func(dials context.Context) {
		ctx, cancel := context.WithTimeout(dials, s.opt.ConnectTimeout)
		defer cancel()
		c, err := s.opt.Dialer.Dial(ctx, target)
		if err != nil {
			if target.Peer && s.opt.Peers.Refused != nil && errors.Is(err, syscall.ECONNREFUSED) {
				name, _ := router.PeerOf(p.Group)
				s.opt.Peers.Refused(name)
			}
			l.post(func() { p.DialFailed(err) })
			return
		}
		d := &dialed{l: l, pipe: p, name: c.Name, id: c.ID}
		err = l.el.Enroll(c.Conn, d)
		if errors.Is(err, transport.ErrStopped) {
			return
		}
		// Enroll can say yes to a connection that the poller then refused: only Opened
		// counts, and it has run by now if it ever will.
		l.post(func() {
			if d.conn == nil && d.pipe != nil && p.State() == upstream.Connecting {
				if err == nil {
					err = errors.New("event loop refused the connection")
				}
				d.pipe = nil
				p.DialFailed(err)
			}
		})
	})
}

// dialHub is how the hub connects to a group. Pushes need RESP3.
func (s *Server) dialHub(ctx context.Context, g router.Group) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.ConnectTimeout)
	defer cancel()
	c, err := s.opt.Dialer.Dial(ctx, upstream.Target{Endpoint: g.Endpoint, Proto: 3})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// fence kills a lost connection at its server, however long that takes, then runs done
// on the loop. What a server still executes to which no group leads any more concerns nobody.
func (s *Server) fence(l *loop, p *upstream.Pipe, name string, done func()) {
	last := p.Endpoint
	s.life.wg.Go(func() {
		pause := s.opt.ReconnectMin
		for {
			to, led := s.endpointAt(last.Addr)
			if !led {
				to = last
			}
			ctx, cancel := context.WithTimeout(s.life.ctx, s.opt.ConnectTimeout)
			err := s.opt.Dialer.Fence(ctx, to, s.opt.ConnectTimeout, func(n string) bool { return n == name })
			cancel()
			if _, led := s.endpointAt(last.Addr); err == nil || !led {
				l.post(done)
				return
			}
			pause = min(2*pause, s.opt.ReconnectMax)
			select {
			case <-s.life.ctx.Done():
				return
			case <-time.After(pause/2 + rand.N(pause/2+1)):
			}
		}
	})
}

// endpointAt is how the newest table leads to an address, if it does.
func (s *Server) endpointAt(addr string) (to upstream.Endpoint, led bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.mu.table.Groups {
		if g := &s.mu.table.Groups[i]; g.Addr == addr {
			return g.Endpoint, true
		}
	}
	return upstream.Endpoint{}, false
}
