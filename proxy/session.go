package proxy

import (
	"fmt"
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/transport"
	"keyferry/internal/upstream"
	"keyferry/proxy/stats"
)

// session is one client connection. An idle one holds no buffer.
type session struct {
	l    *loop
	conn transport.Conn // nil once gone: the descriptor may be somebody else's
	id   int64
	addr string

	in   []byte               // input not yet parsed; a frame that is not complete, or a paused client's
	pos  int                  // … from here on
	scan *resp.RequestScanner // while a frame is in pieces

	out   []byte // replies of this turn
	queue requestRing
	early earlyReplies
	held  int // bytes of replies that wait for their turn

	proto    int // RESP version: 2 or 3
	db       int
	name     string
	libName  string
	libVer   string
	authed   bool
	noEvict  bool
	noTouch  bool
	quiet    quiet // CLIENT REPLY
	monitor  bool
	lastCmd  *resp.Command // for CLIENT LIST
	lastPipe *upstream.Pipe
	commands int64
	waited   int64     // ns that the commands at hand have waited because the client was held up
	pausedAt time.Time // when it was

	tx        *transaction // since MULTI
	watch     *watch
	hold      *request       // its reply decides how the client goes on: what follows waits
	lastWrite *upstream.Pipe // where its last write went, for WAIT
	subs      *subscriptions
	nsubs     int // channels and patterns
	tracking  *tracking
	pushes    [][]byte // out-of-band messages that wait for the reply being written

	gone      bool // no more reads, writes or parsing
	ending    bool // closes when the queue is empty: QUIT, protocol error
	eof       bool // the client sends no more: closes when all that it sent is answered
	dirty     bool
	resuming  bool // in the loop's resumable list
	paused    bool // has input that waits
	aimed     bool // the next read goes to in; see aim
	heldReads bool // … so much that no more is read
	alone     bool // … because its next command has to be alone in the queue

	since     time.Time
	active    time.Time
	endsBy    time.Time // when a client that is to be ended is, whatever it has not read
	unreadAt  int       // bytes that it had to read at the last tick; see idle
	softSince time.Time // output has been over the soft limit since
}

func (l *loop) accept(c transport.Conn) {
	l.clock()
	s := &session{l: l, conn: c, id: l.srv.nextClient.Add(1), addr: c.RemoteAddr().String(),
		proto: 2, authed: l.opt.Password == "", since: l.now, active: l.now}
	c.SetOwner(s)
	l.sessions[s] = struct{}{}
	l.rec.N[stats.Connections]++
}

// data takes bytes from the client. b is valid during the call only.
func (s *session) data(b []byte) {
	if s.gone || s.ending {
		return
	}
	s.active = s.l.now
	s.l.rec.N[stats.BytesIn] += uint64(len(b))
	if s.aimed {
		s.aimed = false
		s.in = s.in[:len(s.in)+len(b)] // b is there
		b = nil
		s.processOwn()
	}
	b = b[s.completeOwn(b):]
	if len(s.in) == 0 && !s.paused && !s.gone {
		b = b[s.process(b):]
	}
	if !s.gone && len(b) > 0 {
		if len(s.in) == 0 {
			s.in = s.l.buffers.get(len(b) + s.ahead(len(b)))
		}
		s.in = s.l.buffers.append(s.in, b)
	}
	if s.gone {
		return
	}
	s.aim()
	s.holdReads()
	if waits := len(s.in) - s.pos; waits > s.l.opt.QueryLimit {
		s.closeFor(fmt.Sprintf("%d bytes of input wait, over client-query-buffer-limit", waits))
	}
}

// readAhead is how much input of a client that has to wait is kept, in bytes, before it is
// left in the socket, if the transport can do that. Else the query buffer's limit bounds it.
const readAhead = 256 << 10

// holdReads stops to read from a client that has to wait and has sent enough.
func (s *session) holdReads() {
	if hold := s.paused && len(s.in)-s.pos > readAhead; hold != s.heldReads {
		s.heldReads = hold
		s.conn.HoldReads(hold)
	}
}

// completeOwn completes the command that the session has kept the beginning of, and says how
// much of b that took: what follows is parsed where it lies, and not copied.
func (s *session) completeOwn(b []byte) (took int) {
	for len(s.in) > 0 && took < len(b) && !s.paused && !s.gone {
		n := pieceMin // of a header, whose end is not known
		if s.scan != nil {
			n = max(n, s.scan.Need())
		}
		n = min(n, len(b)-took)
		s.in = s.l.buffers.append(s.in, b[took:took+n])
		took += n
		s.processOwn()
		if rest := len(s.in) - s.pos; rest <= n && !s.paused && !s.gone { // all that is left is b's
			took -= rest
			s.forgetInput()
		}
	}
	return took
}

// pieceMin is what a session takes over at least to complete a command.
const pieceMin = 64

// aim has the transport read the rest of a large argument to where it belongs, and no more.
func (s *session) aim() {
	if s.scan == nil || s.paused || s.pos > 0 || len(s.in) == 0 {
		return
	}
	more := s.ahead(len(s.in))
	if more == 0 {
		return
	}
	if len(s.in) == cap(s.in) {
		s.in = s.l.buffers.grow(s.in, more)
	}
	s.aimed = s.conn.ReadInto(s.in[len(s.in):min(cap(s.in), len(s.in)+s.scan.Need())])
}

// ahead is for how many bytes of a large argument, of which have are there, memory is got in
// advance: what the client says is to come, but no more than a multiple of what has come.
func (s *session) ahead(have int) int {
	if s.scan == nil {
		return 0
	}
	need := s.scan.Need()
	if need < aimMin {
		return 0
	}
	return min(need, aheadTimes*have)
}

const aheadTimes = 3

// aimMin is the least that has to be missing of an argument; less is copied from what else
// one read brings.
const aimMin = 32 << 10

// forgetInput drops what the session has kept, and the scanner that is in the midst of it.
func (s *session) forgetInput() {
	if s.scan != nil {
		s.l.putScanner(s.scan)
		s.scan = nil
	}
	s.l.buffers.put(s.in)
	s.in, s.pos = nil, 0
}

// processOwn parses what the session has kept.
func (s *session) processOwn() {
	own, outer := s.in, s.l.input
	s.l.input = own
	s.pos += s.process(own[s.pos:])
	lent := len(own) > 0 && s.l.input == nil
	s.l.input = outer
	switch {
	case s.gone:
	case lent: // its end was, and so all of it has been processed
		s.in, s.pos = nil, 0
	case s.pos == len(s.in):
		s.l.buffers.put(s.in)
		s.in, s.pos = nil, 0
	case s.pos > len(s.in)/2:
		// Moved down only when at least half is used up, so that the total of the copies
		// stays linear in what was received.
		n := copy(s.in, s.in[s.pos:])
		s.in, s.pos = s.in[:n], 0
	}
}

// process runs the commands in b and says how many bytes they took.
func (s *session) process(b []byte) int {
	l := s.l
	scan := s.scan
	s.scan = nil // it is this call's now: leave must not give it away as well
	if scan == nil {
		scan = l.scanner(s.authed)
	}
	c := l.takeCall()
	defer l.putCall(c)
	pos := 0
	for pos < len(b) && !s.ending && !s.gone {
		if s.mustWait() {
			s.pause()
			break
		}
		n, st := scan.Scan(b[pos:])
		if st == resp.Again {
			s.scan = scan
			return pos
		}
		if st == resp.Invalid {
			s.ending = true
			text := resp.AppendErr(nil, scan.ErrText())
			l.rec.CountAnswer(nil, text)
			s.enqueueReply(text)
			pos = len(b)
			break
		}
		if args := scan.Args(); len(args) > 0 {
			*c = call{s: s, args: args, frame: b[pos : pos+n], inline: scan.Inline()}
			if !c.serve() {
				s.alone = true
				s.pause()
				break
			}
			if s.authed && scan.MaxArgs == resp.UnauthMaxArgs {
				scan.MaxBulk, scan.MaxArgs = l.opt.MaxBulk, resp.DefaultMaxArgs
			}
		}
		pos += n
	}
	if s.ending {
		pos = len(b)
	}
	l.putScanner(scan)
	return pos
}

// scanner gives out a scanner. A client that has not authenticated gets small limits, as
// in Redis.
func (l *loop) scanner(authed bool) *resp.RequestScanner {
	var sc *resp.RequestScanner
	if n := len(l.scanners); n > 0 {
		sc = l.scanners[n-1]
		l.scanners = l.scanners[:n-1]
	} else {
		sc = &resp.RequestScanner{}
	}
	sc.MaxBulk, sc.MaxArgs = l.opt.MaxBulk, resp.DefaultMaxArgs
	if !authed {
		sc.MaxBulk, sc.MaxArgs = resp.UnauthMaxBulk, resp.UnauthMaxArgs
	}
	return sc
}

func (l *loop) putScanner(sc *resp.RequestScanner) {
	sc.Reset()
	if len(l.scanners) < 64 {
		l.scanners = append(l.scanners, sc)
	}
}

// mustWait reports whether the client's next command has to wait: for its own replies, or for
// a server that can't keep up. It never waits for the client to read: many send all that they
// have to say before they do, and how much one may leave unread is limited elsewhere.
func (s *session) mustWait() bool {
	if s.hold != nil || s.queue.n >= s.l.opt.MaxInFlight || s.held > heldMax || s.alone && s.queue.n > 0 {
		return true
	}
	s.alone = false
	return s.lastPipe != nil && s.lastPipe.Pending() > s.l.opt.PipeBytes
}

// pendingOut is the number of bytes of replies that the client has not taken.
func (s *session) pendingOut() int {
	n := len(s.out) + s.held
	if s.conn != nil {
		n += s.conn.Buffered()
	}
	return n
}

// wantResume puts a waiting session on the loop's list.
func (s *session) wantResume() {
	if s.paused && !s.resuming && !s.gone {
		s.resuming = true
		s.l.resumable = append(s.l.resumable, s)
		s.l.arm()
	}
}

// pause lets what the client has sent wait.
func (s *session) pause() { s.paused, s.pausedAt = true, s.l.now }

func (s *session) resume() {
	if s.gone || !s.paused || s.mustWait() {
		return
	}
	s.paused = false
	s.waited = int64(s.l.now.Sub(s.pausedAt))
	s.processOwn()
	s.waited = 0
	if s.gone {
		return
	}
	s.holdReads()
	if s.eof {
		s.l.markDirty(s) // it may have been the last
	}
}

// enqueueReply gives a reply its place behind those of the commands before it.
func (s *session) enqueueReply(reply []byte) {
	if s.queue.n == 0 {
		s.write(reply)
		if s.ending {
			s.l.markDirty(s)
		}
		return
	}
	r := s.l.newRequest(s, nil)
	s.queue.push(r)
	r.span.Begun = 0 // it is counted already
	r.finish(reply)
}

// advance writes the replies that have become due.
func (s *session) advance() {
	for {
		r := s.queue.front()
		if r == nil || r.reply == nil && r.state != requestDone {
			break
		}
		if r.early.size > 0 {
			s.writeEarly(r)
		} else {
			s.held -= len(r.reply)
			s.write(r.reply)
		}
		if s.gone {
			return
		}
		if r.state != requestDone {
			r.becomeStreaming()
			s.l.buffers.put(r.reply)
			r.reply = nil
			break
		}
		s.queue.pop()
		s.l.free(r)
	}
	s.writePushes()
	if s.ending {
		s.l.markDirty(s) // this may have been the last, and without a byte
	}
	if s.paused && s.queue.n <= s.l.opt.MaxInFlight/2 && (s.queue.n == 0 || !s.alone) {
		s.wantResume()
	}
}

// check is the session's part of a tick.
func (s *session) check() {
	if s.gone {
		return
	}
	if !s.endsBy.IsZero() && s.finish() {
		return
	}
	s.checkOutput()
	if s.gone {
		return
	}
	if s.paused {
		s.wantResume()
	}
	if s.idle() {
		s.kill("idle timeout")
	}
}

// reply begins a reply in the client's protocol version, for answer to take.
func (s *session) reply() *resp.Writer { return &resp.Writer{Proto: s.proto} }
