package proxy

import (
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/transport"
	"keyferry/internal/upstream"
	"keyferry/proxy/stats"
)

// session is one client connection. An idle one holds no buffer.
//
// Who touches it: the goroutine of its loop only. Another goroutine, or another loop, reaches
// it by loop.post, and finds it gone perhaps; code that runs on the loop can find it gone
// after every write to the client, since that may show that the connection has ended.
//
// Lifetime: from accept until teardown. Requests that are under way at a server then outlive
// it: they see lifeGone, and drop their replies.
//
// Invariant: replies leave in the order of the commands. What can't be written yet stands in
// queue, one request for each command or answer, and only the first of them may write.
//
// An example, of four commands that were sent at once to two servers, the first of which is
// slow:
//
//	queue   GET a       GET b         PING        GET c
//	        flying      done, early   done        flying
//	        └─ the first: when its reply comes it is written, and then, by advance,
//	           those of GET b and PING behind it; GET c then is the first
type session struct {
	l    *loop
	conn transport.Conn // nil once gone: the descriptor may be somebody else's
	life sessionLife

	who   identity
	modes modes
	proto int // RESP version: 2 or 3
	db    int

	input input
	queue requestRing
	out   output

	hold      *request       // its reply decides how the client goes on: what follows waits
	lastPipe  *upstream.Pipe // where its last command went; while that can't keep up, the client waits
	lastWrite *upstream.Pipe // where its last write went, for WAIT
	lane      int            // of scripts, on which its commands are under way; 0: the others'

	tx       *transaction // since MULTI
	watch    *watch
	subs     *subscriptions
	nsubs    int // channels and patterns
	saying   int // PUBLISHes in queue; then there is nothing else in it
	tracking *tracking
}

// sessionLife is how far a session is towards its end. It only grows.
type sessionLife uint8

const (
	lifeOpen sessionLife = iota
	// lifeHalfClosed: the client sends no more, and is closed when all that it sent is answered.
	lifeHalfClosed
	// lifeEnding: after QUIT, an error of the protocol, or by order of the operator. No more is
	// parsed, and it is closed when the commands that were are answered.
	lifeEnding
	// lifeGone: no more reads, writes or parsing.
	lifeGone
)

// becomeHalfClosed and becomeEnding never take a session back: whatever ends it more stays in
// force.
func (s *session) becomeHalfClosed() { s.life = max(s.life, lifeHalfClosed) }

func (s *session) becomeEnding() { s.life = max(s.life, lifeEnding) }

// becomeGone is for teardown only.
func (s *session) becomeGone() { s.life, s.conn = lifeGone, nil }

// identity is what CLIENT LIST says of who the client is. Nothing is decided by it but whom
// CLIENT KILL means, and when an idle client is closed.
type identity struct {
	id       int64
	addr     string
	name     string
	libName  string
	libVer   string
	since    time.Time
	active   time.Time // when it last sent something or was sent something
	commands int64
	lastCmd  *resp.Command
	onGone   []func() // of a peer: what it has had held, and is let go when it has gone
}

// modes are what the client has asked to be treated like. RESET clears them.
type modes struct {
	authed   bool
	peer     bool // it is another gateway; for good
	refusing bool // of a peer: see peerResume
	noEvict  bool
	noTouch  bool
	monitor  bool
	quiet    quiet // CLIENT REPLY
}

// accept begins a session. A client needs no AUTH where there is no password; if one is set
// later, those that are connected stay in, as with Redis.
func (l *loop) accept(c transport.Conn, peer bool) {
	l.clock()
	s := &session{l: l, conn: c, proto: 2, modes: modes{peer: peer},
		who: identity{id: l.srv.clients.nextID.Add(1), addr: c.RemoteAddr().String(), since: l.now, active: l.now}}
	s.modes.authed = s.password() == ""
	c.SetOwner(s)
	l.clients.all[s] = struct{}{}
	l.rec.N[stats.Connections]++
}

// password is what the client has to know.
func (s *session) password() string {
	if s.modes.peer {
		return s.l.opt.Peers.Secret
	}
	return s.l.opt.Password
}

// scanner gives out a scanner. A client that has not authenticated gets small limits, as
// in Redis.
//
// Scanners are shared because an idle client, of which there are many, needs none. Those
// limits keep somebody who has no password from making the gateway allocate.
func (l *loop) scanner(authed bool) *resp.RequestScanner {
	var sc *resp.RequestScanner
	if n := len(l.spares.scanners); n > 0 {
		sc = l.spares.scanners[n-1]
		l.spares.scanners = l.spares.scanners[:n-1]
	} else {
		sc = &resp.RequestScanner{}
	}
	sc.MaxBulk, sc.MaxArgs = l.opt.MaxBulk, resp.DefaultMaxArgs
	if !authed {
		sc.MaxBulk, sc.MaxArgs = resp.UnauthMaxBulk, resp.UnauthMaxArgs
	}
	return sc
}

// putScanner: a bound, since a burst of clients would else leave its scanners here for ever.
func (l *loop) putScanner(sc *resp.RequestScanner) {
	sc.Reset()
	if len(l.spares.scanners) < 64 {
		l.spares.scanners = append(l.spares.scanners, sc)
	}
}

// pendingOut is the number of bytes of replies that the client has not taken.
//
// The transport's share is what the client's socket has not taken. It is not what the client
// has not read: the kernel's buffers are not ours to count.
func (s *session) pendingOut() int {
	n := len(s.out.buf) + s.out.held
	if s.conn != nil {
		n += s.conn.Buffered()
	}
	return n
}

// enqueueReply gives a reply its place behind those of the commands before it.
//
// With nothing in front it is written at once and costs no request. Else it becomes a request
// that is complete from the start and waits for its turn.
func (s *session) enqueueReply(reply []byte) {
	if s.queue.n == 0 {
		s.write(reply)
		if s.life == lifeEnding {
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
//
// It goes on until it finds a request that is not complete. Of one whose reply has begun to
// come, what is there is written, and the request streams from then on: the pieces that follow
// go straight to the client (request.take).
//
// When enough has been answered, a client that was held up goes on: at half of the bound, so
// that it does not stop and go with every reply, and at none at all if its next command has to
// be alone.
func (s *session) advance() {
	for {
		r := s.queue.front()
		if r == nil || r.reply == nil && r.state != requestDone {
			break
		}
		if r.early.size > 0 {
			s.writeEarly(r)
		} else {
			s.out.held -= len(r.reply)
			s.write(r.reply)
		}
		if s.life == lifeGone {
			return
		}
		if r.state != requestDone {
			r.becomeStreaming()
			s.l.spares.buffers.put(r.reply)
			r.reply = nil
			break
		}
		s.queue.pop()
		s.l.free(r)
	}
	s.writePushes()
	if s.life == lifeEnding {
		s.l.markDirty(s) // this may have been the last, and without a byte
	}
	if s.isHeld() && s.queue.n <= s.l.opt.MaxInFlight/2 && (s.queue.n == 0 || !s.input.alone) {
		s.wantResume()
	}
}

// check is the session's part of a tick.
//
// Held-up clients are resumed here as well, because a server connection that has caught up
// tells nobody: what it had unsent may have gone out without a reply having come.
func (s *session) check() {
	if s.life == lifeGone {
		return
	}
	if !s.out.endsBy.IsZero() && s.finish() {
		return
	}
	s.checkOutput()
	if s.life == lifeGone {
		return
	}
	if s.isHeld() {
		s.wantResume()
	}
	if s.idle() {
		s.kill("idle timeout")
	}
}

// reply begins a reply in the client's protocol version, for answer to take.
func (s *session) reply() *resp.Writer { return &resp.Writer{Proto: s.proto} }
