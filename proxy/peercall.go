package proxy

import (
	"bytes"
	"context"

	"keyferry/internal/resp"
)

// PeerCall is the name of the command by which gateways ask each other what no client can: its arguments
// are a method and what that is about. It is a command of peer sessions alone; to others it is unknown.
const PeerCall = "KEYFERRYCALL"

// PeerCalls carries out a method for a peer. release, if there is one, is called when the peer's
// connection has ended: so a peer can have something held, and lets go of it also by dying.
type PeerCalls func(ctx context.Context, method string, body []byte) (reply []byte, release func(), err error)

// isPeerCall recognizes a command that is not in the table of commands.
func (c *call) isPeerCall() bool {
	return c.s.modes.peer && c.s.modes.authed && len(c.args) == 3 && bytes.EqualFold(c.args[0], []byte(PeerCall)) && c.s.l.srv.opt.Peers.Calls != nil
}

// peerCall runs it off the loop. The session's next commands wait for the reply: it is all that is said
// on its connection.
func (c *call) peerCall() {
	s := c.s
	l := s.l
	// Copied: they lie in the client's input, which the next read overwrites.
	method, body := string(c.args[1]), bytes.Clone(c.args[2])
	r := c.begin()
	r.span.Begun = 0 // it is no command that is counted
	s.hold = r
	l.srv.life.wg.Go(func() {
		reply, release, err := l.srv.opt.Peers.Calls(l.srv.life.ctx, method, body)
		l.post(func() {
			// Off the loop, since letting go may wait for whatever was held up. A peer that has gone
			// meanwhile, or that hears of an error, holds nothing.
			switch {
			case release == nil:
			case s.life == lifeGone || err != nil:
				l.srv.life.wg.Go(release)
			default:
				s.who.onGone = append(s.who.onGone, release)
			}
			if err != nil {
				r.finish(resp.AppendErr(nil, "ERR "+err.Error()))
				return
			}
			w := s.reply()
			w.Bulk(reply)
			r.finish(w.B)
		})
	})
}

// releaseAll lets go of what the peer had held.
func (s *session) releaseAll() {
	for _, release := range s.who.onGone {
		s.l.srv.life.wg.Go(release)
	}
	s.who.onGone = nil
}
