package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"
)

// gnetEngine makes a transport of gnet. gnet has no hook at the end of an iteration: Arm
// asks for a task, which is run after the events of the next one.
type gnetEngine struct {
	gnet.BuiltinEventEngine
	h      Handler
	eng    gnet.Engine
	booted chan struct{}
	ctx    context.Context // ends with the engine
	cancel context.CancelFunc
	wg     sync.WaitGroup

	lingering  atomic.Int64
	unlingered atomic.Uint64

	mu    sync.Mutex // protects loops
	loops map[gnet.EventLoop]*gnetLoop
}

func startGnet(o Options, h Handler) (Engine, error) {
	// gnet reports a bind error only from Run, so try the address first.
	probe, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, err
	}
	_ = probe.Close()
	ctx, cancel := context.WithCancel(context.Background())
	e := &gnetEngine{h: h, booted: make(chan struct{}), ctx: ctx, cancel: cancel, loops: make(map[gnet.EventLoop]*gnetLoop)}
	failed := make(chan error, 1)
	e.wg.Go(func() {
		failed <- gnet.Run(e, "tcp://"+o.Listen,
			gnet.WithNumEventLoop(o.Loops),
			gnet.WithReadBufferCap(o.ReadBuffer), gnet.WithLoadBalancing(gnet.LeastConnections),
			gnet.WithTCPNoDelay(gnet.TCPNoDelay), gnet.WithTCPKeepAlive(keepAlive), gnet.WithReuseAddr(true),
			gnet.WithLogLevel(logging.ErrorLevel), gnet.WithLogger(o.Log.Sugar()))
	})
	select {
	case <-e.booted:
		return e, nil
	case err := <-failed:
		cancel()
		return nil, fmt.Errorf("listen on %s: %w", o.Listen, err)
	}
}

func (e *gnetEngine) Stop(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := e.eng.Stop(ctx)
	e.cancel() // which ends the lingering, too
	e.wg.Wait()
	return err
}

func (e *gnetEngine) Unlingered() uint64 { return e.unlingered.Load() }

// OnBoot implements gnet.EventHandler.
func (e *gnetEngine) OnBoot(eng gnet.Engine) gnet.Action {
	e.eng = eng
	close(e.booted)
	return gnet.None
}

// OnOpen implements gnet.EventHandler.
func (e *gnetEngine) OnOpen(g gnet.Conn) ([]byte, gnet.Action) {
	c := &gnetConn{e: e, out: g, owner: g.Context()}
	c.l = e.loopOf(g.EventLoop())
	g.SetContext(c)
	if !e.h.Opened(c) {
		return nil, gnet.Close
	}
	return nil, gnet.None
}

// OnTraffic implements gnet.EventHandler.
func (e *gnetEngine) OnTraffic(g gnet.Conn) gnet.Action {
	b, err := g.Next(-1)
	if c, ok := g.Context().(*gnetConn); err == nil && ok && e.h.Data(c, b) {
		return gnet.None
	}
	return gnet.Close
}

// OnClose implements gnet.EventHandler.
func (e *gnetEngine) OnClose(g gnet.Conn, err error) gnet.Action {
	c, ok := g.Context().(*gnetConn)
	if !ok {
		return gnet.None
	}
	if errors.Is(err, io.EOF) && g.OutboundBuffered() == 0 && e.h.EOF(c) {
		if w, err := e.newLinger(g); err == nil {
			c.out = w
			return gnet.None
		}
	}
	c.out = nil // the descriptor may be somebody else's from now on
	e.h.Closed(c, err)
	return gnet.None
}

func (e *gnetEngine) loopOf(el gnet.EventLoop) *gnetLoop {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.loops[el]
	if l == nil {
		l = &gnetLoop{e: e, el: el}
		l.task = gnet.RunnableFunc(func(context.Context) error { e.h.Turn(l); return nil })
		e.loops[el] = l
	}
	return l
}

type gnetLoop struct {
	e     *gnetEngine
	el    gnet.EventLoop
	task  gnet.Runnable
	owner any
}

func (l *gnetLoop) Owner() any         { return l.owner }
func (l *gnetLoop) SetOwner(owner any) { l.owner = owner }

func (l *gnetLoop) Arm()  { l.Wake() }
func (l *gnetLoop) Wake() { _ = l.el.Execute(context.Background(), l.task) }

// Adopt implements Engine.
func (e *gnetEngine) Adopt(nc net.Conn, owner any) error {
	res, err := e.eng.Register(gnet.NewNetConnContext(gnet.NewContext(e.ctx, owner), nc))
	if err != nil {
		_ = nc.Close()
		return err
	}
	select {
	case x := <-res:
		return x.Err
	case <-e.ctx.Done():
		return ErrStopped
	}
}

// CatchUp implements Engine. gnet does not say who is behind, so all are waited for: a task runs when
// the events at hand have been handled. What became ready behind these is not seen to: gnet tells
// nobody when it has waited again.
func (e *gnetEngine) CatchUp(l Loop, f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var left atomic.Int64
	left.Store(int64(len(e.loops)))
	me := l.(*gnetLoop)
	for _, b := range e.loops {
		b.run(func() {
			if left.Add(-1) == 0 {
				me.run(func() { f(); e.h.Turn(me) })
			}
		})
	}
}

// run runs f on the loop, if that has not ended.
func (l *gnetLoop) run(f func()) {
	_ = l.el.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error { f(); return nil }))
}

func (l *gnetLoop) Enroll(nc net.Conn, owner any) error {
	res, err := l.el.Enroll(gnet.NewContext(l.e.ctx, owner), nc)
	if err != nil {
		_ = nc.Close()
		return err
	}
	select {
	case x := <-res:
		return x.Err
	case <-l.e.ctx.Done():
		return ErrStopped // the loop has ended, and may never say so
	}
}

// outlet is where a gnetConn writes: gnet's connection, or a lingering one.
type outlet interface {
	Write(p []byte) (int, error)
	OutboundBuffered() int
	Close() error
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
}

type gnetConn struct {
	e     *gnetEngine
	l     *gnetLoop
	out   outlet // nil once closed
	owner any
}

func (c *gnetConn) Write(p []byte) (int, error) {
	if c.out == nil {
		return 0, net.ErrClosed
	}
	return c.out.Write(p)
}

func (c *gnetConn) WriteLent(p, _ []byte, _ Lender) (lent bool) {
	_, _ = c.Write(p)
	return false
}

func (c *gnetConn) Buffered() int {
	if c.out == nil {
		return 0
	}
	return c.out.OutboundBuffered()
}

func (c *gnetConn) Close() {
	if c.out != nil {
		_ = c.out.Close() // on the loop, after the present event
	}
}

func (c *gnetConn) FD() int {
	if g, ok := c.out.(gnet.Conn); ok {
		return g.Fd()
	}
	return -1
}

func (c *gnetConn) HoldReads(bool)       {}
func (c *gnetConn) ReadInto([]byte) bool { return false }
func (c *gnetConn) Owner() any           { return c.owner }
func (c *gnetConn) SetOwner(owner any)   { c.owner = owner }
func (c *gnetConn) Loop() Loop           { return c.l }

func (c *gnetConn) LocalAddr() net.Addr {
	if c.out == nil {
		return nil
	}
	return c.out.LocalAddr()
}

func (c *gnetConn) RemoteAddr() net.Addr {
	if c.out == nil {
		return nil
	}
	return c.out.RemoteAddr()
}
