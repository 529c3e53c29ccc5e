package proxy

import (
	"fmt"
	"time"

	"keyferry/internal/resp"
	"keyferry/proxy/stats"
)

// input is what a client has sent and what becomes of it.
//
// Who touches it: the session, on its loop. The transport writes into buf between a call of
// aim and the next of data, and nobody else does meanwhile.
//
// Invariants: buf is nil unless a command is in pieces or the client is held up; what comes
// is otherwise parsed where the transport has put it. While buf has bytes, all that comes is
// behind them. scan is nil unless a frame is in pieces, and then buf[pos:] is its beginning.
type input struct {
	buf  []byte               // not yet parsed; a frame that is not complete, or a held-up client's
	pos  int                  // … from here on
	scan *resp.RequestScanner // while a frame is in pieces

	flow     inputFlow
	alone    bool // the next command has to be alone in the session's queue
	reads    inputReads
	waited   int64     // ns that the commands at hand have waited because the client was held up
	pausedAt time.Time // when it was
	behind   time.Time // since when the next command waits for a line to be in order; zero: it does not
}

// inputFlow is whether the client's next command may run.
//
//	inputFlows ── process: must wait, or a handler declines ─► inputHeld
//	    ▲                                                        │ a reply, a tick, a pause that ends
//	    └──── loop.resume, if it need not wait any more ──── inputResuming
type inputFlow uint8

const (
	inputFlows    inputFlow = iota
	inputHeld               // it waits: see mustWait, and call.serve for commands that wait by themselves
	inputResuming           // … and is on the loop's list of those to try again in this turn
)

// inputReads is what the transport reads of the client.
type inputReads uint8

const (
	readsFreely inputReads = iota
	readsAimed             // the next read goes to buf; see aim
	readsHeld              // nothing: so much waits that the rest is left in the socket
)

// isHeld reports that the client has input that waits.
func (s *session) isHeld() bool { return s.input.flow != inputFlows }

// data takes bytes from the client. b is valid during the call only.
//
// The usual case is short: nothing is kept, b holds whole commands, and they are run where
// they lie. The rest deals with what does not fit:
//
//	aimed       the transport has read straight into input.buf: b is there already
//	in pieces   buf has the beginning of a command: complete that first, copying no more than it needs
//	held        the client has to wait: append, and stop reading when it is much
func (s *session) data(b []byte) {
	if s.life >= lifeEnding {
		return
	}
	s.who.active = s.l.now
	s.l.rec.N[stats.BytesIn] += uint64(len(b))
	// The transport has written behind the bytes that were there, as aim has asked it to.
	if s.input.reads == readsAimed {
		s.input.reads = readsFreely
		s.input.buf = s.input.buf[:len(s.input.buf)+len(b)] // b is there
		b = nil
		s.processOwn()
	}
	b = b[s.completeOwn(b):]
	if len(s.input.buf) == 0 && !s.isHeld() && s.life < lifeGone {
		b = b[s.process(b):]
	}
	if s.life < lifeGone && len(b) > 0 {
		if len(s.input.buf) == 0 {
			s.input.buf = s.l.spares.buffers.get(len(b) + s.ahead(len(b)))
		}
		s.input.buf = s.l.spares.buffers.append(s.input.buf, b)
	}
	if s.life == lifeGone {
		return
	}
	// Only now: what has come decides whether the next read should go to buf, or be held up.
	s.aim()
	s.holdReads()
	if waits := len(s.input.buf) - s.input.pos; waits > s.l.opt.QueryLimit {
		s.closeFor(fmt.Sprintf("%d bytes of input wait, over client-query-buffer-limit", waits))
	}
}

// readAhead is how much input of a client that has to wait is kept, in bytes, before it is
// left in the socket, if the transport can do that. Else the query buffer's limit bounds it.
//
// What a client has in its socket costs the gateway nothing, and stops the client by TCP's own
// means.
const readAhead = 256 << 10

// holdReads stops to read from a client that has to wait and has sent enough.
//
// It is called when input has come and when the client goes on, since either changes the
// answer.
func (s *session) holdReads() {
	switch hold := s.isHeld() && len(s.input.buf)-s.input.pos > readAhead; {
	case hold && s.input.reads != readsHeld:
		s.input.reads = readsHeld
		s.conn.HoldReads(true)
	case !hold && s.input.reads == readsHeld:
		s.input.reads = readsFreely
		s.conn.HoldReads(false)
	}
}

// completeOwn completes the command that the session has kept the beginning of, and says how
// much of b that took: what follows is parsed where it lies, and not copied.
//
// Without this a client that sends in pieces, as every one does whose pipeline is longer than
// a read, would have all of its input copied: the beginning of a command is kept, and all that
// follows would be appended to it. The scanner says how much the argument at hand still needs;
// of a header, which is a few bytes, a little more is taken, and given back if it was too
// much.
func (s *session) completeOwn(b []byte) (took int) {
	for len(s.input.buf) > 0 && took < len(b) && !s.isHeld() && s.life < lifeGone {
		n := pieceMin // of a header, whose end is not known
		if s.input.scan != nil {
			n = max(n, s.input.scan.Need())
		}
		n = min(n, len(b)-took)
		s.input.buf = s.l.spares.buffers.append(s.input.buf, b[took:took+n])
		took += n
		s.processOwn()
		if rest := len(s.input.buf) - s.input.pos; rest <= n && !s.isHeld() && s.life < lifeGone { // all that is left is b's
			took -= rest
			s.forgetInput()
		}
	}
	return took
}

// pieceMin is what a session takes over at least to complete a command.
//
// A header's length is not known before it has come; with less, each of its bytes would be a
// round of the scanner.
const pieceMin = 64

// aim has the transport read the rest of a large argument to where it belongs, and no more.
//
// Else a value of 1 MB would be read in pieces of the loop's read buffer, and copied from
// there. Nothing else may be appended to buf until the read has come, which is why it is asked
// for at the end of data only.
func (s *session) aim() {
	if s.input.scan == nil || s.isHeld() || s.input.pos > 0 || len(s.input.buf) == 0 {
		return
	}
	more := s.ahead(len(s.input.buf))
	if more == 0 {
		return
	}
	if len(s.input.buf) == cap(s.input.buf) {
		s.input.buf = s.l.spares.buffers.grow(s.input.buf, more)
	}
	if s.conn.ReadInto(s.input.buf[len(s.input.buf):min(cap(s.input.buf), len(s.input.buf)+s.input.scan.Need())]) {
		s.input.reads = readsAimed
	}
}

// ahead is for how many bytes of a large argument, of which have are there, memory is got in
// advance: what the client says is to come, but no more than a multiple of what has come.
//
// A client can declare 512 MB and send nothing more. With a multiple of what has come, it has
// to send a quarter of what it makes us allocate, and a large value still takes few steps.
func (s *session) ahead(have int) int {
	if s.input.scan == nil {
		return 0
	}
	need := s.input.scan.Need()
	if need < aimMin {
		return 0
	}
	return min(need, aheadTimes*have)
}

// aheadTimes: with what has come it makes four times, so that a buffer of 1 MB is reached in few steps
// from the 64 KB that one read brings.
const aheadTimes = 3

// aimMin is the least that has to be missing of an argument; less is copied from what else
// one read brings.
const aimMin = 32 << 10

// forgetInput drops what the session has kept, and the scanner that is in the midst of it.
func (s *session) forgetInput() {
	if s.input.scan != nil {
		s.l.putScanner(s.input.scan)
		s.input.scan = nil
	}
	s.l.spares.buffers.put(s.input.buf)
	s.input.buf, s.input.pos = nil, 0
}

// processOwn parses what the session has kept.
//
// loop.spares.input is set meanwhile: so a server connection that is sent the end of this
// buffer can take it over instead of copying it (mayLend). Then the memory is the transport's
// until it has been sent, and the session must forget it. It is restored on the way out
// because a write can fail, which ends other sessions.
func (s *session) processOwn() {
	own, outer := s.input.buf, s.l.spares.input
	s.l.spares.input = own
	s.input.pos += s.process(own[s.input.pos:])
	lent := len(own) > 0 && s.l.spares.input == nil
	s.l.spares.input = outer
	switch {
	case s.life == lifeGone:
	case lent: // its end was, and so all of it has been processed
		s.input.buf, s.input.pos = nil, 0
	case s.input.pos == len(s.input.buf):
		s.l.spares.buffers.put(s.input.buf)
		s.input.buf, s.input.pos = nil, 0
	case s.input.pos > len(s.input.buf)/2:
		// Moved down only when at least half is used up, so that the total of the copies
		// stays linear in what was received.
		n := copy(s.input.buf, s.input.buf[s.input.pos:])
		s.input.buf, s.input.pos = s.input.buf[:n], 0
	}
}

// process runs the commands in b and says how many bytes they took.
//
// It is the one place where commands begin. Before each one it asks whether the client has to
// wait; a command that can't run now is not taken, so that its bytes stay where they are and
// it is parsed again later, from its beginning. Nothing of a command is kept from one try to
// the next.
func (s *session) process(b []byte) int {
	l := s.l
	scan := s.input.scan
	// From here to the end the scanner belongs to this call. A command may end its session, and
	// teardown would put the scanner back into the loop's list while it is still in use here.
	s.input.scan = nil // it is this call's now: leave must not give it away as well
	if scan == nil {
		scan = l.scanner(s.modes.authed)
	}
	c := l.takeCall()
	defer l.putCall(c)
	pos := 0
	for pos < len(b) && s.life < lifeEnding {
		if s.mustWait() {
			s.pause()
			break
		}
		n, st := scan.Scan(b[pos:])
		if st == resp.Again {
			s.input.scan = scan
			return pos
		}
		if st == resp.Invalid {
			s.becomeEnding()
			text := resp.AppendErr(nil, scan.ErrText())
			l.rec.CountAnswer(nil, text)
			s.enqueueReply(text)
			pos = len(b)
			break
		}
		if args := scan.Args(); len(args) > 0 {
			*c = call{s: s, args: args, frame: b[pos : pos+n], inline: scan.Inline()}
			if !c.serve() {
				s.input.alone = true
				s.pause()
				break
			}
			if s.modes.authed && scan.MaxArgs == resp.UnauthMaxArgs {
				scan.MaxBulk, scan.MaxArgs = l.opt.MaxBulk, resp.DefaultMaxArgs
			}
		}
		pos += n
	}
	// After QUIT or an error of the protocol the rest is dropped, as by Redis.
	if s.life == lifeEnding {
		pos = len(b)
	}
	l.putScanner(scan)
	return pos
}

// mustWait reports whether the client's next command has to wait: for its own replies, or for
// a server that can't keep up. It never waits for the client to read: many send all that they
// have to say before they do, and how much one may leave unread is limited elsewhere.
//
// This is the back-pressure of the gateway, before any limit closes a client: what is not
// parsed waits as bytes, first here and then in the client's socket. The bounds, one after the
// other:
//
//   - hold: the next commands depend on how the one at hand ends, as after WATCH or EXEC. Behind a
//     SUBSCRIBE those that do are found when they have been parsed (call.serve)
//
//   - MaxInFlight: commands without an answer, each of which costs a request
//
//   - heldMax: bytes of replies that came before their turn. A slow server would make them
//     grow without end
//
//   - alone: the next command has said that it must run when the queue is empty
//
//   - PipeBytes: the server that the client uses can't keep up
func (s *session) mustWait() bool {
	if s.hold != nil && !s.hold.subscribes() || s.queue.n >= s.l.opt.MaxInFlight || s.out.held > heldMax || s.input.alone && s.queue.n > 0 {
		return true
	}
	s.input.alone = false
	return s.lastPipe != nil && s.lastPipe.Pending() > s.l.opt.PipeBytes
}

// wantResume puts a waiting session on the loop's list.
//
// Resuming happens in turn, and not here: this is called from within replies, and the commands
// that follow would nest in them.
func (s *session) wantResume() {
	if s.input.flow == inputHeld && s.life < lifeGone {
		s.input.flow = inputResuming
		s.l.clients.resumable = append(s.l.clients.resumable, s)
		s.l.arm()
	}
}

// pause lets what the client has sent wait.
func (s *session) pause() { s.input.flow, s.input.pausedAt = inputHeld, s.l.now }

// resume: how long the commands now at hand have waited is kept for the slow log: they are parsed
// after this, so their own time does not show it.
func (s *session) resume() {
	if s.input.flow == inputResuming {
		s.input.flow = inputHeld
	}
	if s.life == lifeGone || !s.isHeld() || s.mustWait() {
		return
	}
	s.input.flow = inputFlows
	s.input.waited = int64(s.l.now.Sub(s.input.pausedAt))
	s.processOwn()
	s.input.waited = 0
	if s.life == lifeGone {
		return
	}
	s.holdReads()
	if s.life == lifeHalfClosed {
		s.l.markDirty(s) // it may have been the last
	}
}
