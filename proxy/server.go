package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/transport"
	"keyferry/internal/upstream"
	"keyferry/proxy/pubsub"
	"keyferry/proxy/stats"
	"keyferry/router"
)

// Server is the data plane of one gateway.
type Server struct {
	opt      Options
	live     atomic.Pointer[Options]      // what CONFIG SET has made of opt; replaced as a whole
	since    atomic.Pointer[stats.Counts] // what had been counted at the last CONFIG RESETSTAT
	log      *zap.Logger
	shared   *stats.Shared
	eng      atomic.Value // transport.Engine, once it has started
	handlers []handler    // see handlersOf

	nextClient atomic.Int64
	clients    atomic.Int64
	rejected   atomic.Int64
	slotScans  chan struct{} // holds one value for each slotKeys that runs
	draining   atomic.Bool

	setMu   sync.Mutex        // protects changed, and makes CONFIG SET and REWRITE one at a time
	changed map[*setting]bool // by CONFIG SET

	rates     stats.Rates
	hops      hops
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
	loops map[transport.Loop]*loop
	table *router.Table

	scripts  *scripts
	scripted slotSet
	hub      *pubsub.Hub
	moves    *pubsub.Moves
	waitlist waitlist

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
		opt: opt, changed: make(map[*setting]bool), monitored: make(map[*loop]int), dials: newDials(), log: opt.Log, table: t, shared: stats.NewShared(),
		loops: make(map[transport.Loop]*loop), slotScans: make(chan struct{}, slotScansMax), ctx: ctx, cancel: cancel, scripts: newScripts(),
	}
	s.handlers = handlersOf(allCommands())
	s.moves = pubsub.NewMoves(t)
	s.hub = pubsub.NewHub(ctx, pubsub.Config{Dial: s.dialHub, ReconnectMin: opt.ReconnectMin, ReconnectMax: opt.ReconnectMax, OfMove: s.moves.Of, Log: s.log}, t.Groups)
	s.live.Store(&opt)
	s.since.Store(&stats.Counts{})
	return s
}

// Start listens and returns when connections are accepted. Errors: the address is taken
// or malformed.
func (s *Server) Start() error {
	eng, err := transport.Start(transport.Options{Kind: s.opt.Transport, Listen: s.opt.Listen, Loops: s.opt.Loops, ReadBuffer: s.opt.ReadBuffer, Log: s.log}, s)
	if err != nil {
		s.cancel()
		return err
	}
	s.eng.Store(eng)
	s.wg.Go(s.tick)
	return nil
}

// Stop closes the listener and every connection. No more commands are taken, and those in
// flight have until ctx ends to be answered; a client that has all its replies is closed at
// once, and who blocks is not waited for. The second time it does nothing.
func (s *Server) Stop(ctx context.Context) error {
	if s.draining.Swap(true) {
		return nil
	}
	s.each(ctx, func(l *loop) {
		for c := range l.clients.all {
			c.becomeEnding()
			l.markDirty(c)
		}
	})
	for ctx.Err() == nil && !s.quiet(ctx) {
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.dials.stop()
	var err error
	if eng, ok := s.eng.Load().(transport.Engine); ok {
		err = eng.Stop(5 * time.Second)
	}
	s.cancel()
	s.wg.Wait()
	s.hub.Wait()
	s.dataConns.close()
	return err
}

// quiet reports whether no client waits for an answer.
func (s *Server) quiet(ctx context.Context) bool {
	busy := false
	for _, l := range s.allLoops() {
		_ = l.call(ctx, func() {
			for c := range l.clients.all {
				busy = busy || c.asks() || !c.blocks() && (c.queue.n > 0 || c.pendingOut() > 0)
			}
		})
	}
	return !busy
}

// Apply gives every loop a new table and returns when all route by it. drained is closed
// when, besides, no command is in flight unlocked on a slot that this table is the first to
// say moves: that can take as long as its source takes to answer. Calls must not overlap.
func (s *Server) Apply(ctx context.Context, t *router.Table) (drained <-chan struct{}, err error) {
	s.hub.SetGroups(t.Groups) // first, so that nobody publishes where nobody listens
	s.moves.Follow(t, time.Now())
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
			l.offer(t, func() { adopted <- struct{}{} }, func() {
				if left.Add(-1) == 0 {
					close(done)
				}
			})
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

func (s *Server) loopOf(el transport.Loop) *loop {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.loops[el]
	if l == nil {
		l = newLoop(s, el, len(s.loops))
		l.adopt(s.table)
		s.loops[el] = l
		el.SetOwner(l)
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
			now := s.Stats()
			s.rates.Sample(time.Now(), &now)
		}
		if n%50 == 0 {
			s.rates.NotePeak(stats.MemoryNow().Used)
		}
		for _, l := range s.allLoops() {
			if n%50 == 0 || l.turns.wantTick.Load() {
				l.post(l.tick)
			}
		}
	}
}

// Opened implements transport.Handler.
func (s *Server) Opened(c transport.Conn) bool {
	if d, ok := c.Owner().(*dialed); ok {
		d.opened(c)
		return true
	}
	if s.draining.Load() {
		return false
	}
	if s.clients.Add(1) > int64(s.live.Load().MaxClients) {
		s.clients.Add(-1)
		s.rejected.Add(1)
		_, _ = c.Write([]byte("-ERR max number of clients reached\r\n"))
		return false
	}
	s.loopOf(c.Loop()).accept(c)
	return true
}

// Data implements transport.Handler.
func (s *Server) Data(c transport.Conn, b []byte) bool {
	switch x := c.Owner().(type) {
	case *session:
		x.l.clock()
		x.data(b)
		return true
	case *dialed:
		x.l.clock()
		p := x.pipe
		if p == nil {
			return false
		}
		if err := p.Data(b, x.l.now); err != nil {
			s.log.Warn("server connection dropped", zap.String("group", p.Group), zap.Error(err))
			return false
		}
		if x.pipe != p { // what the replies led to has been written, and showed that the connection had ended
			return false
		}
		if more := p.More(); more >= aimMin {
			c.ReadInto(x.l.large(more))
		}
		return true
	}
	return false
}

// EOF implements transport.Handler.
func (s *Server) EOF(c transport.Conn) bool {
	x, ok := c.Owner().(*session)
	return ok && x.ended()
}

// Closed implements transport.Handler.
func (s *Server) Closed(c transport.Conn, err error) {
	switch x := c.Owner().(type) {
	case *session:
		if x.life < lifeGone {
			x.teardown()
		}
	case *dialed:
		x.closed(err)
	}
}

// Turn implements transport.Handler.
func (s *Server) Turn(el transport.Loop) {
	if l, ok := el.Owner().(*loop); ok {
		l.turn()
	}
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
	target := upstream.Target{Endpoint: p.Endpoint, DB: p.DB, Proto: p.Proto}
	s.dials.do(func(dials context.Context) {
		ctx, cancel := context.WithTimeout(dials, s.opt.ConnectTimeout)
		defer cancel()
		c, err := s.opt.Dialer.Dial(ctx, target)
		if err != nil {
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
	s.wg.Go(func() {
		pause := s.opt.ReconnectMin
		for {
			to, led := s.endpointAt(last.Addr)
			if !led {
				to = last
			}
			ctx, cancel := context.WithTimeout(s.ctx, s.opt.ConnectTimeout)
			err := s.opt.Dialer.Fence(ctx, to, s.opt.ConnectTimeout, func(n string) bool { return n == name })
			cancel()
			if _, led := s.endpointAt(last.Addr); err == nil || !led {
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

// endpointAt is how the newest table leads to an address, if it does.
func (s *Server) endpointAt(addr string) (to upstream.Endpoint, led bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.table.Groups {
		if g := &s.table.Groups[i]; g.Addr == addr {
			return g.Endpoint, true
		}
	}
	return upstream.Endpoint{}, false
}
