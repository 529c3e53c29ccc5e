package proxy

import (
	"fmt"

	"keyferry/internal/resp"
	"keyferry/internal/upstream"
	"keyferry/router"
)

// command runs one request. args and frame alias the input and are valid during the call
// only; an inline frame is not in the form that servers are sent. False: it has to be
// given again when the commands in front of it have been answered.
func (s *session) command(args [][]byte, frame []byte, inline bool) (taken bool) {
	l := s.l
	cmd, bad := resp.Resolve(args)
	if bad != "" {
		if s.tx != nil {
			s.tx.broken = true
		}
		s.commands++
		l.n.total++
		if s.quiet != quietNot {
			s.mute(nil)
			defer s.unmute()
		}
		if text, yes := unknownButRefused(args[0]); yes {
			bad = text
		}
		s.rejectCommand(args, bad)
		if s.tracking != nil {
			s.endCaching(nil)
		}
		return true
	}
	if s.quiet != quietNot {
		s.mute(cmd)
	}
	s.lastCmd = cmd
	l.t.executing, l.t.frame = cmd, frame
	switch {
	case !s.authed && cmd.Flags&resp.NoAuth == 0:
		s.rejectCommand(args, "NOAUTH Authentication required.")
	case l.pause != pauseNone && s.postponed(cmd):
		l.t.executing, l.t.frame = nil, nil
		return false
	case s.tx != nil && !endsTransaction(cmd):
		s.enqueue(cmd, args, frame, inline)
	case s.nsubs > 0 && s.proto == 2 && !allowedSubscribed(cmd):
		s.rejectCommand(args, "ERR Can't execute '"+cmd.Name+"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
	case s.monitor && s.noKeyspace(cmd):
		s.rejectCommand(args, noKeyspaceText)
	default:
		tx := s.tx
		l.t.refused = false
		if !s.run(cmd, args, frame, inline) {
			l.t.executing, l.t.frame = nil, nil
			return false
		}
		if len(l.monitorsAt) > 0 && !l.t.refused && !s.gone {
			if cmd.Name == "exec" && tx != nil && !tx.broken {
				l.showExecuted(s, tx)
			}
			l.show(cmd, s, args)
		}
	}
	l.t.executing, l.t.frame = nil, nil
	s.commands++
	l.n.total++
	if s.tracking != nil {
		s.endCaching(cmd)
	}
	if s.quiet != quietNot {
		s.unmute()
	}
	return true
}

// run is command for one that is allowed now.
func (s *session) run(cmd *resp.Command, args [][]byte, frame []byte, inline bool) (taken bool) {
	l := s.l
	var keys []int
	if cmd.Serve != resp.Local && cmd.Serve != resp.Refused {
		var err error
		if keys, err = cmd.AppendKeys(l.keyIndex[:0], args); err != nil {
			// No server would execute it, and a server knows best how to say so.
			return s.elsewhere(router.Any, cmd, args, nil)
		}
		l.keyIndex = keys
		if (cmd == copyCommand || cmd == moveCommand) && l.outside(cmd, args) {
			s.rejectCommand(args, outsideText)
			return true
		}
		if s.tracking != nil && len(keys) > 0 {
			s.trackCommand(cmd, args, keys)
		}
	}
	if len(keys) > 0 {
		if l.heat.left--; l.heat.left <= 0 {
			l.sample(s.db, cmd, args, keys)
		}
	}
	outcome, slot := l.table.Route(cmd, args, keys)
	if inline {
		l.scratch = resp.AppendRequest(l.scratch[:0], args...)
		frame = l.scratch
		l.t.frame = frame
	}
	switch outcome {
	case router.Serve:
		r := l.begin(s, cmd)
		p := l.pipe(l.table.Slots[slot].Owner, s.db, s.proto)
		s.lastPipe = p
		if cmd.Flags&resp.Write != 0 && l.srv.awaited.n.Load() > 0 {
			r.op = l.srv.awaited.waker(s.db, args, keys)
		}
		l.send(r, p, frame)
	case router.Resolve:
		r := l.begin(s, cmd)
		if cmd.Flags&resp.Write != 0 && l.srv.awaited.n.Load() > 0 {
			r.op = l.srv.awaited.waker(s.db, args, keys)
		}
		m := l.newMotion(slot, s.db)
		m.keys = appendKeys(nil, s.db, cmd, args, keys)
		l.move(r, m, frame)
	case router.Split:
		l.split(s, cmd, args, keys)
	case router.TakeFirst:
		return s.takeFirst(cmd, args, keys)
	case router.CrossSlot:
		l.n.crossSlot++
		s.rejectCommand(args, crossSlotText)
	case router.Unserved:
		s.rejectCommand(args, unservedText(slot))
	default:
		return s.elsewhere(outcome, cmd, args, keys)
	}
	return true
}

// elsewhere runs the commands about which more decides than a slot.
func (s *session) elsewhere(outcome router.Outcome, cmd *resp.Command, args [][]byte, keys []int) (taken bool) {
	l := s.l
	switch outcome {
	case router.Local:
		return s.local(cmd, args)
	case router.Transact:
		return s.transact(cmd, args, keys)
	case router.Hub:
		return s.channels(cmd, args)
	case router.All:
		return s.everywhere(cmd, args)
	case router.Block:
		if resp.BlocksNow(cmd, args) {
			return s.block(cmd, args, keys)
		}
	case router.Script:
		s.script(cmd, args, keys)
		return true
	case router.Sort:
		s.sort(cmd, args, keys)
		return true
	case router.Any:
	default:
		s.rejectCommand(args, refusalOf(cmd))
		return true
	}
	r := l.begin(s, cmd)
	r.op = plain{}
	frame := resp.AppendRequest(nil, args...)
	if len(keys) == 0 {
		l.anywhere(r, frame)
	} else {
		l.place(r, s.db, l.table.Scheme.Slot(args[keys[0]]), appendKeys(nil, s.db, cmd, args, keys), frame)
	}
	return true
}

// plain is the operation of one command on a shared connection.
type plain struct {
	unnamed bool // it uses keys of its slot that it does not name
}

func (plain) send(l *loop, r *request, group int16, frame []byte) {
	p := l.pipe(group, r.motionDB(), r.s.proto)
	r.s.lastPipe = p
	l.send(r, p, frame)
}

func (plain) reply(*request, []byte, bool) bool { return true }
func (plain) dropped(*request)                  {}

// endsTransaction: commands that are not queued behind MULTI.
func endsTransaction(cmd *resp.Command) bool {
	return cmd.Serve == resp.Transaction && cmd.Name != "unwatch" || cmd.Name == "quit" || cmd.Name == "reset"
}

// allowedSubscribed: what a RESP2 client may ask while it is subscribed.
func allowedSubscribed(cmd *resp.Command) bool {
	switch cmd.Name {
	case "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe", "ping", "quit", "reset":
		return true
	}
	return false
}

func unservedText(slot int) string {
	return fmt.Sprintf("CLUSTERDOWN Hash slot %d is not served by any group", slot)
}

// reject answers an error.
func (s *session) reject(text string) { s.answer(resp.AppendErr(nil, text)) }

// rejectCommand answers an error to a command that is not executed.
func (s *session) rejectCommand(args [][]byte, text string) {
	s.l.t.executing, s.l.t.refused = nil, true
	s.l.countRejected(args)
	s.reject(text)
}

func (l *loop) send(r *request, p *upstream.Pipe, frame []byte) {
	r.flying, r.pipe, r.sent = true, p, l.ns
	if r.cmd.Flags&resp.Write != 0 {
		r.s.lastWrite = p
	}
	p.Send(r, frame)
}
