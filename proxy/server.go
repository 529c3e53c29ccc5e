package proxy

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"keyferry/internal/transport"
	"keyferry/proxy/line"
	"keyferry/proxy/pubsub"
	"keyferry/proxy/stats"
	"keyferry/router"
)

// Server is the data plane of one gateway. Its loops do the work, each for itself; the Server is what
// they and other goroutines share. No loop waits for any of its locks on the path of a command.
//
// Lock order: the mutexes of settings, pauses and monitors before mu, which is taken to go over
// the loops; mu before none. What has no lock named is set by New and not changed after that.
type Server struct {
	opt      Options // as given to New; see settings.live for those in force
	log      *zap.Logger
	handlers []handler    // see handlersOf
	eng      atomic.Value // transport.Engine; set by Start, and read by whoever comes before that too

	// mu is what Apply changes as a whole: a loop that is made meanwhile has the new table, or is
	// among those that are given it.
	mu struct {
		sync.Mutex
		loops map[transport.Loop]*loop
		table *router.Table // the newest; loops adopt it some time later
	}

	clients  clientCounts
	stats    serverStats
	settings liveSettings
	pauses   pauses
	monitors monitors
	denied   deniedLog

	hub      *pubsub.Hub
	moves    *pubsub.Moves // of which the hub's feeds ask whether a message is for clients
	scripts  *scripts
	scripted slotSet
	waits    waits

	dials     *dials        // of loops to servers, which end first when the server stops
	dataConns dataConns     // for INFO
	slotScans chan struct{} // holds one value for each slotKeys that runs

	life lifetime
}

// waits are the clients that wait for keys, of all loops. Each part is safe for concurrent use.
type waits struct {
	list  waitlist
	lines *line.Book
}

// lifetime is what a Server's goroutines end by. ctx ends with the server: fences, the ticker,
// whoever waits for a loop. wg is waited for by Stop, after ctx has ended.
type lifetime struct {
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	draining atomic.Bool // Stop has been called: no more clients are let in
}

// clientCounts are changed by every loop, when clients come and go.
type clientCounts struct {
	nextID   atomic.Int64
	open     atomic.Int64 // also those that are about to be rejected, for a moment
	rejected atomic.Int64 // since the start

	redirects atomic.Int64 // those that track for others

	crossProtocol rate.Sometimes // lets one a minute be logged
}

// serverStats is what is measured of all loops together.
type serverStats struct {
	shared *stats.Shared
	since  atomic.Pointer[stats.Counts] // what had been counted at the last CONFIG RESETSTAT
	rates  stats.Rates
	hops   hops
}

// liveSettings is what CONFIG SET has made of the options. Whoever reads live has one consistent set;
// the mutex makes CONFIG SET and REWRITE one at a time, from the copy to its last loop, and is the
// one that is held while something slow goes on: the configuration file is written.
type liveSettings struct {
	live atomic.Pointer[Options] // replaced as a whole

	mu      sync.Mutex // protects changed
	changed map[*setting]bool
}

// pauses is CLIENT PAUSE. The mutex is held while the loops are told, so that all hear of two changes
// in the same order.
type pauses struct {
	mu   sync.Mutex // protects now
	now  clientsPaused
	mode atomic.Int32 // what loops that are yet to come begin with
	// functions are those that servers know, and whether they declare no-writes. It is there while a
	// pause of writes lasts, as soon as all groups have answered.
	functions atomic.Pointer[map[string]bool]
	// refusal is why writes are refused, which is no pause: they are answered. Nil or "": they are served.
	refusal atomic.Pointer[string]
}

// monitors says where MONITOR clients are. The mutex is held while the loops are told, as in pauses.
type monitors struct {
	mu sync.Mutex              // protects by
	by map[*loop]int           // clients by loop; no entry is 0
	at atomic.Pointer[[]*loop] // its keys, for loops that are yet to come
}

// New makes a server that routes by t. Start runs it.
func New(opt Options, t *router.Table) *Server {
	if opt.Loops == 0 {
		opt.Loops = runtime.NumCPU()
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{opt: opt, log: opt.Log, dials: newDials(), slotScans: make(chan struct{}, slotScansMax), scripts: newScripts(), waits: waits{lines: line.New(transport.PeersGone)}}
	s.mu.loops, s.mu.table = make(map[transport.Loop]*loop), t
	s.settings.changed, s.monitors.by = make(map[*setting]bool), make(map[*loop]int)
	s.stats.shared = stats.NewShared()
	s.clients.crossProtocol.Interval = time.Minute
	s.life.ctx, s.life.cancel = ctx, cancel
	s.handlers = handlersOf(allCommands())
	s.moves = pubsub.NewMoves(t)
	s.hub = pubsub.NewHub(ctx, pubsub.Config{Dial: s.dialHub, ReconnectMin: opt.ReconnectMin, ReconnectMax: opt.ReconnectMax, OfMove: s.moves.Of, Linger: feedsLinger, Log: s.log}, t.Groups)
	s.settings.live.Store(&opt)
	s.stats.since.Store(&stats.Counts{})
	return s
}

// feedsLinger is for how long the hub's connections stay when nobody listens or publishes.
const feedsLinger = time.Minute

// Start listens and returns when connections are accepted. Errors: the address is taken
// or malformed.
func (s *Server) Start() error {
	eng, err := transport.Start(transport.Options{Kind: s.opt.Transport, Listen: s.opt.Listen, Loops: s.opt.Loops, ReadBuffer: s.opt.ReadBuffer, Log: s.log}, s)
	if err != nil {
		s.life.cancel()
		return err
	}
	s.eng.Store(eng)
	s.life.wg.Go(s.tick)
	return s.listenForPeers(eng)
}

// Stop closes the listener and every connection. No more commands are taken, and those in
// flight have until ctx ends to be answered; a client that has all its replies is closed at
// once, and who blocks is not waited for. The second time it does nothing.
//
// The order: no new clients; every client ends behind its replies, so that none in the middle
// of a command is cut off; dials end, since the loops must not end before what is to be
// enrolled on them; the engine closes what is left; and last what was begun beside the loops.
func (s *Server) Stop(ctx context.Context) error {
	if s.life.draining.Swap(true) {
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
	s.life.cancel()
	s.life.wg.Wait()
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
//
// The table is stored before the loops are told: one that begins meanwhile reads it there.
// Drained is another matter than adopted, so that a server which does not answer holds up its
// own job and no other change of the table.
//
//	hub ─► s.table ─► post to every loop ─► Lot.Offer ─► adopt ─► adopted
//	                                                       └─► marks of its new jobs answered ─► drained
func (s *Server) Apply(ctx context.Context, t *router.Table) (drained <-chan struct{}, err error) {
	s.hub.SetGroups(t.Groups) // first, so that nobody publishes where nobody listens
	s.moves.Follow(t, time.Now())
	s.mu.Lock()
	s.mu.table = t
	loops := make([]*loop, 0, len(s.mu.loops))
	for _, l := range s.mu.loops {
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
		case <-s.life.ctx.Done():
			return nil, errors.New("data plane stopped")
		}
	}
	return done, nil
}

func (s *Server) allLoops() []*loop {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*loop, 0, len(s.mu.loops))
	for _, l := range s.mu.loops {
		out = append(out, l)
	}
	return out
}

// loopOf: a loop is made by its first event, since the transport makes its own when it starts. Under
// mu, so that the table that it adopts is the newest, and that Apply tells it of each later
// one.
func (s *Server) loopOf(el transport.Loop) *loop {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.mu.loops[el]
	if l == nil {
		l = newLoop(s, el, len(s.mu.loops))
		l.adopt(s.mu.table)
		s.mu.loops[el] = l
		el.SetOwner(l)
	}
	return l
}

// tick drives deadlines: often for loops that ask for it, each second for all.
//
// One goroutine for all loops, which only posts: what a tick does is done there.
func (s *Server) tick() {
	fast := time.NewTicker(20 * time.Millisecond)
	defer fast.Stop()
	for n := 0; ; n++ {
		select {
		case <-s.life.ctx.Done():
			return
		case <-fast.C:
		}
		if n%5 == 0 {
			now := s.Stats()
			s.stats.rates.Sample(time.Now(), &now)
		}
		if n%50 == 0 {
			s.stats.rates.NotePeak(stats.MemoryNow().Used)
		}
		for _, l := range s.allLoops() {
			if n%50 == 0 || l.turns.wantTick.Load() {
				l.post(l.tick)
			}
		}
	}
}

// Opened implements transport.Handler.
//
// A connection that we have dialed says so by its owner. The others are clients', which are
// counted before they are accepted, because several loops may do so at once.
func (s *Server) Opened(c transport.Conn) bool {
	if d, ok := c.Owner().(*dialed); ok {
		d.opened(c)
		return true
	}
	if s.life.draining.Load() {
		return false
	}
	if _, peer := c.Owner().(peerArrival); peer {
		s.loopOf(c.Loop()).accept(c, true)
		return true
	}
	if s.clients.open.Add(1) > int64(s.settings.live.Load().MaxClients) {
		s.clients.open.Add(-1)
		s.clients.rejected.Add(1)
		_, _ = c.Write([]byte("-ERR max number of clients reached\r\n"))
		return false
	}
	s.loopOf(c.Loop()).accept(c, false)
	return true
}

// Data implements transport.Handler.
//
// Mail comes first: a client that has heard by another one that something is so, and asks, was told
// of it before, and a reply is behind the news of what came before it.
func (s *Server) Data(c transport.Conn, b []byte) bool {
	switch x := c.Owner().(type) {
	case *session:
		x.l.clock()
		x.l.readMail()
		x.data(b)
		return true
	case *dialed:
		x.l.clock()
		x.l.readMail()
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
//
// A server that has ended its side is no use any more, whatever it may still read.
func (s *Server) EOF(c transport.Conn) bool {
	x, ok := c.Owner().(*session)
	return ok && x.ended()
}

// Closed implements transport.Handler.
//
// It may be called from within a write. A session that has been torn down already is the one
// that closed.
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
