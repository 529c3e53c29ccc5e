package proxy

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"
	"go.uber.org/zap"

	"keyferry/internal/upstream"
	"keyferry/router"
)

// Server is the data plane of one gateway.
type Server struct {
	gnet.BuiltinEventEngine
	opt     Options
	live    atomic.Pointer[Options] // what CONFIG SET has made of opt; replaced as a whole
	since   atomic.Pointer[Stats]   // what had been counted at the last CONFIG RESETSTAT
	log     *zap.Logger
	started time.Time
	seed    maphash.Seed // of the loops' sketches
	eng     gnet.Engine
	booted  chan struct{}

	nextClient atomic.Int64
	nextConn   atomic.Int64
	nextSlow   atomic.Int64
	clients    atomic.Int64
	rejected   atomic.Int64
	slotScans  chan struct{} // holds one value for each slotKeys that runs
	draining   atomic.Bool

	setMu   sync.Mutex        // protects changed, and makes CONFIG SET and REWRITE one at a time
	changed map[*setting]bool // by CONFIG SET

	rates     rates
	dataConns dataConns
	dials     *dials

	pauseMu   sync.Mutex // protects paused, and that loops hear of its changes in their order
	paused    clientsPaused
	pauseMode atomic.Int32 // … for loops that are yet to come

	monMu       sync.Mutex              // protects monitored
	monitored   map[*loop]int           // MONITOR clients by loop
	monitoredAt atomic.Pointer[[]*loop] // its keys
	deniedAuth  deniedLog

	mu    sync.Mutex // protects loops and table, which must change together
	loops map[gnet.EventLoop]*loop
	table *router.Table

	scripts  *scripts
	scripted slotSet
	hub      *hub

	ctx    context.Context // ends with the server: dials, fences, the ticker
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// New makes a server that routes by t. Start runs it.
func New(opt Options, t *router.Table) *Server {
	if opt.Loops == 0 {
		opt.Loops = runtime.NumCPU()
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		opt: opt, changed: make(map[*setting]bool), monitored: make(map[*loop]int), dials: newDials(), log: opt.Log, table: t, started: time.Now(), seed: maphash.MakeSeed(), booted: make(chan struct{}),
		loops: make(map[gnet.EventLoop]*loop), slotScans: make(chan struct{}, slotScansMax), ctx: ctx, cancel: cancel, scripts: newScripts(),
	}
	s.hub = newHub(s)
	s.hub.groups = t.Groups
	s.live.Store(&opt)
	s.since.Store(&Stats{})
	return s
}

// Start listens and returns when connections are accepted. Errors: the address is taken
// or malformed.
func (s *Server) Start() error {
	// gnet reports a bind error only from Run, so try the address first.
	probe, err := net.Listen("tcp", s.opt.Listen)
	if err != nil {
		return err
	}
	_ = probe.Close()
	failed := make(chan error, 1)
	s.wg.Go(func() {
		failed <- gnet.Run(s, "tcp://"+s.opt.Listen,
			gnet.WithNumEventLoop(s.opt.Loops),
			gnet.WithReadBufferCap(s.opt.ReadBuffer), gnet.WithLoadBalancing(gnet.LeastConnections),
			gnet.WithTCPNoDelay(gnet.TCPNoDelay), gnet.WithTCPKeepAlive(time.Minute), gnet.WithReuseAddr(true),
			gnet.WithLogLevel(logging.ErrorLevel), gnet.WithLogger(s.log.Sugar()))
	})
	select {
	case <-s.booted:
	case err := <-failed:
		s.cancel()
		return fmt.Errorf("listen on %s: %w", s.opt.Listen, err)
	}
	s.wg.Go(s.tick)
	return nil
}

// Stop closes the listener and every connection, after giving commands in flight until
// ctx ends to be answered.
func (s *Server) Stop(ctx context.Context) error {
	s.draining.Store(true)
	for ctx.Err() == nil && !s.quiet(ctx) {
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.dials.stop() // gnet never answers who enrols a connection on a loop that has ended
	stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := s.eng.Stop(stop)
	s.cancel()
	s.wg.Wait()
	s.dataConns.close()
	return err
}

// quiet reports whether no client waits for an answer.
func (s *Server) quiet(ctx context.Context) bool {
	busy := false
	for _, l := range s.allLoops() {
		_ = l.call(ctx, func() {
			for c := range l.sessions {
				busy = busy || !c.blocks() && (c.queue.n > 0 || c.pendingOut() > 0)
			}
		})
	}
	return !busy
}

// Apply gives every loop a new table and returns when all route by it. drained is closed
// when, besides, no command is in flight unlocked on a slot that this table is the first to
// say moves: that can take as long as its source takes to answer. Calls must not overlap.
func (s *Server) Apply(ctx context.Context, t *router.Table) (drained <-chan struct{}, err error) {
	s.hub.setGroups(t.Groups) // first, so that nobody publishes where nobody listens
	s.mu.Lock()
	s.table = t
	loops := make([]*loop, 0, len(s.loops))
	for _, l := range s.loops {
		loops = append(loops, l)
	}
	s.mu.Unlock()
	adopted := make(chan struct{}, len(loops))
	done := make(chan struct{})
	left := atomic.Int64{}
	left.Store(int64(len(loops)))
	if len(loops) == 0 {
		close(done)
	}
	for _, l := range loops {
		l.post(func() {
			l.offer(offer{table: t, adopted: func() { adopted <- struct{}{} }, drained: func() {
				if left.Add(-1) == 0 {
					close(done)
				}
			}})
		})
	}
	for range loops {
		select {
		case <-adopted:
		case <-ctx.Done():
			return nil, fmt.Errorf("epoch %d not acknowledged by every loop: %w", t.Epoch, ctx.Err())
		case <-s.ctx.Done():
			return nil, errors.New("data plane stopped")
		}
	}
	return done, nil
}

func (s *Server) allLoops() []*loop {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*loop, 0, len(s.loops))
	for _, l := range s.loops {
		out = append(out, l)
	}
	return out
}

func (s *Server) loopOf(el gnet.EventLoop) *loop {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.loops[el]
	if l == nil {
		l = newLoop(s, el, len(s.loops))
		l.adopt(s.table)
		s.loops[el] = l
	}
	return l
}

// tick drives deadlines: often for loops that ask for it, each second for all.
func (s *Server) tick() {
	fast := time.NewTicker(20 * time.Millisecond)
	defer fast.Stop()
	for n := 0; ; n++ {
		select {
		case <-s.ctx.Done():
			return
		case <-fast.C:
		}
		if n%5 == 0 {
			s.rates.sample(time.Now(), s.Stats())
		}
		if n%50 == 0 {
			s.rates.note(memoryNow().used)
		}
		for _, l := range s.allLoops() {
			if n%50 == 0 || l.wantTick.Load() {
				l.post(l.tick)
			}
		}
	}
}

// OnBoot implements gnet.EventHandler.
func (s *Server) OnBoot(eng gnet.Engine) gnet.Action {
	s.eng = eng
	close(s.booted)
	return gnet.None
}

// OnOpen implements gnet.EventHandler.
func (s *Server) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	if d, ok := c.Context().(*dialed); ok {
		d.opened(c)
		return nil, gnet.None
	}
	if s.clients.Add(1) > int64(s.live.Load().MaxClients) {
		s.clients.Add(-1)
		s.rejected.Add(1)
		return []byte("-ERR max number of clients reached\r\n"), gnet.Close
	}
	l := s.loopOf(c.EventLoop())
	l.accept(c)
	return nil, gnet.None
}

// OnTraffic implements gnet.EventHandler.
func (s *Server) OnTraffic(c gnet.Conn) gnet.Action {
	b, err := c.Next(-1)
	if err != nil {
		return gnet.Close
	}
	switch x := c.Context().(type) {
	case *session:
		x.l.clock()
		x.data(b)
	case *dialed:
		x.l.clock()
		if x.pipe == nil {
			return gnet.Close
		}
		if err := x.pipe.Data(b, x.l.now); err != nil {
			s.log.Warn("server connection dropped", zap.String("group", x.pipe.Group), zap.Error(err))
			return gnet.Close
		}
	default:
		return gnet.Close
	}
	return gnet.None
}

// OnClose implements gnet.EventHandler.
func (s *Server) OnClose(c gnet.Conn, err error) gnet.Action {
	switch x := c.Context().(type) {
	case *session:
		x.closed(c, err)
	case *dialed:
		x.closed(err)
	}
	return gnet.None
}

// dialed is one connection to a server, from the dial on; the gnet context of its Conn.
type dialed struct {
	l    *loop
	pipe *upstream.Pipe // nil once the connection has ended or was superseded
	name string
	id   int64 // CLIENT ID at the server
	conn gnet.Conn
}

// Write, Buffered and Close make it the pipe's upstream.Conn. After OnClose the
// descriptor may belong to another connection, so conn is nil from then on.
func (d *dialed) Write(p []byte) (int, error) {
	if d.conn == nil {
		return 0, net.ErrClosed
	}
	return d.conn.Write(p)
}

func (d *dialed) Buffered() int {
	if d.conn == nil {
		return 0
	}
	return d.conn.OutboundBuffered()
}

func (d *dialed) Close() {
	if d.conn != nil {
		_ = d.conn.Close() // on the loop, after this turn
	}
}

func (d *dialed) opened(c gnet.Conn) {
	d.l.clock()
	if d.pipe.State() != upstream.Connecting {
		d.pipe = nil
		_ = c.Close()
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
	name := fmt.Sprintf("%s%d", ConnPrefix(s.opt.Name, s.opt.Incarnation), s.nextConn.Add(1))
	s.dials.do(func(dials context.Context) {
		ctx, cancel := context.WithTimeout(dials, s.opt.ConnectTimeout)
		defer cancel()
		c, id, err := upstream.Dial(ctx, upstream.Target{Addr: p.Addr, Password: p.Password, DB: p.DB, Proto: p.Proto, Name: name})
		if err != nil {
			l.post(func() { p.DialFailed(err) })
			return
		}
		d := &dialed{l: l, pipe: p, name: name, id: id}
		res, err := l.el.Enroll(gnet.NewContext(s.ctx, d), c)
		if err == nil {
			err = (<-res).Err // the loop goes on until there is no dial
		} else {
			_ = c.Close()
		}
		// Enroll can say yes to a connection that the poller then refused: only OnOpen
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

// ConnPrefix is how every connection of one incarnation of a gateway is named at the
// servers, so that it can be fenced.
func ConnPrefix(gateway string, incarnation uint64) string {
	return fmt.Sprintf("keyferry:%s:%d:", gateway, incarnation)
}

// fence kills a lost connection at its server, however long that takes, then runs done
// on the loop.
func (s *Server) fence(l *loop, p *upstream.Pipe, name string, done func()) {
	s.wg.Go(func() {
		pause := s.opt.ReconnectMin
		for {
			ctx, cancel := context.WithTimeout(s.ctx, s.opt.ConnectTimeout)
			err := upstream.Fence(ctx, upstream.Target{Addr: p.Addr, Password: p.Password,
				Name: fmt.Sprintf("%s%d", ConnPrefix(s.opt.Name, s.opt.Incarnation), s.nextConn.Add(1))},
				func(n string) bool { return n == name })
			cancel()
			if err == nil {
				l.post(done)
				return
			}
			pause = min(2*pause, s.opt.ReconnectMax)
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(pause/2 + rand.N(pause/2+1)):
			}
		}
	})
}
