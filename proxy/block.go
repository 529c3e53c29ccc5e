package proxy

import (
	"bytes"
	"strconv"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/resp"
	"keyferry/proxy/line"
	"keyferry/router"
	"keyferry/slotlock"
)

// blocking is a command that may keep its connection waiting: BLPOP and its like, XREAD
// BLOCK, WAIT. It has a connection of its own.
//
// A client that blocks at a server is no command in flight: it never holds a key. When
// its slot begins to move, or its group changes, it is unblocked there (CLIENT UNBLOCK)
// and asked again, with the time that it has left, where its keys are now; in a moving
// slot they are brought to the target first, which is where whoever pushes will go. A
// reply with data is always the client's.
//
//	place ─► at a server ─► reply with data, or in due time null ─► client
//	  ▲            │ misplaced: CLIENT UNBLOCK
//	  └── null ◄───┘
type blocking struct {
	r        *request
	args     [][]byte // own copy
	timeout  int      // argument that is the time-out; 0: none that we know
	unit     time.Duration
	deadline time.Time // zero: never
	slot     int       // -1: no keys (WAIT)
	db       int
	keys     []slotlock.Key

	spot      *line.Waiter // in the lines of its keys; nil: it takes nothing away
	on        *dedicated
	askedAt   time.Time // when it was last told to unblock; zero: it was not
	calledAt  time.Time // when it was first told to
	early     int       // how often it was not blocked yet when it was told to
	began     bool      // it has waited at a server
	deferred  time.Time // when a server would not let it wait any more; zero: it may be placed
	grudging  bool      // blocked at the source although the slot moves: the target is full
	sentAt    time.Time
	unblocked unblocked
}

// unblocked is whether a client of the gateway has ended the wait of another, and how.
type unblocked uint8

const (
	notUnblocked unblocked = iota
	unblockedAsTimeout
	unblockedAsError
)

// needs: pull, because a client that blocked at the source of a moving slot would wait where nobody
// will push any more.
func (x *blocking) needs() needs { return needs{pull: x.keyed()} }
func (x *blocking) waits() wait  { return waitsForData }

var pingFrame = []byte("*1\r\n$4\r\nPING\r\n")

// grudge is how long a client blocks at the source of a moving slot when its key could
// not be brought to the target, before that is tried again; and how long it stands where no server lets it wait.
const grudge = 300 * time.Millisecond

// keyed: without keys it waits for replicas, and no move concerns it.
func (x *blocking) keyed() bool { return x.slot >= 0 }

// mayBlock runs the commands that block if their arguments say so: XREAD does with BLOCK only.
func (c *call) mayBlock() bool {
	if len(c.keys) > 0 {
		switch outcome, _ := c.s.l.table.Route(c.cmd, c.args, c.keys); outcome {
		case router.TakeFirst:
			return c.takeFirst()
		case router.CrossSlot:
			c.crossSlot()
			return true
		}
	}
	if resp.BlocksNow(c.cmd, c.args) {
		if lines := c.s.l.srv.waits.lines; c.cmd.TakesFirst() && lines.Any() && lines.InGateway(appendKeys(nil, c.s.db, c.cmd, c.args, c.keys), c.cmd.Group) {
			return c.takeFirst()
		}
		return c.block()
	}
	c.plainly()
	return true
}

// block runs a command that blocks. False: not before the commands in front of it have
// been answered.
func (c *call) block() bool {
	s, cmd, args := c.s, c.cmd, c.args
	// It gets a connection of its own, on which it would overtake those in front of it.
	if s.queue.n > 0 {
		return false
	}
	l := s.l
	x := &blocking{slot: -1, db: s.db}
	for _, a := range args {
		x.args = append(x.args, bytes.Clone(a))
	}
	x.findTimeout(cmd, l.now)
	if len(c.keys) > 0 {
		x.slot = l.table.Scheme.Slot(args[c.keys[0]])
		x.keys = appendKeys(nil, s.db, cmd, args, c.keys)
	}
	r := c.begin()
	x.r, r.op = r, x
	s.hold = r
	// Before it is placed, which may fail at once and end it.
	l.waiters.blocked[x] = struct{}{}
	if x.slot < 0 {
		l.waitForReplicas(r, x)
		return true
	}
	if cmd.Flags&resp.Write != 0 {
		l.enterLine(x)
	} else {
		l.place(r, x.db, x.slot, x.keys, resp.AppendRequest(nil, x.args...))
	}
	return true
}

// findTimeout reads the time-out. One that is malformed is left to the server to refuse.
//
// It is needed to ask again with the time that is left. A float of seconds or an integer of
// milliseconds, as the command has it.
func (x *blocking) findTimeout(cmd *resp.Command, now time.Time) {
	at, ms := cmd.TimeoutArg(x.args)
	if at == 0 {
		return
	}
	unit := time.Second
	if ms {
		unit = time.Millisecond
	}
	f, err := strconv.ParseFloat(string(x.args[at]), 64)
	if err != nil || !(f >= 0 && f*unit.Seconds() <= 1e9) { // not a number, or one that a Duration can't hold
		return
	}
	x.timeout, x.unit = at, unit
	if f > 0 {
		x.deadline = now.Add(time.Duration(f * float64(unit)))
	}
}

// send: grudging is decided here: the lock table has let it run at the source although its keys
// should be at the target, which is away or full.
func (x *blocking) send(l *loop, r *request, group int16, frame []byte) {
	on, err := l.borrow(group, r.s.proto)
	if err != nil {
		r.Fail(err, false)
		return
	}
	x.on, x.askedAt, x.sentAt, x.early = on, time.Time{}, l.now, 0
	on.blocks = true
	x.grudging = r.motion != nil && r.motion.Holds()
	if x.grudging {
		l.turns.wantTick.Store(true)
	}
	// "$" means what is newest when the server reads the command. After a move that would be
	// another server and a later time, so it is made an id once, at the first server.
	if streams := resp.NewestIDs(x.args); len(streams) > 0 {
		l.concrete(r, x, streams)
		return
	}
	b := block{frame: frame}
	if !x.keyed() {
		b.before = 1 // see waitForReplicas
	}
	if x.spot != nil {
		on.ask(inPlace{x, l}, x.db, pingFrame)
	}
	on.send(r, x.db, b)
}

// concrete replaces each "$" of XREAD by the last id that the stream has now, so that
// nothing that comes while the client is moved from server to server is missed.
//
// Only when all streams have answered is the command sent. Any of these may fail, at once if
// the connection ends within the send, and the request may be failed once only: so the first
// error is kept until all have answered.
func (l *loop) concrete(r *request, x *blocking, streams []resp.StreamArg) {
	left := len(streams)
	var failed error          // the first
	r.becomeFlying(x.on.pipe) // by what is asked for it
	for _, st := range streams {
		frame := resp.AppendRequest(nil, []byte("XINFO"), []byte("STREAM"), x.args[st.Key])
		x.on.ask(&lastID{func(id []byte, err error) {
			x.args[st.ID] = id
			if failed == nil {
				failed = err
			}
			if left--; left > 0 || x.on == nil {
				return
			}
			if failed != nil {
				r.Fail(failed, false)
				return
			}
			x.on.send(r, x.db, block{frame: resp.AppendRequest(nil, x.args...)})
		}, nil}, x.db, frame)
	}
}

// lastID takes the reply of XINFO STREAM.
type lastID struct {
	done func(id []byte, err error)
	buf  []byte
}

// Reply: what is new in a stream that is not there is everything that comes into it.
func (q *lastID) Reply(b []byte, last bool) {
	q.buf = append(q.buf, b...)
	if !last {
		return
	}
	id := []byte("0-0") // no stream; for a wrong type XREAD has the error
	if fields, ok := resp.SplitAggregate(q.buf); ok {
		for i := 0; i+1 < len(fields); i += 2 {
			name, _ := resp.BulkBody(fields[i])
			if v, ok := resp.BulkBody(fields[i+1]); ok && string(name) == "last-generated-id" {
				id = bytes.Clone(v)
			}
		}
	}
	q.done(id, nil)
}

// Fail: the connection is the client's own: when it has failed, so has the command, and done says so
// once.
func (q *lastID) Fail(err error, _ bool) { q.done([]byte("0-0"), err) }

// reply: null can mean three things: the client's own time is over; a client of ours has ended the
// wait; or the gateway has called it off because its keys will be elsewhere. Only in the last
// case it is asked again. A reply with data is always the client's, also when it comes while
// it is being called off: the server has taken the data out.
//
//	askedAt zero        nobody called it off: its time was over
//	over, or unblocked  the client is to have the null
//	else                place again, with the time that is left
func (x *blocking) reply(r *request, b []byte, last bool) bool {
	if last && r.untouched() && x.began && notNow(b) {
		return x.put(r)
	}
	ended := isNull(b) || x.unblocked == unblockedAsError && !x.keyed() && b[0] != '-' // WAIT says how many there are by then
	if !last || !r.untouched() || !ended {
		if last {
			x.end(r)
		}
		return true
	}
	l := r.s.l
	over := x.timeout == 0 || !x.deadline.IsZero() && !l.now.Before(x.deadline)
	if x.askedAt.IsZero() || over || x.unblocked != notUnblocked || r.s.life == lifeGone {
		x.end(r)
		if x.unblocked == unblockedAsError && r.s.life < lifeGone {
			r.finish(unblockedReply)
			return false
		}
		return true
	}
	// The connection is given up before the request is placed again, which may need one to another
	// group.
	x.began = true
	x.handBack(l)
	r.becomeWaiting()
	if !x.deadline.IsZero() {
		left := x.deadline.Sub(l.now)
		x.args[x.timeout] = strconv.AppendInt(nil, max(left.Milliseconds(), 1), 10)
		if x.unit == time.Second {
			x.args[x.timeout] = strconv.AppendFloat(nil, max(left.Seconds(), 0.001), 'f', 3, 64)
		}
	}
	if x.spot != nil {
		l.srv.waits.lines.Stands(x.spot)
		l.attend(x)
	} else {
		l.place(r, x.db, x.slot, x.keys, resp.AppendRequest(nil, x.args...))
	}
	return false
}

// abandon has the server end the wait: it would go on waiting for the client, and take from
// a key for it. Until it has, nobody writes to the key (package line).
func (x *blocking) abandon(r *request) []slotlock.Key {
	l := r.s.l
	if x.spot != nil {
		l.srv.waits.lines.Leaving(x.spot)
	}
	switch {
	case x.on == nil: // it stands in the gateway
		x.end(r)
		l.free(r)
	case x.on.pipe.Conns() == 0: // nothing has been sent yet
		l.discard(x.on)
	default:
		l.unblock(x)
	}
	return nil
}

// isNull: in both versions of the protocol, and of arrays and strings: BRPOPLPUSH says it otherwise
// than BLPOP.
func isNull(b []byte) bool {
	switch string(b) {
	case "*-1\r\n", "$-1\r\n", "_\r\n":
		return true
	}
	return false
}

// end is the end of the wait.
func (x *blocking) end(r *request) {
	l := r.s.l
	delete(l.waiters.blocked, x)
	if x.spot != nil {
		l.srv.waits.lines.Leave(x.spot)
	}
	x.handBack(l)
}

// handBack gives the connection to the next, unless a CLIENT UNBLOCK for it may be under
// way, which would hit whoever blocks on it then.
//
// The command CLIENT UNBLOCK names a connection and not a command: if it is late, it ends the
// wait of whoever has the connection by then.
func (x *blocking) handBack(l *loop) {
	switch {
	case x.on == nil:
	case x.askedAt.IsZero():
		l.giveBack(x.on)
	default:
		l.discard(x.on)
	}
	x.on = nil
}

// dropped: nobody asks again for a client whose request has failed.
func (x *blocking) dropped(r *request) { x.end(r) }

// misplaced reports that a blocked client waits where its keys will not be.
//
// In a moving slot the place is the target: whoever pushes to the key goes there, since a push
// that finds no key at the target brings it there first.
func (l *loop) misplaced(x *blocking) bool {
	if x.on == nil || !x.keyed() {
		return false
	}
	slot := l.table.Slots[x.slot]
	at := slot.Via
	if slot.Job >= 0 {
		at = slot.Target
	}
	return at >= 0 && l.table.Upstream(at).ID != x.on.key.group
}

// unblockMisplaced is run when the table has changed.
//
// It ends the wait at the old place only. What follows comes with the server's reply to the
// command that blocks: null, and it is placed again, or data that came just before.
func (l *loop) unblockMisplaced() {
	for x := range l.waiters.blocked {
		if l.misplaced(x) && !x.grudging {
			l.recall(x)
		}
	}
}

// unblockAgain repeats what did not work: the server may have been told to unblock the
// connection before it had read the command that blocks. True: it has to be run again.
//
// There is no order between the two connections, so a CLIENT UNBLOCK can come before the
// command that it is meant for, and does nothing then. It is sent again until the wait is
// over; one too many hits nobody, because such a connection is thrown away (handBack).
//
// A server answers at once when a wait is ended. One that does not, for as long as any other
// command may take, has a connection that is dead in one direction: it would hold up the job
// that moves the key, for good.
func (l *loop) unblockAgain() (again bool) {
	for x := range l.waiters.blocked {
		if x.on == nil {
			continue
		}
		switch {
		case !x.askedAt.IsZero():
			again = true
			if limit := l.opt.RequestTimeout; limit > 0 && l.now.Sub(x.calledAt) > limit {
				l.srv.log.Warn("server does not end a client's wait, connection dropped", zap.String("group", x.on.pipe.Group),
					zap.String("addr", x.on.pipe.Addr), zap.Duration("told_for", limit))
				x.on.pipe.Close()
			} else if l.now.Sub(x.askedAt) > 15*time.Millisecond {
				l.unblock(x)
			}
		case x.grudging:
			again = true
			// Of a slot that is moved in one piece it holds the whole slot, which can't be closed before
			// it lets go.
			if m := x.r.motion; m.Inside() {
				if st, _ := m.Whole.State(m.Slot); st == slotlock.Closed {
					l.recall(x)
				}
			} else if l.now.Sub(x.sentAt) > grudge {
				l.recall(x)
			}
		}
	}
	return again
}

// unblock tells the server to answer a blocked client as if its time were over.
//
// It goes by the shared connection in RESP2 of database 0, which any other command would use
// too. The reply says nothing that the blocked command's own does not.
func (l *loop) unblock(x *blocking) {
	if x.askedAt.IsZero() {
		x.calledAt = l.now
	}
	x.askedAt = l.now
	l.turns.wantTick.Store(true)
	id := x.on.pipe.ClientID()
	if id == 0 {
		return // still connecting: the tick comes again
	}
	if i := l.table.UpstreamOf(x.on.key.group); i >= 0 {
		frame := resp.AppendRequest(nil, []byte("CLIENT"), []byte("UNBLOCK"), strconv.AppendInt(nil, id, 10), []byte("TIMEOUT"))
		l.pipe(i, 0, 2).Send(&unblocking{l, x, x.on}, frame)
	}
}

// unblocking is a CLIENT UNBLOCK under way. One that comes before the command that it is for is
// repeated at once, for some times: writers may wait for it.
type unblocking struct {
	l  *loop
	x  *blocking
	on *dedicated // of x, then
}

// unblocksAtOnce is how often; then the tick does it.
const unblocksAtOnce = 10

// Reply implements upstream.Call.
func (u *unblocking) Reply(b []byte, last bool) {
	if x := u.x; last && string(b) == ":0\r\n" && x.on == u.on && x.early < unblocksAtOnce {
		x.early++
		u.l.unblock(x)
	}
}

// Fail implements upstream.Call. The tick repeats it.
func (u *unblocking) Fail(error, bool) {}

// waitForReplicas sends WAIT or WAITAOF to the server of the client's last write. What
// counts there is the replication offset after the connection's last command, so one is
// sent in front.
//
// The server counts the acknowledgements of what the connection itself has written, and the
// write went by another one. With a PING in front, the offset that counts lies behind the
// write: both connections are of one server, which has executed the write before, since the
// client's queue was empty when this command was taken.
func (l *loop) waitForReplicas(r *request, x *blocking) {
	frame := append(bytes.Clone(pingFrame), resp.AppendRequest(nil, x.args...)...)
	group := int16(-1)
	if w := r.s.lastWrite; w != nil {
		group = l.table.UpstreamOf(w.Group)
	}
	if group < 0 {
		l.anywhere(r, frame)
		return
	}
	x.send(l, r, group, frame)
}
