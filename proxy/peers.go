package proxy

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/resp"
	"keyferry/internal/transport"
	"keyferry/internal/upstream"
	"keyferry/proxy/stats"
	"keyferry/router"
	"keyferry/slotlock"
)

// Peers are the other gateways of the cluster. Commands on slots that one of them moves are sent to it,
// over its peers' listener, as they would be to a server: it has the lock table, and decides for
// each key. There it is a session like a client's, but for what is said here.
//
//	client ─► session ─► Route: Via is a peer ─► detour ─► pipe ═► peer session ─► lock table ─► server
//	                          ▲                    │
//	                          └── not mine, by epoch n: nothing was executed ◄──┘
//
// A command is passed on once: a peer session never sends to a peer. Who gets to know by that, or by a
// connection that can't be made, that the owner is another one by now, asks its own table
// again, when that has changed or a moment later, until the lock deadline.

// elsewhere is the first word of the error by which a gateway refuses a peer's command on a slot that
// it does not move. The epoch that it goes by follows.
const elsewhere = "KEYFERRYEPOCH"

// errPeerDeadline: nothing was executed.
var errPeerDeadline = errors.New("the gateway that moves the key's slot did not take the command in time")

// peers are the requests of a loop that are to be sent again.
//
// Who touches it: the loop's goroutine.
type peers struct {
	resuming map[*upstream.Pipe]bool // peerResume is under way; see resumePeer
	waiting  []*request              // in the order in which they came back
}

// detour is what a request needs to be sent again after it went to a peer in vain.
//
// Lifetime: from the first time that the request is sent to a peer until its end.
type detour struct {
	db, slot int
	keys     []slotlock.Key
	frame    []byte
	until    time.Time // then it is given up
	waiting  bool      // it is among servers.peers
	piece    []byte    // of an error reply, until the rest has come
}

// elsewhereError refuses a peer's command. Nothing was executed.
func (l *loop) elsewhereError() []byte {
	return resp.AppendErr(nil, elsewhere+" "+strconv.FormatUint(l.table.Epoch, 10))
}

// isElsewhere recognizes it.
func isElsewhere(b []byte) bool { return bytes.HasPrefix(b, []byte("-"+elsewhere+" ")) }

// sendByPeer sends a request on a slot that a peer moves. The frame is copied, since it may have to be
// sent again.
func (l *loop) sendByPeer(r *request, db, slot int, keys []slotlock.Key, frame []byte) {
	if r.s.modes.peer {
		r.s.modes.refusing = true
		r.giveBack(l.elsewhereError())
		return
	}
	if r.detour == nil {
		r.detour = &detour{until: l.now.Add(l.opt.LockDeadline + l.opt.Peers.Patience)}
	}
	d := r.detour
	// What is sent again is the detour's own copy, and is not copied once more.
	d.db, d.slot, d.keys = db, slot, keys
	if len(d.frame) == 0 || &d.frame[0] != &frame[0] {
		d.frame = bytes.Clone(frame)
	}
	// What an operation has sent can't be taken back, so it waits before that.
	if r.op != nil && !l.peerIsUp(l.table.Slots[slot].Via) && l.now.Before(d.until) {
		l.wait(r)
		return
	}
	r.sendTo(l, l.table.Slots[slot].Via, d.frame)
}

// giveBack answers a request that was not sent.
func (r *request) giveBack(reply []byte) {
	if r.op != nil {
		r.op.dropped(r)
	}
	r.finish(reply)
}

// atPeer reports that the request was last handed to a connection to a peer.
func (r *request) atPeer() bool { return r.pipe != nil && isPeerID(r.pipe.Group) }

func isPeerID(upstream string) bool { _, ok := router.PeerOf(upstream); return ok }

// refusedByPeer deals with a reply that says that the peer does not move the slot; false: it is none of
// these. A plain command is sent again; an operation is told, and so is its client, that nothing was
// executed.
func (r *request) refusedByPeer(b []byte, last bool) (over bool, reply []byte) {
	if !r.untouched() || !r.atPeer() {
		return false, b
	}
	// An error that ends beyond what was read at once comes in pieces, and is whole with the last one.
	if d := r.detour; len(d.piece) > 0 || len(b) > 0 && b[0] == '-' {
		if !last {
			d.piece = append(d.piece, b...)
			return true, nil
		}
		if len(d.piece) > 0 {
			b, d.piece = append(d.piece, b...), nil
		}
	}
	if !last || !isElsewhere(b) {
		return false, b
	}
	r.s.l.resumePeer(r.pipe)
	if r.comesBack() {
		return true, nil
	}
	return false, upstreamError(r, errPeerDeadline)
}

// A gateway that has refused a command may learn a moment later that the slot is its own, and would execute
// what was sent behind the one that it has refused, which comes again after that. So a peer's session
// refuses everything on slots from then on, until the sender, who has heard of it, says that what
// follows was sent, or is sent again, in order.
//
//	sender   GET 1  GET 2  GET 3        ── hears of 1 ──► peerResume  GET 1  GET 2  GET 3
//	session  refused, and so 2 and 3, whatever the table says by then  ok ┘
const peerResume = "KEYFERRYRESUME"

var peerResumeFrame = resp.AppendRequest(nil, []byte(peerResume))

// isPeerResume recognizes it; it is a command of peer sessions alone.
func (c *call) isPeerResume() bool {
	return c.s.modes.peer && c.s.modes.authed && len(c.args) == 1 && bytes.EqualFold(c.args[0], []byte(peerResume))
}

func (c *call) peerResume() {
	c.s.modes.refusing = false
	c.s.enqueueReply(okReply)
}

// resumePeer says so to the session at the other end of a connection, once for what it had refused by
// then: refusals of what was sent before come before the answer.
func (l *loop) resumePeer(p *upstream.Pipe) {
	if l.servers.peers.resuming[p] {
		return
	}
	if l.servers.peers.resuming == nil {
		l.servers.peers.resuming = make(map[*upstream.Pipe]bool)
	}
	l.servers.peers.resuming[p] = true
	p.Send(&resuming{l, p}, peerResumeFrame)
}

// resuming is one peerResume under way.
type resuming struct {
	l *loop
	p *upstream.Pipe
}

// Reply implements upstream.Call.
func (x *resuming) Reply(_ []byte, last bool) {
	if last {
		delete(x.l.servers.peers.resuming, x.p)
	}
}

// Fail implements upstream.Call. The session has gone with its connection.
func (x *resuming) Fail(error, bool) { delete(x.l.servers.peers.resuming, x.p) }

// comesBack takes a request that a peer has refused, or that could not be sent to it, and has it wait
// for another try; false: it is too late for that, or it is more than a plain command.
func (r *request) comesBack() bool {
	l, d := r.s.l, r.detour
	if d == nil || r.op != nil || !r.atPeer() || !l.now.Before(d.until) || r.s.life == lifeGone {
		return false
	}
	// Not at once: a connection that can't be made is refused within the call, and a peer that is behind
	// would be asked again and again.
	r.becomeWaiting()
	d.piece = nil
	l.wait(r)
	return true
}

// repeatable reports that a request which a peer may have executed can be sent again as if it had not
// been. A read can, unless its client has sent a write to one of its keys behind it, which may be
// executed by then.
func (r *request) repeatable() bool {
	if r.cmd == nil || r.cmd.Flags&resp.Readonly == 0 {
		return false
	}
	first := r
	if r.g != nil {
		first = r.g.r
	}
	q, behind := &r.s.queue, false
	for i := range q.n {
		x := q.buf[(q.head+i)&(len(q.buf)-1)]
		if behind && x.mayWrite(r.detour.keys) {
			return false
		}
		behind = behind || x == first
	}
	return behind
}

// mayWrite reports that a request behind one that has gone by a peer may write one of its keys. What goes
// another way is on other slots: a client's requests do not go by two ways at a time.
func (r *request) mayWrite(keys []slotlock.Key) bool {
	switch {
	case r.cmd == nil || r.cmd.Flags&resp.Readonly != 0:
		return false
	case r.op != nil || r.detour == nil && r.state == requestWaits: // in parts, for one
		return true
	}
	return r.detour != nil && meet(r.detour.keys, keys)
}

func meet(a, b []slotlock.Key) bool {
	return slices.ContainsFunc(a, func(k slotlock.Key) bool { return slices.Contains(b, k) })
}

// wait puts a request aside, to be sent when the table has changed or a moment later. What its client sends
// from now on waits until it has its reply: it could be executed before.
func (l *loop) wait(r *request) {
	r.detour.waiting = true
	r.s.input.alone = true
	l.servers.peers.waiting = append(l.servers.peers.waiting, r)
	l.turns.wantTick.Store(true)
}

// peerIsUp reports that there is a connection to a peer; if there is none, it has one made.
func (l *loop) peerIsUp(via int16) bool {
	p := l.pipe(via, 0, 2)
	if p.State() != upstream.Up {
		p.Send(ignored{}, pingFrame)
	}
	return p.State() == upstream.Up
}

// sendAgain tries those that have come back by the present table. It is run when that has changed, and
// by the tick. True: some wait on.
func (l *loop) sendAgain() (again bool) {
	// Taken first: one that has to wait on comes back to the list, and not into this round.
	list := l.servers.peers.waiting
	l.servers.peers.waiting = nil
	for _, r := range list {
		d := r.detour
		if d == nil || !d.waiting { // its client has left
			continue
		}
		// What was sent behind it may be on its way back, and has to come behind it again.
		if l.servers.peers.resuming[r.pipe] {
			l.servers.peers.waiting = append(l.servers.peers.waiting, r)
			continue
		}
		d.waiting = false
		if !l.now.Before(d.until) {
			l.rec.N[stats.TryAgain]++
			r.Fail(errPeerDeadline, false)
			continue
		}
		l.place(r, d.db, d.slot, d.keys, d.frame)
	}
	return len(l.servers.peers.waiting) > 0
}

// forget takes a request whose client leaves out of those that wait for another try; false: it is not
// one of them.
func (r *request) forget() bool {
	if r.detour == nil || !r.detour.waiting {
		return false
	}
	r.detour.waiting = false
	l := r.s.l
	for i, w := range l.servers.peers.waiting {
		if w == r {
			l.servers.peers.waiting = append(l.servers.peers.waiting[:i:i], l.servers.peers.waiting[i+1:]...)
			break
		}
	}
	return true
}

// settleSessions keeps a client's commands in order when some slots' commands begin to go by a peer,
// or no longer do: what it has sent by the one way is answered before anything goes by the other,
// where it could be executed first. Of a client that has nothing under way nothing is asked.
func (l *loop) settleSessions(old, t *router.Table) {
	if old == nil || len(old.Peers)+len(t.Peers) == 0 || !anyByOtherPeer(old, t) {
		return
	}
	for s := range l.clients.all {
		if s.queue.n > 0 {
			s.input.alone = true
		}
	}
}

func anyByOtherPeer(old, t *router.Table) bool {
	for slot := range t.Slots {
		if byPeer(old, slot) != byPeer(t, slot) {
			return true
		}
	}
	return false
}

// byPeer is the peer by which commands on a slot go; "" if they don't.
func byPeer(t *router.Table, slot int) string {
	if via := t.Slots[slot].Via; t.IsPeer(via) {
		return t.Upstream(via).ID
	}
	return ""
}

// heardOf are the groups whose servers may have something to say of what an upstream has executed.
func (l *loop) heardOf(upstream string) []string {
	i := l.table.UpstreamOf(upstream)
	if i < 0 || l.table.Upstream(i).Peer == nil {
		return []string{upstream}
	}
	var ids []string
	for _, g := range l.table.Upstream(i).Peer.Ends {
		ids = append(ids, l.table.Groups[g].ID)
	}
	return ids
}

// peerArrival is the owner of a connection that the peers' listener has accepted, until it has a
// session.
type peerArrival struct{}

// listenForPeers accepts connections of other gateways until the server ends.
func (s *Server) listenForPeers(eng transport.Engine) error {
	if s.opt.Peers.Listen == "" {
		return nil
	}
	ln, err := net.Listen("tcp", s.opt.Peers.Listen)
	if err != nil {
		return err
	}
	context.AfterFunc(s.life.ctx, func() { _ = ln.Close() })
	s.life.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			switch {
			case err == nil:
				s.dials.do(func(context.Context) { _ = eng.Adopt(nc, peerArrival{}) })
			case errors.Is(err, net.ErrClosed):
				return
			default: // out of descriptors, most likely
				s.log.Warn("a peer's connection could not be accepted", zap.Error(err))
				select {
				case <-s.life.ctx.Done():
				case <-time.After(50 * time.Millisecond):
				}
			}
		}
	})
	return nil
}
