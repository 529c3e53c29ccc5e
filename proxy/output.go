package proxy

import (
	"fmt"
	"time"

	"keyferry/proxy/stats"
)

// write appends reply bytes to what goes out at the end of the turn.
func (s *session) write(b []byte) {
	if s.gone || len(b) == 0 {
		return
	}
	if len(b) >= 32<<10 {
		s.flushOut()
		if s.gone {
			return
		}
		s.l.rec.N[stats.BytesOut] += uint64(len(b))
		_, _ = s.conn.Write(b) // a failure arrives as OnClose, possibly before Write returns
		s.l.markDirty(s)
		return
	}
	if len(s.out)+len(b) > gatherMax {
		s.flushOut()
		if s.gone {
			return
		}
	}
	s.out = s.l.buffers.append(s.out, b)
	s.l.markDirty(s)
}

// gatherMax is how much a turn gathers for one client before it is written: more would only
// leave the processor's cache, and make the client wait.
const gatherMax = 64 << 10

func (l *loop) markDirty(s *session) {
	if !s.dirty {
		s.dirty = true
		l.dirtySessions = append(l.dirtySessions, s)
		l.arm()
	}
}

func (s *session) flushOut() {
	if len(s.out) == 0 {
		return
	}
	out := s.out
	s.out = nil
	s.l.rec.N[stats.BytesOut] += uint64(len(out))
	_, _ = s.conn.Write(out)
	s.l.buffers.put(out)
}

// idle reports that the client has said nothing for longer than it may, and been told nothing
// either: one that waits for a reply, has just had it or still reads it is not silent.
func (s *session) idle() bool {
	limit := s.l.opt.IdleTimeout
	if limit <= 0 {
		return false
	}
	n := s.pendingOut()
	if n < s.unreadAt {
		s.active = s.l.now
	}
	s.unreadAt = n
	return s.queue.n == 0 && s.nsubs == 0 && !s.monitor && s.l.pause == pauseNone && s.l.now.Sub(s.active) > limit
}

// flush writes the turn's replies and holds the client to its output limits.
func (s *session) flush() {
	s.dirty = false
	if s.gone {
		return
	}
	s.active = s.l.now
	s.flushOut()
	if s.gone {
		return
	}
	if s.finish() {
		return
	}
	s.checkOutput()
}

// finish ends a client that is to be ended, when it has all its replies; one that does not
// read them is given lastReplies.
func (s *session) finish() bool {
	if s.queue.n > 0 || !s.ending && (!s.eof || s.paused) {
		return false
	}
	if s.pendingOut() > 0 {
		if s.endsBy.IsZero() {
			s.endsBy = s.l.now.Add(lastReplies)
			s.l.wantTick.Store(true)
		}
		if s.l.now.Before(s.endsBy) {
			return false
		}
	}
	s.kill("")
	return true
}

// lastReplies bounds how long a client that is to be ended may take to read what it was
// sent.
const lastReplies = 10 * time.Second

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
		s.softSince = time.Time{}
	case s.softSince.IsZero():
		s.softSince = s.l.now
		s.l.wantTick.Store(true)
	case s.l.now.Sub(s.softSince) > limit.SoftFor:
		s.closeFor(fmt.Sprintf("%d bytes of output unread for %v, over the soft client-output-buffer-limit", n, limit.SoftFor))
	}
}

func (s *session) draining() bool { return !s.softSince.IsZero() || !s.endsBy.IsZero() }
