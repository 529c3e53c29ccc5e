package proxy

import (
	"go.uber.org/zap"

	"keyferry/internal/resp"
	"keyferry/proxy/stats"
	"keyferry/slotlock"
)

// closeFor ends a client that went over a limit, and says so in the log.
//
// The operator can tell from the log which limit it was, and the metrics count them; the
// client sees its connection end, as with Redis.
func (s *session) closeFor(reason string) {
	s.l.srv.log.Warn("client closed", zap.Int64("client", s.who.id), zap.String("addr", s.who.addr), zap.String("reason", reason))
	s.l.rec.N[stats.LimitCloses]++
	s.kill("")
}

// endCrossProtocol ends a client that speaks HTTP, as a web page can make a browser do. What it
// has sent behind the line is dropped: it may be a command.
func (s *session) endCrossProtocol() {
	s.l.srv.clients.crossProtocol.Do(func() {
		s.l.srv.log.Warn(resp.CrossProtocolText, zap.Int64("client", s.who.id), zap.String("addr", s.who.addr))
	})
	s.becomeEnding()
	s.l.markDirty(s) // there may be no reply that does it
}

// kill closes the connection. What is in flight goes on; its replies are dropped.
//
// A command that a server has executes there, whoever has gone: only the reply is dropped.
func (s *session) kill(reason string) {
	if s.life == lifeGone {
		return
	}
	if reason != "" {
		s.l.srv.log.Info("client closed", zap.Int64("client", s.who.id), zap.String("addr", s.who.addr), zap.String("reason", reason))
	}
	c := s.conn
	s.teardown()
	c.Close()
}

// ended is told that the client sends no more. It still gets its replies: true says that
// there are any.
//
// One that blocks is closed at once, as by Redis: it can't be told from one that has gone.
func (s *session) ended() bool {
	if s.life == lifeGone || s.blocks() || s.queue.n+s.pendingOut() == 0 && !s.isHeld() {
		return false
	}
	s.becomeHalfClosed()
	s.l.markDirty(s)
	return true
}

// teardown takes the session out of everything that could still use it.
//
// It can be called from within almost anything, since any write can show that the connection
// has ended; and it calls into parking, hub and waitlists itself. So the session is gone
// first, for all who look, and what can run other clients' commands comes last: all parked
// commands of this one are withdrawn before anybody goes on. When the first let those behind
// it go, a later command of this client could have been executed and an earlier one not.
//
// What is at a server stays there, and comes back to a request whose session has gone.
func (s *session) teardown() {
	s.becomeGone()
	l := s.l
	delete(l.clients.all, s)
	if !s.modes.peer {
		l.srv.clients.open.Add(-1)
	}
	if s.input.scan != nil {
		l.putScanner(s.input.scan)
	}
	// s.input.buf is left to the collector: the command at hand may have its arguments there, and
	// the transport may know it (see aim).
	// What was not written yet is nobody's any more.
	l.spares.buffers.put(s.out.buf)
	s.out.early.forget(l)
	s.input.buf, s.out.buf, s.input.scan, s.out.pushes, s.tx = nil, nil, nil, nil, nil
	s.unsubscribeAll()
	s.stopTracking()
	s.stopMonitor()
	s.releaseAll()
	var behind []slotlock.Key // that others wait for, once none of this client's does
	for s.queue.n > 0 {
		r := s.queue.pop()
		switch {
		case r.state == requestDone:
			l.free(r)
		case r.forget():
			if r.op != nil {
				r.op.dropped(r)
			}
			l.free(r)
		case r.isParked():
			if r.op != nil {
				r.op.dropped(r)
			}
			behind = append(behind, l.parking.Withdraw(&r.motion.Command)...)
			l.free(r)
		// A client that waits in the gateway or blocks at a server: nobody else would end that.
		case r.op != nil:
			behind = append(behind, r.op.abandon(r)...)
		}
		// Others are on a pipe, in a gather or with a goroutine, and freed by these.
	}
	// Else the reply to the WATCH is still to come on it: an UNWATCH now would end before the
	// WATCH begins.
	if s.watch != nil && !s.watch.asked {
		s.unwatch()
	}
	l.parking.Resume(behind)
}

// waits is for how long the client may have to wait.
func (s *session) waits() wait {
	if s.hold == nil || s.hold.op == nil {
		return waitsForReply
	}
	return s.hold.op.waits()
}

// blocks reports that the client waits for something that may never come.
func (s *session) blocks() bool { return s.waits() != waitsForReply }

// asks reports that the client waits for something that it may just have been given.
func (s *session) asks() bool { return s.waits() == takesData }
