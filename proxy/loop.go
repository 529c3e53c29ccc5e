package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"keyferry/internal/transport"
	"keyferry/internal/upstream"
	"keyferry/proxy/parking"
	"keyferry/proxy/pubsub"
	"keyferry/proxy/stats"
	"keyferry/router"
)

// loop is the data plane's state on one event loop: clients, the server connections that
// serve them, and the commands between them.
//
// Who touches it: the goroutine of its event loop, without a lock, but for mailbox and
// turns.wantTick. Other goroutines hand it functions (post, call). The structs in it are by
// purpose, each in the file that says what holds for it.
//
// Lifetime: from the first event of its transport.Loop to the end of the process.
type loop struct {
	srv      *Server
	id       int
	el       transport.Loop
	opt      *Options  // in force; see observe
	handlers []handler // by the command's Index; never changes
	now      time.Time // read once per event, by clock
	ns       int64     // … in ns since the server's start

	table   *router.Table
	parking *parking.Lot // commands that wait for moving keys, and tables that wait for these

	servers    servers
	dedicated  dedicatedPool
	waiters    waiters
	clients    clients
	readers    readers
	speech     speech
	monitoring monitoring
	spares     spares
	mailbox    mailbox
	turns      turns

	rec stats.Recorder // what the loop measures
}

// mailbox holds what other goroutines want the loop to do.
//
// Invariant: whoever puts the first function into an empty mailbox wakes the loop, so that
// none waits for an event of a client.
//
// Functions run in a turn, or before the next bytes of a connection are looked at: what they tell
// clients was there first.
type mailbox struct {
	some atomic.Bool // there is mail
	mu   sync.Mutex  // protects mail; never held while a function runs
	mail []func()
}

// turns is when the loop runs next.
//
//	event ─► event ─► … ─► turn        of the poller's round; armed from the first that left work
//	Server.tick ─► post(tick) ─► turn  each second, or every 20 ms while wantTick is set
type turns struct {
	armed    bool        // a turn follows the events at hand
	wantTick atomic.Bool // tick is to be run every 20 ms, and not each second. Set by the loop, read by Server.tick
}

// clients are the sessions of the loop.
//
// Invariant: a session is in all from accept to teardown, in dirty while its output.dirty is
// set, and in resumable while its input is inputResuming and it is not gone. These two lists
// are emptied in each turn.
type clients struct {
	all       map[*session]struct{}
	memory    int // bytes in the buffers of all, as last accounted; see evict
	pause     pauseMode
	refusal   string     // why writes are refused; "": they are served
	dirty     []*session // have something to write, or to end by
	resumable []*session // may go on parsing what they have
}

// readers are the clients that are told of what happens to a name.
//
// Invariant: a session is in the sets that its subscriptions and its tracking name, and in
// no others; teardown takes it out of all.
type readers struct {
	channels pubsub.Listeners[*session]
	keys     *pubsub.Readers[*session] // for CLIENT TRACKING
}

// newLoop runs on the loop itself, at the first event of its transport, so nothing else can see it
// half made. Modes that are in force for the whole gateway (pause, monitors, settings) are
// read here: they were told to the loops that there were.
func newLoop(s *Server, el transport.Loop, id int) *loop {
	l := &loop{
		srv: s, id: id, el: el, handlers: s.handlers, opt: s.settings.live.Load(),
		servers:    newServers(),
		dedicated:  dedicatedPool{all: make(map[*dedicated]struct{}), spare: make(map[dedicatedKey][]*dedicated)},
		waiters:    newWaiters(),
		clients:    clients{all: make(map[*session]struct{}), pause: pauseMode(s.pauses.mode.Load()), refusal: s.refusal()},
		speech:     speech{unheard: make(map[string][]unheard)},
		readers:    readers{keys: pubsub.NewReaders[*session](trackedMax)},
		monitoring: monitoring{here: make(map[*session]struct{})},
	}
	l.clock()
	l.parking = parking.New(l, l.opt.parkingLimits())
	l.rec.Init(&l.opt.Config, s.stats.shared, len(s.mu.table.Slots), l.ns)
	if at := s.monitors.at.Load(); at != nil {
		l.monitoring.at = *at
	}
	l.servers.env = upstream.Env{
		Dial:  func(p *upstream.Pipe) { s.dial(l, p) },
		Dirty: func(p *upstream.Pipe) { l.servers.dirty = append(l.servers.dirty, p); l.arm() },
		Lost:  l.lost,
		Retry: func(p *upstream.Pipe, d time.Duration) {
			time.AfterFunc(d, func() { l.post(p.Reconnect) })
		},
	}
	return l
}

// post runs f on the loop, soon. Any goroutine may call it; it never blocks. After the
// server has stopped f is dropped.
//
// This is the only way in from outside. The mutex is held for an append and nothing else, so
// that a loop never waits for another goroutine. Functions of one poster run in the order in
// which they were posted; the hub relies on that for the order of messages, and pause for that
// of its modes.
func (l *loop) post(f func()) {
	l.mailbox.mu.Lock()
	l.mailbox.mail = append(l.mailbox.mail, f)
	first := len(l.mailbox.mail) == 1
	l.mailbox.some.Store(true)
	l.mailbox.mu.Unlock()
	if first {
		l.el.Wake()
	}
}

// readMail runs what has been posted. An idle mailbox costs a look.
func (l *loop) readMail() {
	if !l.mailbox.some.Load() {
		return
	}
	l.mailbox.mu.Lock()
	mail := l.mailbox.mail
	l.mailbox.mail = nil
	l.mailbox.some.Store(false)
	l.mailbox.mu.Unlock()
	for _, f := range mail {
		f()
	}
}

// call runs f on the loop and waits for it.
//
// Not for a loop's goroutine, its own or another's: two loops that call each other would wait
// for ever. When ctx ends first, f may still run later.
func (l *loop) call(ctx context.Context, f func()) error {
	done := make(chan struct{})
	l.post(func() { f(); close(done) })
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.srv.life.ctx.Done():
		return l.srv.life.ctx.Err()
	}
}

// arm asks for a turn after the events that the poller has at hand.
//
// Everything that has left work for the end of a turn calls it: bytes to write, a session to
// resume, a table that may now come into force. Armed is cleared at the end of turn only, so
// that within a turn it costs a look at a bool.
func (l *loop) arm() {
	if l.turns.armed {
		return
	}
	l.turns.armed = true
	l.el.Arm()
}

// turn does what the events since the last one have left to do, writes last.
//
// The order matters. Mail comes first, since it may lead to everything else. Lines for MONITOR
// go before replies: a client that has its reply and looks at a monitor of this loop finds the line
// there. Then sessions that may go on are resumed and what they send is written, until nothing
// is left: a resumed client's commands go out in this turn and not in the next. What the loop
// has counted is published when it is still.
//
// Writing can show that a connection has ended, which leads to more work for this turn or, if
// it came behind the last look, for the next: so it is armed again at the end if something is
// left.
func (l *loop) turn() {
	l.turns.armed = true // what follows need not ask for another turn
	l.clock()
	l.readMail()
	l.deliverShown()
	for len(l.clients.resumable)+len(l.servers.dirty)+len(l.clients.dirty) > 0 || l.speech.isDue() {
		l.resume()
		l.speak()
		l.flush()
	}
	l.parking.Settle()
	l.publish()
	l.turns.armed = false
	if len(l.clients.resumable)+len(l.servers.dirty)+len(l.clients.dirty) > 0 {
		l.arm()
	}
}

// resume: the list is taken first: a session that has to wait on comes back by a later event, and not
// in this round, which so ends.
func (l *loop) resume() {
	list := l.clients.resumable
	l.clients.resumable = nil
	for _, s := range list {
		s.resume()
	}
}

// flush writes what the turn has gathered: one write for each dirty connection. Servers come
// before clients, since they are what clients wait for. The lists may grow while they are gone
// through, by what a failed write leads to, so their lengths are looked at each time.
func (l *loop) flush() {
	l.deliverShown()
	for i := 0; i < len(l.servers.dirty); i++ {
		l.servers.dirty[i].Flush()
	}
	clear(l.servers.dirty)
	l.servers.dirty = l.servers.dirty[:0]
	for i := 0; i < len(l.clients.dirty); i++ {
		l.clients.dirty[i].flush()
	}
	clear(l.clients.dirty)
	l.clients.dirty = l.clients.dirty[:0]
}

// tick is run each second, and every 20 ms while wantTick is set. Everything with a deadline
// looks here whether it has passed; no command has a timer of its own.
//
// Deadlines of parked commands come first, since who stands behind those may run then. The
// largest client is closed last: what the others have given back by then counts.
func (l *loop) tick() {
	l.parking.Expire(l.now)
	again := l.unblockAgain()
	again = l.endStanding() || again
	again = l.checkWaitlist() || again
	again = l.sendAgain() || again
	for c := range l.clients.all {
		c.check()
		again = again || c.draining() || !c.input.behind.IsZero()
	}
	if limit := l.opt.RequestTimeout; limit > 0 {
		for _, p := range l.servers.pipes {
			l.dropSilent(p, limit)
		}
		for x := range l.dedicated.all {
			// A server may be silent for as long as it likes to a client that blocks there.
			if !x.blocks {
				l.dropSilent(x.pipe, limit)
			}
		}
	}
	l.trimSpare()
	l.spares.buffers.trim()
	l.rec.Hot.Cool(l.ns)
	// Set anew and not only cleared: what still waits has said so above.
	l.turns.wantTick.Store(l.parking.Len() > 0 || again)
	l.evict()
}
