package proxy

import (
	"errors"
	"strings"

	"keyferry/internal/resp"
	"keyferry/internal/upstream"
	"keyferry/proxy/stats"
)

// request is one command of a client between its arrival and its reply, or one part of
// one that was split. It is an upstream.Call.
//
//	queued in its session ─► [parked] ─► in flight on a pipe ─► done ─► written, freed
//
// A stable-slot request is taken from and given back to the loop's free list.
//
// Who touches it: the loop of its session. Pipes, parking and operations call it there.
//
// Lifetime: newRequest to free, which happens exactly once. Who frees it depends on its state,
// since a client can leave at any time: a request that is done stands in its session's queue,
// and whoever takes it out frees it. One that is under way (on a pipe, parked, in a gather,
// with a goroutine) is freed by what ends it, also when the session has long gone.
//
//	state      freed by
//	waits      what it waits for: Run or Expired, gather, a posted function; parked ones by teardown
//	flying     the last Reply, or Fail, of its pipe
//	streaming  the same
//	done       session.advance, or teardown
type request struct {
	s      *session
	next   *request // in the free list
	cmd    *resp.Command
	g      *gather // the split request that this is a part of, or nil
	motion *motion // what it needs on a moving slot, or nil
	detour *detour // how it is sent again, once it was sent to a peer
	op     operation

	observers []observer // who else hears how it ends; mostly none

	state requestState
	reply []byte    // what has come before its turn in the session's queue, or
	early earlySpan // … where that is in the session's early replies
	muted bool      // CLIENT REPLY: the client is not to see the reply
	fate  fate      // what is known of it once it is done

	pipe *upstream.Pipe // the last that it was handed to
	span stats.Span     // what is measured of it
}

// requestState is how far a request has come. One function makes each change.
//
//	                     ┌──── blocked elsewhere: asked again ───┐
//	                     ▼                                       │
//	newRequest ─► requestWaits ── becomeFlying ─► requestFlying ─┤
//	                     │                          │            │ first part of a reply
//	    an answer that needs no server              │            ▼ whose turn it is
//	                     │                          │      requestStreaming
//	                     ▼                          ▼            │
//	                   becomeDone: reply complete, its turn is yet to come ─► written, freed
//	                                                             └─ reply complete ─► freed
type requestState uint8

const (
	// requestWaits: nothing of it is at a server. It is parked for keys, in parts, or with a
	// goroutine.
	requestWaits requestState = iota
	// requestFlying: it is on a pipe, which will end it by a last Reply or by Fail.
	requestFlying
	// requestStreaming: besides, its client has had a part of the reply. No error can follow.
	requestStreaming
	// requestDone: its reply is complete, and written when it is first in the queue. Whoever
	// takes it out of the queue frees it; in all other states another one does.
	requestDone
)

// becomeFlying is said before the request is handed to a pipe, since its end may come before
// that returns.
func (r *request) becomeFlying(p *upstream.Pipe) {
	r.state, r.pipe, r.span.Sent = requestFlying, p, r.s.l.ns
}

// becomeStreaming is said before the first piece of a reply that is not the last: messages
// have to wait from then on.
func (r *request) becomeStreaming() { r.state = requestStreaming }

// becomeWaiting takes a request back that a server has answered, and that is to be asked
// again: it holds nothing more.
func (r *request) becomeWaiting() {
	r.s.l.releaseHolds(r)
	r.state, r.motion = requestWaits, nil
}

// becomeDone hands the request over: from now on its session's queue, or its gather, has it.
func (r *request) becomeDone() { r.state = requestDone }

// fate is what is known of a request that is done. It matters for parts, whose errors are put
// together to one (gather.failure).
type fate uint8

const (
	fateAnswered fate = iota // by the server: executed, unless that is an error
	fateNothing              // no server has seen it
	fateUnknown              // a server has had it, and its answer is lost
)

// untouched reports that nothing of a reply has been kept or written.
func (r *request) untouched() bool { return r.state < requestStreaming && r.reply == nil }

// block is what goes out for one request. Nobody else's commands come between its own.
//
// before and after say how many replies of the block are nobody's: those of MULTI and what it
// queues, SELECT, SCRIPT LOAD, PING.
type block struct {
	frame         []byte
	before, after int  // commands in front of and behind the one whose reply is the request's
	writes        bool // WAIT is about it, even if the command alone does not say so
}

// transmit hands the request to a shared connection. The client's next commands wait while
// that can't keep up.
//
// It is the one place where lastPipe is set. A dedicated connection is not noted: it is not
// what the next commands use.
func (r *request) transmit(p *upstream.Pipe, b block) {
	r.s.lastPipe = p
	r.put(p, b)
}

// put hands the request to a connection; r may have been freed when it returns.
func (r *request) put(p *upstream.Pipe, b block) {
	r.becomeFlying(p)
	if b.writes || r.cmd.Flags&resp.Write != 0 {
		r.s.lastWrite = p
	}
	if b.before|b.after == 0 {
		p.Send(r, b.frame)
	} else {
		p.SendBlock(r, b.frame, b.before, b.after)
	}
}

// Reply implements upstream.Call.
//
// The order: the operation first, since it decides whether this is a reply for the client at
// all; then observers; then the holds go, for the server is done with the keys; then those who
// listen hear of it; then the client gets it, and may act on it.
func (r *request) Reply(b []byte, last bool) {
	if r.detour != nil {
		var over bool
		if over, b = r.refusedByPeer(b, last); over {
			return
		}
	}
	if r.op != nil && !r.op.reply(r, b, last) {
		return
	}
	l := r.s.l
	// Whatever is big has large pieces: small replies pay for one comparison.
	if t := &r.span; len(b) >= stats.LargePiece || t.Size > 0 {
		if t.Size += len(b); last && l.rec.Big.Is(t.Size) {
			l.rec.Big.Note(r.s.db, t.Head, t.Size, l.now)
		}
	}
	if last {
		r.whole(b, nil)
		return
	}
	r.take(b, false)
}

// whole ends the request with the last piece of its server's reply, or with all of it, if its operation
// has collected that. x are the messages of a transaction, or nil.
func (r *request) whole(b []byte, x *published) {
	for _, o := range r.observers {
		o.answered(r, b)
	}
	r.s.l.releaseHolds(r)
	if x != nil || r.mayBeHeard() {
		r.waitUntilHeard(b, x)
		return
	}
	r.take(b, true)
}

// Fail implements upstream.Call.
//
// sent says that the server may have executed it. Then the holds are not released but handed
// to the loss that is being dealt with: they last until the connection is fenced
// (servers.lost).
//
// A part of the reply may be there already. What the client has had of it can't be taken back,
// so it is closed, as a server that dies would leave it; what has been kept is thrown away for
// the error.
func (r *request) Fail(err error, sent bool) {
	l := r.s.l
	if r.detour != nil && r.untouched() {
		if (!sent || r.repeatable()) && r.comesBack() {
			return
		}
		if !sent && r.atPeer() && !l.now.Before(r.detour.until) {
			err = errPeerDeadline
		}
	}
	if r.fate = fateNothing; sent {
		r.fate = fateUnknown
	}
	if r.op != nil {
		r.op.dropped(r)
	}
	for _, o := range r.observers {
		o.failed(r, sent)
	}
	if r.motion != nil {
		if sent && l.servers.losing != nil {
			l.servers.losing.holds = append(l.servers.losing.holds, r.motion.HandOver())
		} else {
			l.releaseHolds(r)
		}
	}
	if sent && r.state != requestWaits {
		l.rec.N[stats.LostReplies]++
	}
	if r.state == requestStreaming {
		// Part of the reply is with the client: no error can follow it.
		r.s.kill("server connection lost in the middle of a reply")
	} else if r.reply != nil {
		r.s.out.held -= len(r.reply)
		l.spares.buffers.put(r.reply)
		r.reply = nil
	}
	r.take(upstreamError(r, err), true)
}

// take accepts the next bytes of the reply, from whatever source. The last ones end the
// operation, here and nowhere else: what it would have been asked after them is moot.
//
// Four cases, by who waits for it:
//
//	part of a gather   kept, and the gather told
//	client gone        dropped
//	its turn           written as it comes, and at the end those behind it
//	not its turn       kept until then, short ones in the session's buffer for early replies
//
// What was kept of a reply whose turn comes is written by advance, from where it was left.
func (r *request) take(b []byte, last bool) {
	s := r.s
	if last {
		r.op = nil
		if r.g == nil {
			s.l.timed(r, b)
		}
	}
	if r.muted {
		b = nil
	}
	switch {
	case r.g != nil:
		r.store(b)
		if last {
			r.becomeDone()
			r.g.part(r)
		}
	case s.life == lifeGone:
		if last {
			s.l.free(r)
		}
	case s.queue.front() == r:
		if !last {
			r.becomeStreaming()
		}
		s.write(b) // may end the session, and teardown has then emptied its queue
		if s.life == lifeGone {
			if last {
				s.l.free(r)
			}
			return
		}
		if last {
			s.queue.pop()
			s.l.free(r)
			s.advance()
		}
	default:
		if !last || r.reply != nil || !s.storeEarly(r, b) {
			r.store(b)
		}
		if last {
			r.becomeDone()
		}
	}
}

// store: held counts it: it is what back-pressure goes by while a slow server is in front.
func (r *request) store(b []byte) {
	r.reply = r.s.l.spares.buffers.append(r.reply, b)
	r.s.out.held += len(b)
}

// finish gives the whole reply, which no server has. Nothing of the request is at one any more.
//
// Operations end themselves by it: the client is no longer interested, or what they would ask
// for is known.
func (r *request) finish(reply []byte) {
	r.s.l.releaseHolds(r)
	r.take(reply, true)
}

// What an error says of the command that it ends.
const (
	nothingExecuted = "; nothing was executed"
	outcomeUnknown  = "; the command may or may not have been executed"
)

// upstreamError is the one mapper from errors of the data plane to RESP errors.
//
// The first word tells a client what to do: TRYAGAIN promises that nothing was executed and
// that it may be repeated, ERR with "may or may not" that this has to be found out. Of a command
// in parts this is one part's error: see gather.failure.
func upstreamError(r *request, err error) []byte {
	where := ""
	if r.cmd != nil {
		where = " (" + r.cmd.Name + ")"
	}
	text := ""
	var said upstream.ServerError
	switch {
	case errors.As(err, &said) && strings.HasPrefix(string(said), "BUSY "):
		text = string(said) // as the server says it: clients go by the first word
	case errors.Is(err, upstream.ErrLost) && r.atPeer():
		text = "ERR connection to the gateway that moves the key's slot was lost" + where + outcomeUnknown
	case errors.Is(err, upstream.ErrLost):
		text = "ERR connection to the server was lost" + where + outcomeUnknown
	case errors.Is(err, upstream.ErrBusy), errors.Is(err, errParkedFull):
		text = "TRYAGAIN " + err.Error() + where + nothingExecuted
	case errors.Is(err, errDedicatedFull):
		text = "ERR " + err.Error() + where
	case errors.Is(err, errLockDeadline), errors.Is(err, errPeerDeadline):
		text = "TRYAGAIN " + err.Error() + where + nothingExecuted
	default:
		text = "ERR server " + err.Error() + where + nothingExecuted
	}
	return resp.AppendErr(nil, text)
}

// Errors of requests that could not be sent.
var (
	// errLockDeadline is given to a command whose key was not free in time.
	errLockDeadline = errors.New("timed out waiting for the key, which is being moved")
	// errParkedFull is given when as many commands are parked as may be.
	errParkedFull = errors.New("too many commands wait for keys that are being moved")
	// errGroupGone is given when the group that a command was meant for is no more.
	errGroupGone = errors.New("is no longer part of the cluster")
)

// requestRing is the ordered queue of a session.
//
// A ring, so that neither end moves anything. Its room grows with the pipelines that a client
// sends, and shrinks to nothing when a long one is done: of the many clients most are idle.
type requestRing struct {
	buf  []*request // length a power of two
	head int
	n    int
}

// push grows by doubling, and so allocates less and less often; on the stable path it does not.
func (q *requestRing) push(r *request) {
	if q.n == len(q.buf) {
		next := make([]*request, max(2*len(q.buf), 4))
		for i := range q.n {
			next[i] = q.buf[(q.head+i)&(len(q.buf)-1)]
		}
		q.buf, q.head = next, 0
	}
	q.buf[(q.head+q.n)&(len(q.buf)-1)] = r
	q.n++
}

func (q *requestRing) front() *request {
	if q.n == 0 {
		return nil
	}
	return q.buf[q.head]
}

// pop: the slot is cleared, or a request would be kept alive by a place that it no longer has.
func (q *requestRing) pop() *request {
	r := q.buf[q.head]
	q.buf[q.head] = nil
	q.head = (q.head + 1) & (len(q.buf) - 1)
	q.n--
	if q.n == 0 && len(q.buf) > 64 {
		q.buf, q.head = nil, 0 // an idle client keeps no long queue
	}
	return r
}

// newRequest: begun is the time of the event and not of now: a command that is answered within the event
// in which its bytes came took no time.
func (l *loop) newRequest(s *session, c *resp.Command) *request {
	r := l.spares.requests
	if r == nil {
		r = &request{}
	} else {
		l.spares.requests = r.next
	}
	r.s, r.cmd, r.next, r.span.Begun = s, c, nil, l.ns
	return r
}

// free ends whatever waited for this request: hold is let go, so that the client's next commands
// run, and the slow log gets its entry, which has the time until the reply was written.
func (l *loop) free(r *request) {
	if r.reply != nil {
		l.spares.buffers.put(r.reply)
	}
	if s := r.s; s.hold == r {
		s.hold = nil
		s.wantResume()
	}
	l.rec.Written(&r.span, l.ns)
	*r = request{next: l.spares.requests, span: r.span.Recycled()}
	l.spares.requests = r
}
