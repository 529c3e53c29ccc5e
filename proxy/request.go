package proxy

import (
	"errors"

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
type request struct {
	s      *session
	next   *request // in the free list
	cmd    *resp.Command
	g      *gather // the split request that this is a part of, or nil
	motion *motion // what it needs on a moving slot, or nil
	op     operation

	reply   []byte    // what has come before its turn in the session's queue, or
	early   earlySpan // … where that is in the session's early replies
	done    bool      // the reply is complete
	started bool      // bytes of the reply have gone to the client
	flying  bool      // on a pipe
	muted   bool      // CLIENT REPLY: the client is not to see the reply

	pipe *upstream.Pipe // the last that it was handed to
	span stats.Span     // what is measured of it
}

// operation is what makes a request more than one command on a shared connection.
type operation interface {
	// send puts the request on the wire to a group of the present table, where its keys
	// are. frame is valid during the call only.
	send(l *loop, r *request, group int16, frame []byte)
	// reply sees the reply before the client does; false: there will be another one, and
	// this is not for the client.
	reply(r *request, b []byte, last bool) bool
	// dropped is told that there will be no reply: a failure, or the client has left
	// while the request was parked.
	dropped(r *request)
}

// Reply implements upstream.Call.
func (r *request) Reply(b []byte, last bool) {
	if r.op != nil && !r.op.reply(r, b, last) {
		return
	}
	l := r.s.l
	if t := &r.span; len(b) >= stats.LargePiece || t.Size > 0 {
		if t.Size += len(b); last && l.rec.Big.Is(t.Size) {
			l.rec.Big.Note(r.s.db, t.Head, t.Size, l.now)
		}
	}
	if last {
		r.flying = false
		l.releaseHolds(r)
	}
	r.take(b, last)
}

// Fail implements upstream.Call.
func (r *request) Fail(err error, sent bool) {
	l := r.s.l
	if r.op != nil {
		r.op.dropped(r)
	}
	wasFlying := r.flying
	r.flying = false
	if r.motion != nil {
		if sent && l.losing != nil {
			l.losing.holds = append(l.losing.holds, r.motion.HandOver())
		} else {
			l.releaseHolds(r)
		}
	}
	if wasFlying && sent {
		l.rec.N[stats.LostReplies]++
	}
	if r.started {
		// Part of the reply is with the client: no error can follow it.
		r.s.kill("server connection lost in the middle of a reply")
	} else if r.reply != nil {
		r.s.held -= len(r.reply)
		l.buffers.put(r.reply)
		r.reply = nil
	}
	r.take(upstreamError(r, err), true)
}

// take accepts the next bytes of the reply, from whatever source.
func (r *request) take(b []byte, last bool) {
	s := r.s
	if last && r.g == nil {
		s.l.timed(r, b)
	}
	if r.muted {
		b = nil
	}
	switch {
	case r.g != nil:
		r.store(b)
		if last {
			r.done = true
			r.g.part(r)
		}
	case s.gone:
		if last {
			s.l.free(r)
		}
	case s.queue.front() == r:
		r.started = true
		s.write(b) // may end the session, and leave has then emptied its queue
		if s.gone {
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
		r.done = last
	}
}

func (r *request) store(b []byte) {
	r.reply = r.s.l.buffers.append(r.reply, b)
	r.s.held += len(b)
}

// finish gives the whole reply.
func (r *request) finish(reply []byte) { r.take(reply, true) }

// upstreamError is the one mapper from errors of the data plane to RESP errors.
func upstreamError(r *request, err error) []byte {
	where := ""
	if r.cmd != nil {
		where = " (" + r.cmd.Name + ")"
	}
	text := ""
	switch {
	case errors.Is(err, upstream.ErrLost):
		text = "ERR connection to the server was lost" + where + "; the command may or may not have been executed"
	case errors.Is(err, upstream.ErrBusy), errors.Is(err, errParkedFull):
		text = "TRYAGAIN " + err.Error() + where + "; nothing was executed"
	case errors.Is(err, errLentFull):
		text = "ERR " + err.Error() + where
	case errors.Is(err, errLockDeadline):
		text = "TRYAGAIN " + err.Error() + where + "; nothing was executed"
	default:
		text = "ERR server " + err.Error() + where + "; nothing was executed"
	}
	return resp.AppendErr(nil, text)
}

// Errors of requests that could not be sent.
var (
	// errLockDeadline is given to a command whose key could not be had in time.
	errLockDeadline = errors.New("the key is being moved and could not be had in time")
	// errParkedFull is given when as many commands are parked as may be.
	errParkedFull = errors.New("too many commands wait for keys that are being moved")
	// errGroupGone is given when the group that a command was meant for is no more.
	errGroupGone = errors.New("is no longer part of the cluster")
)

// requestRing is the ordered queue of a session.
type requestRing struct {
	buf  []*request // length a power of two
	head int
	n    int
}

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
