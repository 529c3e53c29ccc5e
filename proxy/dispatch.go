package proxy

import (
	"fmt"

	"keyferry/internal/resp"
	"keyferry/proxy/stats"
	"keyferry/router"
)

// serve runs one command. False: it has to be given again when the commands in front of it
// have been answered. Nothing may have changed by then, neither at a server nor in the
// session, because it is parsed again and runs as if for the first time; that is why handlers
// ask for an empty queue before they do anything.
//
// What is said behind every command, taken or refused, comes last: it is counted, and CLIENT
// CACHING and CLIENT REPLY SKIP lose their effect, which is on the one next command, whatever
// becomes of that.
func (c *call) serve() (taken bool) {
	s := c.s
	l := s.l
	cmd, bad := resp.Resolve(c.args)
	if c.cmd = cmd; cmd != nil {
		s.who.lastCmd = cmd
	} else if resp.CrossProtocol(c.args) {
		s.endCrossProtocol()
		return true
	} else if c.isPeerCall() {
		c.peerCall()
		return true
	} else if c.isPeerResume() {
		c.peerResume()
		return true
	}
	// What it does must not be seen before the messages in front of it are heard.
	if s.saying > 0 && (cmd == nil || cmd.Traits&resp.Says == 0) {
		return false
	}
	// What follows a SUBSCRIBE waits until it is answered, but for another one: see mustWait.
	if s.hold != nil && (cmd == nil || cmd.Traits&resp.Subscribes == 0) {
		return false
	}
	c.muted = s.modes.quiet != quietNot && s.mutes(cmd)
	switch c.admit(bad) {
	case postponed:
		return false
	case denied:
		// As in Redis: whatever was refused while a transaction was open, EXEC runs none of it.
		if s.tx != nil {
			s.tx.broken = true
		}
	case queued:
		c.enqueue()
	case admitted:
		if !c.execute() {
			return false
		}
		// Behind the command: what was refused is not shown.
		if len(l.monitoring.at) > 0 && !c.refused && s.life < lifeGone {
			c.show()
		}
		if c.atOnce && l.rec.Slow.All() {
			c.logAnswer()
		}
	}
	s.who.commands++
	l.rec.N[stats.Commands]++
	if s.tracking != nil {
		s.endCaching(cmd)
	}
	if s.modes.quiet != quietNot {
		s.quietNext()
	}
	return true
}

// execute runs a command that is admitted: it finds the keys, does what is common to all
// commands with keys, and leaves the rest to the handler.
//
// Keys come first because everything depends on them. The room for their indexes is the
// loop's: handlers that keep keys copy them as names (appendKeys).
func (c *call) execute() (taken bool) {
	s, cmd, args := c.s, c.cmd, c.args
	l := s.l
	if (s.lane > 0 || cmd.Serve == resp.Script || cmd == execCommand) && !c.inLane() {
		return false
	}
	if cmd.Serve != resp.Local && cmd.Serve != resp.Refused {
		keys, err := cmd.AppendKeys(l.spares.keyIndex[:0], args)
		if err != nil {
			// No server would execute it, and a server knows best how to say so.
			c.plainly()
			return true
		}
		c.keys, l.spares.keyIndex = keys, keys
		if reserved(args, keys) {
			c.refuse(reservedText)
			return true
		}
		// A server with more databases than the cluster has would take the key to where nobody could
		// read it; see databases.go.
		if (cmd == copyCommand || cmd == moveCommand) && l.outside(cmd, args) {
			c.refuse(outsideText)
			return true
		}
		// Before anything is done for it: it may be given again.
		if mayWrite(cmd) && len(keys) > 0 && l.srv.waits.lines.Any() {
			if awaited := c.awaited(); len(awaited) > 0 && c.heldByLine(awaited) {
				return false
			}
		}
		// Before it is sent: the change of a key could be heard before the reply to the read that was
		// answered before it.
		if s.tracking != nil && len(keys) > 0 {
			s.trackCommand(cmd, args, keys)
		}
	}
	if len(c.keys) > 0 {
		// A counter that runs down is all that this costs for most commands.
		if l.rec.Hot.Due() {
			l.sample(s.db, cmd, args, c.keys)
		}
	}
	// What people type into telnet goes to servers in the form that all of them take.
	if c.inline {
		l.spares.scratch = resp.AppendRequest(l.spares.scratch[:0], args...)
		c.frame = l.spares.scratch
	}
	return l.handlers[cmd.Index](c)
}

// reservedText: what a client wrote under such a name would be lost without a word.
const reservedText = "ERR key names that begin with '" + router.ReservedPrefix + "' are reserved for the gateway's own keys"

// reserved reports whether one of the keys is the gateway's own.
//
// It costs a look at the first bytes of each key, and nothing but the length for short ones. Keys
// that a script uses without naming them can't be looked at: one that makes up a reserved name does
// harm, and no client comes by such a name by accident.
func reserved(args [][]byte, keys []int) bool {
	for _, k := range keys {
		if router.Reserved(args[k]) {
			return true
		}
	}
	return false
}

// keyed runs a command that goes where its keys are. It is the handler of nearly all that
// clients send, and the one that must not allocate, lock or switch goroutines while their
// slots are stable: the request comes from the loop's list, the frame is copied into the
// pipe's buffer, and nothing of the call is kept. BenchmarkStablePath holds it to that.
//
// In a moving slot it allocates: the keys are copied, since the command may be parked, and the
// lock table keeps them.
func (c *call) keyed() (taken bool) {
	s, cmd := c.s, c.cmd
	l := s.l
	if len(c.keys) == 0 {
		c.plainly()
		return true
	}
	if s.modes.refusing {
		c.begin().giveBack(l.elsewhereError())
		return true
	}
	switch outcome, slot := l.table.Route(cmd, c.args, c.keys); outcome {
	case router.Serve:
		r := c.begin()
		c.observe(r)
		via := l.table.Slots[slot].Via
		if l.table.IsPeer(via) {
			l.sendByPeer(r, s.db, slot, appendKeys(nil, s.db, cmd, c.args, c.keys), c.frame)
			break
		}
		r.transmit(l.pipe(via, s.db, s.proto), block{frame: c.frame})
	case router.Resolve:
		r := c.begin()
		c.observe(r)
		m := l.newMotion(slot, s.db)
		m.Keys = appendKeys(nil, s.db, cmd, c.args, c.keys)
		l.move(r, m, c.frame)
	case router.Split:
		c.split()
	case router.TakeFirst:
		return c.takeFirst()
	case router.CrossSlot:
		c.crossSlot()
	case router.Unserved:
		c.refuse(unservedText(slot))
	}
	return true
}

// observe adds those who want to hear of a write.
//
// While no client waits for keys in the gateway, this is one atomic load for each write, and
// nothing for a read.
func (c *call) observe(r *request) {
	if l := c.s.l; c.cmd.Flags&resp.Write != 0 && l.srv.waits.list.n.Load() > 0 {
		l.wakeAfter(r, appendKeys(nil, c.s.db, c.cmd, c.args, c.keys))
	}
}

// crossSlot is counted: an application that uses keys across slots shows in the metrics before its
// users complain.
func (c *call) crossSlot() {
	c.s.l.rec.N[stats.CrossSlot]++
	c.refuse(crossSlotText)
}

// oneSlot is the slot of a command whose keys must all be in one; -1 if it has none. Not ok:
// they are in several, and the client has been told.
func (c *call) oneSlot() (slot int, ok bool) {
	if len(c.keys) == 0 {
		return -1, true
	}
	outcome, slot := c.s.l.table.Route(c.cmd, c.args, c.keys)
	if outcome == router.CrossSlot {
		c.crossSlot()
		return -1, false
	}
	return slot, true
}

// plainly sends a command as it is to the group of its keys, or to any one if it has none.
//
// The frame is made anew and not c.frame: an inline command whose keys could not be told is not
// in the form that servers are sent.
func (c *call) plainly() {
	s := c.s
	l := s.l
	r := c.begin()
	r.op = plain{}
	frame := resp.AppendRequest(nil, c.args...)
	if len(c.keys) == 0 {
		l.anywhere(r, frame)
	} else {
		l.place(r, s.db, l.table.Scheme.Slot(c.args[c.keys[0]]), appendKeys(nil, s.db, c.cmd, c.args, c.keys), frame)
	}
}

// unservedText: CLUSTERDOWN is what a Redis Cluster says of a slot without a node, and cluster clients try
// again on it.
func unservedText(slot int) string {
	return fmt.Sprintf("CLUSTERDOWN Hash slot %d is not served by any group", slot)
}
