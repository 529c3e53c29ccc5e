package proxy

import (
	"bytes"

	"keyferry/internal/resp"
)

// clientUnblock is CLIENT UNBLOCK id [TIMEOUT|ERROR], of a client of any loop.
func (c *call) clientUnblock() {
	s, args := c.s, c.args[2:]
	if len(args) > 2 {
		c.badSubcommand()
		return
	}
	how := unblockedAsTimeout
	if len(args) == 2 {
		switch {
		case bytes.EqualFold(args[1], []byte("error")):
			how = unblockedAsError
		case bytes.EqualFold(args[1], []byte("timeout")):
		default:
			c.reject("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
			return
		}
	}
	id, ok := resp.Integer(args[0])
	if !ok {
		c.reject(notAnInteger)
		return
	}
	srv := s.l.srv
	// What the client sends next must find it done.
	s.hold = c.async(func() []byte {
		done := false
		for _, l := range srv.allLoops() {
			_ = l.call(srv.life.ctx, func() { done = done || l.unblockClient(id, how) })
		}
		if done {
			return []byte(":1\r\n")
		}
		return []byte(":0\r\n")
	})
}

// unblockClient: a client of another loop is asked for there, one loop after the other, by the goroutine that
// answers.
func (l *loop) unblockClient(id int64, how unblocked) bool {
	for x := range l.waiters.blocked {
		if x.r.s.who.id == id && x.r.s.life < lifeGone {
			x.unblocked = how
			if x.spot != nil {
				l.srv.waits.lines.Leaving(x.spot)
			}
			if x.on != nil {
				l.unblock(x)
			} else if x.stands() {
				x.expire(x.r)
			} else if x.r.isParked() { // it waits for keys that are being moved, at no server
				// Out of the queues first: who stands behind it may run.
				l.unpark(x.r)
				x.expire(x.r)
			}
			return true
		}
	}
	for x := range l.waiters.pops {
		if x.r.s.who.id == id && x.blocks() {
			x.unblock(how)
			return true
		}
	}
	return false
}
