package proxy

// earlyReplies are the short replies of one session that have come before their turn, as
// they do when its commands go to several servers: one buffer for all of them, since a
// buffer for each would be taken and given back for every second command.
//
// Who touches it: the session, on its loop. buf only grows until no reply is in it; so a span
// stays right for as long as its request has it. Requests free the spans in the order of the
// queue, and the last gives the buffer back.
type earlyReplies struct {
	buf []byte
	n   int // replies in it; when there are none it is given back
}

// earlySpan is a part of a session's early replies. Size 0: none.
//
// An index and not a slice: the buffer may move as it grows.
type earlySpan struct{ at, size int }

// earlyMax is how much one session keeps in the common buffer, in bytes. What comes above
// that, or is longer than earlyReplyMax, has a buffer of its own.
const (
	earlyMax      = 32 << 10
	earlyReplyMax = 4 << 10
)

// storeEarly keeps the whole reply of r until its turn, if it fits.
func (s *session) storeEarly(r *request, b []byte) bool {
	e := &s.out.early
	if len(b) > earlyReplyMax || len(e.buf)+len(b) > earlyMax || len(b) == 0 {
		return false
	}
	r.early = earlySpan{len(e.buf), len(b)}
	e.buf = s.l.spares.buffers.append(e.buf, b)
	e.n++
	s.out.held += len(b)
	return true
}

// writeEarly writes the reply of r, whose turn has come.
func (s *session) writeEarly(r *request) {
	e, at := &s.out.early, r.early
	r.early = earlySpan{}
	s.out.held -= at.size
	s.write(e.buf[at.at : at.at+at.size]) // may end the session
	if s.life == lifeGone {
		return
	}
	if e.n--; e.n == 0 {
		e.forget(s.l)
	}
}

// forget: also by teardown, when spans are still out: nobody will write them.
func (e *earlyReplies) forget(l *loop) {
	l.spares.buffers.put(e.buf)
	*e = earlyReplies{}
}
