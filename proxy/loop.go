package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/resp"
	"keyferry/internal/transport"
	"keyferry/internal/upstream"
	"keyferry/proxy/parking"
	"keyferry/proxy/stats"
	"keyferry/router"
	"keyferry/slotlock"
)

// loop is the data plane's state on one event loop. All of it belongs to the loop's
// goroutine but what is marked otherwise.
type loop struct {
	srv *Server
	id  int
	opt *Options // in force; see observe

	pause pauseMode

	monitors   map[*session]struct{} // clients of this loop
	monitorsAt []*loop               // every loop that has such
	shown      []byte                // lines of this turn for them
	el         transport.Loop
	now        time.Time // read once per event, by clock
	ns         int64     // … in ns since the server's start

	handlers []handler // by the command's Index; never changes

	table   *router.Table
	parking *parking.Lot // commands that wait for moving keys, and tables that wait for these

	pipes   map[pipeKey]*upstream.Pipe
	byGroup [][]*upstream.Pipe // [group index of table][2·db + proto-2]
	lents   map[*lent]struct{} // every connection of one client alone
	spare   map[lentKey][]*lent
	blocked map[*blocking]struct{}
	takers  map[*takeFirst]struct{}

	awaited map[slotlock.Key][]*takeFirst // who stands in line for a key
	looks   map[*upstream.Pipe]int        // questions under way whether awaited keys are there
	lookIn  int                           // ticks

	loadedBy map[*upstream.Pipe]*loadedSet

	listeners map[channelKey]map[*session]struct{}
	readers   map[string]map[*session]struct{} // of keys, for CLIENT TRACKING
	trackers  map[*session]struct{}

	// ownerSince is, by slot, the epoch of the table in which its owner changed.
	ownerSince []uint64

	env    upstream.Env
	losing *loss // set while a dead connection's calls are being failed; see lost

	sessions map[*session]struct{}
	memory   int // bytes in the buffers of all sessions, as last accounted

	dirtyPipes    []*upstream.Pipe
	dirtySessions []*session
	resumable     []*session // may go on parsing what they have

	freeRequests *request
	spareCall    *call // see takeCall
	scanners     []*resp.RequestScanner
	buffers      buffers
	input        []byte // what a session has kept and processes now, nil once its end was lent
	largeBuf     []byte // see large
	keyIndex     []int
	scratch      []byte
	cutOf        []int

	armed    bool
	wantTick atomic.Bool

	mu   sync.Mutex // protects mail
	mail []func()

	rec stats.Recorder // what the loop measures
}

type pipeKey struct {
	group string
	db    int
	proto int // RESP version of the clients that it serves
}

// loss collects the shared holds of the calls that died with one connection: they are
// given back only when the connection is fenced.
type loss struct {
	holds []parking.Holds
}

func newLoop(s *Server, el transport.Loop, id int) *loop {
	l := &loop{
		srv: s, id: id, el: el, handlers: s.handlers,
		pipes: make(map[pipeKey]*upstream.Pipe), sessions: make(map[*session]struct{}),
		lents: make(map[*lent]struct{}), spare: make(map[lentKey][]*lent), blocked: make(map[*blocking]struct{}),
		takers: make(map[*takeFirst]struct{}), awaited: make(map[slotlock.Key][]*takeFirst), looks: make(map[*upstream.Pipe]int),
		loadedBy:  make(map[*upstream.Pipe]*loadedSet),
		listeners: make(map[channelKey]map[*session]struct{}), readers: make(map[string]map[*session]struct{}), trackers: make(map[*session]struct{}), monitors: make(map[*session]struct{}),
	}
	l.clock()
	l.opt = s.live.Load()
	l.parking = parking.New(l, l.opt.parkingLimits())
	l.rec.Init(l.opt.measured(), s.shared, len(s.table.Slots), l.ns)
	l.pause = pauseMode(s.pauseMode.Load())
	if at := s.monitoredAt.Load(); at != nil {
		l.monitorsAt = *at
	}
	l.env = upstream.Env{
		Dial:  func(p *upstream.Pipe) { s.dial(l, p) },
		Dirty: func(p *upstream.Pipe) { l.dirtyPipes = append(l.dirtyPipes, p); l.arm() },
		Lost:  l.lost,
		Retry: func(p *upstream.Pipe, d time.Duration) {
			time.AfterFunc(d, func() { l.post(p.Reconnect) })
		},
	}
	return l
}

// post runs f on the loop, soon. Any goroutine may call it; it never blocks. After the
// server has stopped f is dropped.
func (l *loop) post(f func()) {
	l.mu.Lock()
	l.mail = append(l.mail, f)
	first := len(l.mail) == 1
	l.mu.Unlock()
	if first {
		l.el.Wake()
	}
}

// call runs f on the loop and waits for it.
func (l *loop) call(ctx context.Context, f func()) error {
	done := make(chan struct{})
	l.post(func() { f(); close(done) })
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.srv.ctx.Done():
		return l.srv.ctx.Err()
	}
}

// arm asks for a turn after the events that the poller has at hand.
func (l *loop) arm() {
	if l.armed {
		return
	}
	l.armed = true
	l.el.Arm()
}

// turn does what the events since the last one have left to do, writes last.
func (l *loop) turn() {
	l.armed = true // what follows need not ask for another turn
	l.clock()
	l.mu.Lock()
	mail := l.mail
	l.mail = nil
	l.mu.Unlock()
	for _, f := range mail {
		f()
	}
	l.deliverShown()
	for len(l.resumable)+len(l.dirtyPipes)+len(l.dirtySessions) > 0 {
		l.resume()
		l.flush()
	}
	l.parking.Settle()
	l.publish()
	l.armed = false
	if len(l.resumable)+len(l.dirtyPipes)+len(l.dirtySessions) > 0 {
		l.arm()
	}
}

func (l *loop) resume() {
	list := l.resumable
	l.resumable = nil
	for _, s := range list {
		s.resuming = false
		s.resume()
	}
}

func (l *loop) flush() {
	l.deliverShown()
	for i := 0; i < len(l.dirtyPipes); i++ {
		l.dirtyPipes[i].Flush()
	}
	clear(l.dirtyPipes)
	l.dirtyPipes = l.dirtyPipes[:0]
	for i := 0; i < len(l.dirtySessions); i++ {
		l.dirtySessions[i].flush()
	}
	clear(l.dirtySessions)
	l.dirtySessions = l.dirtySessions[:0]
}

// tick is run each second, and every 20 ms while wantTick is set.
func (l *loop) tick() {
	l.parking.Expire(l.now)
	again := l.unblockAgain()
	again = l.lookAtAwaited() || again
	for c := range l.sessions {
		c.check()
		again = again || c.draining()
	}
	if limit := l.opt.RequestTimeout; limit > 0 {
		for _, p := range l.pipes {
			l.dropSilent(p, limit)
		}
		for x := range l.lents {
			if !x.blocks {
				l.dropSilent(x.pipe, limit)
			}
		}
	}
	l.trimSpare()
	l.buffers.trim()
	l.rec.Hot.Cool(l.ns)
	l.wantTick.Store(l.parking.Len() > 0 || again)
	l.evict()
}

// dropSilent closes a connection on which nothing has come for too long while commands are in
// flight.
func (l *loop) dropSilent(p *upstream.Pipe, limit time.Duration) {
	if p.Silent(l.now) > limit {
		l.srv.log.Warn("server silent, connection dropped", zap.String("group", p.Group),
			zap.String("addr", p.Addr), zap.Duration("silent_for", limit))
		p.Close()
	}
}

// pipe is the shared connection to a group of the present table. Clients of either
// protocol version have their own, so that replies pass through as they come.
func (l *loop) pipe(group int16, db, proto int) *upstream.Pipe {
	byDB := l.byGroup[group]
	at := 2*db + proto - 2
	if p := byDB[at]; p != nil {
		return p
	}
	g := l.table.Groups[group]
	k := pipeKey{g.ID, db, proto}
	p := l.pipes[k]
	if p == nil {
		o := &l.srv.opt
		p = upstream.New(g.ID, upstream.Target{Endpoint: g.Endpoint, DB: db, Proto: proto}, &l.env, upstream.Limits{
			QueueBytes: o.PipeBytes, ReconnectMin: o.ReconnectMin, ReconnectMax: o.ReconnectMax})
		l.pipes[k] = p
	}
	byDB[at] = p
	return p
}

// stays reports that the present table has the group that p leads to. By a new password it
// connects from then on: the connection that stands is authenticated.
func (l *loop) stays(p *upstream.Pipe) bool {
	for i := range l.table.Groups {
		if g := &l.table.Groups[i]; g.ID == p.Group && g.Addr == p.Addr {
			p.Endpoint = g.Endpoint
			return true
		}
	}
	return false
}

// lost is called when a server connection has died with calls in flight, before they
// are failed. Their keys stay held until the connection can do no more.
func (l *loop) lost(p *upstream.Pipe, name string) (failed func()) {
	x, outer := &loss{}, l.losing
	l.losing = x
	l.rec.N[stats.ConnectionsLost]++
	l.srv.log.Warn("server connection lost with commands in flight; fencing it",
		zap.String("group", p.Group), zap.String("addr", p.Addr), zap.String("connection", name), zap.Int("in_flight", p.InFlight()))
	l.srv.fence(l, p, name, func() {
		for _, h := range x.holds {
			h.Release()
		}
		p.Fenced()
		l.arm()
	})
	return func() { l.losing = outer }
}

// adopt makes t the loop's table.
func (l *loop) adopt(t *router.Table) {
	old := l.table
	l.table = t
	var gone []*upstream.Pipe
	for k, p := range l.pipes {
		if !l.stays(p) {
			delete(l.pipes, k)
			delete(l.loadedBy, p)
			gone = append(gone, p)
		}
	}
	l.byGroup = make([][]*upstream.Pipe, len(t.Groups))
	for i := range l.byGroup {
		l.byGroup[i] = make([]*upstream.Pipe, 2*t.Databases)
	}
	l.noteOwners(old, t)
	for _, p := range gone { // what fails by that may lead to more, which goes by t
		p.Retire()
	}
	l.retireLent()
	l.unblockMisplaced()
}

// noteOwners keeps ownerSince true.
func (l *loop) noteOwners(old, t *router.Table) {
	if old == nil || len(old.Slots) != len(t.Slots) {
		l.ownerSince = make([]uint64, len(t.Slots))
		return
	}
	for i := range t.Slots {
		if a, b := old.Slots[i].Owner, t.Slots[i].Owner; a >= 0 && b >= 0 && old.Groups[a].ID != t.Groups[b].ID {
			l.ownerSince[i] = t.Epoch
		}
	}
}

func (l *loop) newRequest(s *session, c *resp.Command) *request {
	r := l.freeRequests
	if r == nil {
		r = &request{}
	} else {
		l.freeRequests = r.next
	}
	r.s, r.cmd, r.next, r.span.Begun = s, c, nil, l.ns
	return r
}

func (l *loop) free(r *request) {
	if r.reply != nil {
		l.buffers.put(r.reply)
	}
	if s := r.s; s.hold == r {
		s.hold = nil
		s.wantResume()
	}
	l.rec.Written(&r.span, l.ns)
	*r = request{next: l.freeRequests, span: r.span.Recycled()}
	l.freeRequests = r
}
