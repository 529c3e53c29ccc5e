package proxy

import (
	"fmt"

	"keyferry/internal/resp"
	"keyferry/internal/upstream"
	"keyferry/proxy/stats"
	"keyferry/router"
)

// serve runs one command. False: it has to be given again when the commands in front of it
// have been answered.
func (c *call) serve() (taken bool) {
	s := c.s
	l := s.l
	cmd, bad := resp.Resolve(c.args)
	if c.cmd = cmd; cmd != nil {
		s.lastCmd = cmd
	}
	c.muted = s.quiet != quietNot && s.mutes(cmd)
	switch c.admit(bad) {
	case postponed:
		return false
	case denied:
		if s.tx != nil {
			s.tx.broken = true
		}
	case queued:
		c.enqueue()
	case admitted:
		if !c.execute() {
			return false
		}
		if len(l.monitorsAt) > 0 && !c.refused && !s.gone {
			c.show()
		}
	}
	s.commands++
	l.rec.N[stats.Commands]++
	if s.tracking != nil {
		s.endCaching(cmd)
	}
	if s.quiet != quietNot {
		s.quietNext()
	}
	return true
}

// execute runs a command that is admitted.
func (c *call) execute() (taken bool) {
	s, cmd, args := c.s, c.cmd, c.args
	l := s.l
	if cmd.Serve != resp.Local && cmd.Serve != resp.Refused {
		keys, err := cmd.AppendKeys(l.keyIndex[:0], args)
		if err != nil {
			// No server would execute it, and a server knows best how to say so.
			return c.elsewhere(router.Any)
		}
		c.keys, l.keyIndex = keys, keys
		if (cmd == copyCommand || cmd == moveCommand) && l.outside(cmd, args) {
			c.refuse(outsideText)
			return true
		}
		if s.tracking != nil && len(keys) > 0 {
			s.trackCommand(cmd, args, keys)
		}
	}
	if len(c.keys) > 0 {
		if l.rec.Hot.Due() {
			l.sample(s.db, cmd, args, c.keys)
		}
	}
	outcome, slot := l.table.Route(cmd, args, c.keys)
	if c.inline {
		l.scratch = resp.AppendRequest(l.scratch[:0], args...)
		c.frame = l.scratch
	}
	switch outcome {
	case router.Serve:
		r := c.begin()
		p := l.pipe(l.table.Slots[slot].Owner, s.db, s.proto)
		s.lastPipe = p
		if cmd.Flags&resp.Write != 0 && l.srv.awaited.n.Load() > 0 {
			r.op = l.srv.awaited.waker(s.db, args, c.keys)
		}
		l.send(r, p, c.frame)
	case router.Resolve:
		r := c.begin()
		if cmd.Flags&resp.Write != 0 && l.srv.awaited.n.Load() > 0 {
			r.op = l.srv.awaited.waker(s.db, args, c.keys)
		}
		m := l.newMotion(slot, s.db)
		m.Keys = appendKeys(nil, s.db, cmd, args, c.keys)
		l.move(r, m, c.frame)
	case router.Split:
		c.split()
	case router.TakeFirst:
		return c.takeFirst(cmd, args, c.keys)
	case router.CrossSlot:
		l.rec.N[stats.CrossSlot]++
		c.refuse(crossSlotText)
	case router.Unserved:
		c.refuse(unservedText(slot))
	default:
		return c.elsewhere(outcome)
	}
	return true
}

// elsewhere runs the commands about which more decides than a slot.
func (c *call) elsewhere(outcome router.Outcome) (taken bool) {
	s, cmd, args, keys := c.s, c.cmd, c.args, c.keys
	l := s.l
	switch outcome {
	case router.Local:
		return c.local(cmd, args)
	case router.Transact:
		return c.transact(cmd, args, keys)
	case router.Hub:
		return c.channels(cmd, args)
	case router.All:
		return c.everywhere(cmd, args)
	case router.Block:
		if resp.BlocksNow(cmd, args) {
			return c.block(cmd, args, keys)
		}
	case router.Script:
		c.script(cmd, args, keys)
		return true
	case router.Sort:
		c.sort(cmd, args, keys)
		return true
	case router.Any:
	default:
		c.refuse(refusalOf(cmd))
		return true
	}
	r := c.begin()
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

func unservedText(slot int) string {
	return fmt.Sprintf("CLUSTERDOWN Hash slot %d is not served by any group", slot)
}

func (l *loop) send(r *request, p *upstream.Pipe, frame []byte) {
	r.flying, r.pipe, r.span.Sent = true, p, l.ns
	if r.cmd.Flags&resp.Write != 0 {
		r.s.lastWrite = p
	}
	p.Send(r, frame)
}
