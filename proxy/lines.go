package proxy

import (
	"bytes"
	"math"
	"slices"
	"time"

	"keyferry/internal/resp"
	"keyferry/proxy/line"
	"keyferry/slotlock"
)

// Clients that wait for a key in order to take something from it stand in the key's line, of which
// the server has one Book for all loops: see package line for what that is good for. This file says
// to it what happens to them, and does what it asks for.
//
// XREAD takes nothing away, and WAIT has no key: they stand in no line.

// enterLine gives x its place. Its client's socket is there: it has just sent the command.
//
// The usual client finds nobody in front who is still on his way to the server, and is sent off at
// once: an order costs a round trip only where two come for one key within that.
func (l *loop) enterLine(x *blocking) {
	x.spot = &line.Waiter{Keys: x.keys, Takes: x.r.cmd.Group, AtServer: true, FD: x.r.s.conn.FD()}
	if x.r.cmd.Traits&resp.PassesOn != 0 {
		x.spot.Keys, x.spot.To = x.keys[:1], x.keys[1:]
	}
	x.spot.Nudge = func() { l.post(func() { l.attend(x) }) }
	l.srv.waits.lines.Enter(x.spot)
	l.attend(x)
}

// attend does what the line asks for. A client that has to stand for a while is looked at by the tick,
// since it may want to wait no longer.
//
// It may be called at any time, and more often than there is anything to do: what is to be done is asked
// for here, and not told by whoever calls.
func (l *loop) attend(x *blocking) {
	if _, waits := l.waiters.blocked[x]; !waits {
		return // it has ended since
	}
	switch l.srv.waits.lines.Next(x.spot) {
	case line.Place:
		l.place(x.r, x.db, x.slot, x.keys, resp.AppendRequest(nil, x.args...))
	case line.Recall:
		l.callOff(x)
	case line.Gone:
		x.r.s.kill("")
	case line.Nothing:
		l.turns.wantTick.Store(true)
	}
}

// recall has x called off, when those behind it in its lines have been.
func (l *loop) recall(x *blocking) {
	if x.spot == nil {
		l.unblock(x)
	} else {
		l.srv.waits.lines.Recall(x.spot)
	}
}

// callOff ends the wait at the server, or for the keys that are on their way, so that x can be placed
// again.
func (l *loop) callOff(x *blocking) {
	switch {
	case x.on != nil && x.askedAt.IsZero():
		l.unblock(x)
	case x.r.isParked():
		l.unpark(x.r)
		x.r.becomeWaiting()
		l.srv.waits.lines.Stands(x.spot)
		l.attend(x)
	}
}

// stands reports that x is at no server and not on its way to one: nothing but the line, or the tick, ends that.
func (x *blocking) stands() bool {
	return x.on == nil && (x.spot != nil || !x.deferred.IsZero()) && !x.r.isParked()
}

// endStanding ends the waits that are over of those who stand, and has those tried again who were put off. True:
// somebody stands.
//
// Those who are at a server are ended by that, and those who are parked by parking.
func (l *loop) endStanding() (any bool) {
	for x := range l.waiters.blocked {
		if !x.stands() {
			continue
		}
		any = true
		switch {
		case x.timeout > 0 && !x.patient(l.now):
			x.expire(x.r)
		case x.deferred.IsZero() || l.now.Sub(x.deferred) < grudge:
		case x.spot != nil:
			x.deferred = time.Time{}
			l.srv.waits.lines.Retry(x.spot)
			l.attend(x)
		default:
			x.deferred = time.Time{}
			l.place(x.r, x.db, x.slot, x.keys, resp.AppendRequest(nil, x.args...))
		}
	}
	return any
}

// notNow: a server that is asked to let a client wait looks at the key as if the client had just come. One that
// has waited all the time would not have noticed that the key has another type now, or that a script runs.
func notNow(b []byte) bool {
	return bytes.HasPrefix(b, []byte("-WRONGTYPE ")) || bytes.HasPrefix(b, []byte("-BUSY "))
}

// put has x stand where it is, since no server lets it wait, and keeps its turn. It is tried again by the tick.
func (x *blocking) put(r *request) (pass bool) {
	l := r.s.l
	if r.s.life == lifeGone {
		x.end(r)
		return true
	}
	x.handBack(l)
	r.becomeWaiting()
	if x.unblocked != notUnblocked || x.timeout > 0 && !x.patient(l.now) {
		x.expire(r)
		return false
	}
	x.deferred = l.now
	if x.spot != nil {
		l.srv.waits.lines.Defer(x.spot)
	}
	l.turns.wantTick.Store(true)
	return false
}

// patient reports that a parked client may wait on: it has come to wait. What is malformed
// has no time-out and is not kept.
func (x *blocking) patient(now time.Time) bool {
	return x.timeout > 0 && (x.deadline.IsZero() || now.Before(x.deadline))
}

var unblockedReply = []byte("-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n")

// expire ends the wait of a client that was parked: in due time, or by CLIENT UNBLOCK.
func (x *blocking) expire(r *request) bool {
	if x.timeout == 0 && x.unblocked == notUnblocked {
		return false
	}
	x.end(r)
	if x.unblocked == unblockedAsError {
		r.finish(unblockedReply)
		return true
	}
	out := r.s.reply()
	out.NullArray()
	r.finish(out.B)
	return true
}

// inPlace takes the reply to the PING in front of a command that blocks. The server reads the two at
// once and executes them one after the other, before it answers either.
//
// Keys with very long names can make more than one segment of the two, of which the server may answer
// the first before it has the second. Two such clients who come at the same moment may change places.
type inPlace struct {
	x *blocking
	l *loop
}

// Reply implements upstream.Call. x may have ended since: then it is in no line.
func (p inPlace) Reply(_ []byte, last bool) {
	if last {
		p.l.srv.waits.lines.Settled(p.x.spot)
	}
}

// Fail implements upstream.Call. The command behind it fails as well.
func (p inPlace) Fail(error, bool) {}

// heldByLine reports that a write to keys is to wait, as bytes, since it could be given to somebody who
// has gone. Nothing of the command may have been done: it is parsed again, as if for the first time.
//
// Who waits here is resumed when anything changes in a line, and by the tick.
//
// It has a bound, which is that of a key that is being moved: a server that does not end a wait gets the
// write after that.
func (c *call) heldByLine(keys []slotlock.Key) bool {
	s := c.s
	l, since := s.l, &s.input.behind
	late := !since.IsZero() && l.now.Sub(*since) > l.opt.LockDeadline
	if late || !l.srv.waits.lines.Hold(keys, c.servesMost(), func() { l.post(s.wantResume) }) {
		*since = time.Time{}
		return false
	}
	if since.IsZero() {
		*since = l.now
	}
	l.turns.wantTick.Store(true)
	return true
}

// servesMost is how many of those who wait for a key the command may serve. What is pushed stands in the command, or in
// values that it takes over whole, of any length.
func (c *call) servesMost() int {
	if len(c.keys) == 1 && c.cmd.Flags&resp.DenyOOM != 0 && c.cmd.Serve == resp.Keyed && c.cmd.Group != "generic" {
		return len(c.args)
	}
	return math.MaxInt32
}

// awaited are the keys of the command for which somebody may wait, if it may give them something. A
// command that blocks and only takes does not.
func (c *call) awaited() (keys []slotlock.Key) {
	cmd, lines := c.cmd, c.s.l.srv.waits.lines
	if cmd.Flags&resp.Blocking != 0 && (cmd.TakesFirst() || len(c.keys) < 2) {
		return nil
	}
	if !slices.ContainsFunc(c.keys, func(i int) bool { return lines.Awaited(c.args[i]) }) {
		return nil
	}
	return appendKeys(nil, c.s.db, cmd, c.args, c.keys)
}
