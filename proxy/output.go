package proxy

import (
	"fmt"
	"time"

	"keyferry/proxy/stats"
)

// output is what a client is sent.
//
// Who touches it: the session, on its loop. buf is handed to the transport at the end of each
// turn (flush), or when it has gatherMax bytes.
//
// Invariant: held counts the bytes of all replies and messages that wait for others to be
// written first, wherever they are kept: in requests, in early, in pushes.
type output struct {
	buf    []byte // replies of this turn
	dirty  bool   // in the loop's list of those to flush
	held   int
	early  earlyReplies
	pushes [][]byte // out-of-band messages that wait for the reply being written

	unreadAt  int       // bytes that the client had to read at the last tick; see idle
	softSince time.Time // it has been over the soft limit since; zero: it is not
	endsBy    time.Time // when a client that is to be ended is, whatever it has not read; zero: not yet
}

// write appends reply bytes to what goes out at the end of the turn.
//
// Most replies are gathered: one write for a turn, whatever the number of commands. A large
// piece goes out at once, behind what was gathered, since to copy it costs more than a write.
//
// It may end the session. Whoever calls it looks at life afterwards, and touches nothing of
// the session that teardown has taken away.
func (s *session) write(b []byte) {
	if s.life == lifeGone || len(b) == 0 {
		return
	}
	if len(b) >= 32<<10 {
		s.flushOut()
		if s.life == lifeGone {
			return
		}
		s.l.rec.N[stats.BytesOut] += uint64(len(b))
		_, _ = s.conn.Write(b) // a failure arrives as OnClose, possibly before Write returns
		s.l.markDirty(s)
		return
	}
	if len(s.out.buf)+len(b) > gatherMax {
		s.flushOut()
		if s.life == lifeGone {
			return
		}
	}
	s.out.buf = s.l.spares.buffers.append(s.out.buf, b)
	s.l.markDirty(s)
}

// gatherMax is how much a turn gathers for one client before it is written: more would only
// leave the processor's cache, and make the client wait.
//
// It was one of the changes that more than halved the processor time of GET of 10 KB at
// pipeline 16.
const gatherMax = 64 << 10

// markDirty: also without a byte to write: flush is where a client that is to be ended is.
func (l *loop) markDirty(s *session) {
	if !s.out.dirty {
		s.out.dirty = true
		l.clients.dirty = append(l.clients.dirty, s)
		l.arm()
	}
}

// flushOut: a failure is not looked at: it arrives as the end of the connection, possibly from within
// the write.
func (s *session) flushOut() {
	if len(s.out.buf) == 0 {
		return
	}
	out := s.out.buf
	// Taken away before the write: that may fail, and teardown must not put the buffer back while
	// it is read.
	s.out.buf = nil
	s.l.rec.N[stats.BytesOut] += uint64(len(out))
	_, _ = s.conn.Write(out)
	s.l.spares.buffers.put(out)
}

// idle reports that the client has said nothing for longer than it may, and been told nothing
// either: one that waits for a reply, has just had it or still reads it is not silent.
//
// One that reads slowly is not idle as long as it reads: what it leaves unread gets less from
// tick to tick.
func (s *session) idle() bool {
	limit := s.l.opt.IdleTimeout
	if limit <= 0 {
		return false
	}
	n := s.pendingOut()
	if n < s.out.unreadAt {
		s.who.active = s.l.now
	}
	s.out.unreadAt = n
	return s.queue.n == 0 && s.nsubs == 0 && !s.modes.monitor && s.l.clients.pause == pauseNone && s.l.now.Sub(s.who.active) > limit
}

// flush writes the turn's replies and holds the client to its output limits.
func (s *session) flush() {
	s.out.dirty = false
	if s.life == lifeGone {
		return
	}
	s.who.active = s.l.now
	s.flushOut()
	if s.life == lifeGone {
		return
	}
	if s.finish() {
		return
	}
	s.checkOutput()
}

// finish ends a client that is to be ended, when it has all its replies; one that does not
// read them is given lastReplies.
//
// A half-closed client is not ended while it has input that waits: it has sent that before its
// end, and gets the replies.
func (s *session) finish() bool {
	if s.queue.n > 0 || s.life == lifeOpen || s.life == lifeHalfClosed && s.isHeld() {
		return false
	}
	if s.pendingOut() > 0 {
		if s.out.endsBy.IsZero() {
			s.out.endsBy = s.l.now.Add(lastReplies)
			s.l.turns.wantTick.Store(true)
		}
		if s.l.now.Before(s.out.endsBy) {
			return false
		}
	}
	s.kill("")
	return true
}

// lastReplies bounds how long a client that is to be ended may take to read what it was
// sent.
const lastReplies = 10 * time.Second

// checkOutput: hard and soft are Redis's: beyond the one at once, beyond the other when it lasts. It is
// looked at after each write and at each tick, and the tick comes often while a client is over
// the soft limit.
func (s *session) checkOutput() {
	limit := &s.l.opt.Output
	if s.nsubs > 0 {
		limit = &s.l.opt.OutputPubSub
	}
	n := s.pendingOut()
	switch {
	case n > limit.Hard:
		s.closeFor(fmt.Sprintf("%d bytes of output unread, over the hard client-output-buffer-limit", n))
	case n <= limit.Soft:
		s.out.softSince = time.Time{}
	case s.out.softSince.IsZero():
		s.out.softSince = s.l.now
		s.l.turns.wantTick.Store(true)
	case s.l.now.Sub(s.out.softSince) > limit.SoftFor:
		s.closeFor(fmt.Sprintf("%d bytes of output unread for %v, over the soft client-output-buffer-limit", n, limit.SoftFor))
	}
}

// draining: then the tick comes every 20 ms, so that a limit of a second is not one of two.
func (s *session) draining() bool { return !s.out.softSince.IsZero() || !s.out.endsBy.IsZero() }
