package proxy

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
	"keyferry/router"
)

// Commands that concern every group. They are not atomic over groups.

// A joiner makes one reply of those of several groups, in the order of these. The parts are
// gone when it returns, so what it returns is its own.
type joiner func(parts [][]byte) []byte

// toServing sends a command to the groups that serve slots, and join makes one reply of all.
func toServing(join joiner) func(*call) {
	return func(c *call) { c.fan(c.s.l.table.Serving(), resp.AppendRequest(nil, c.args...), false, join) }
}

// toEvery is toServing for what a group has to know before it serves any: scripts, channels.
func toEvery(join joiner) func(*call) {
	return func(c *call) { c.fan(c.s.l.everyGroup(), resp.AppendRequest(nil, c.args...), false, join) }
}

// askAll runs a command that is declared in the configuration.
func (c *call) askAll() {
	name := c.cmd.Name
	toServing(func(parts [][]byte) []byte { return agreed(name, parts) })(c)
}

// scriptLoad: everywhere at once, so that a script is there before the slots are; and in the gateway's
// cache for groups that come later.
func (c *call) scriptLoad() {
	c.s.l.srv.scripts.remember(c.args[2])
	toEvery(firstOf)(c)
}

// scriptFlush: the cache first: a script that is loaded behind this by another loop is remembered, and one
// before it is not.
func (c *call) scriptFlush() {
	c.s.l.srv.scripts.forget()
	toEvery(firstOf)(c)
}

// scriptExists: a script that some server lacks exists all the same if the gateway can load it when it is
// used.
func (c *call) scriptExists() {
	srv, shas := c.s.l.srv, cloneArgs(c.args[2:])
	toEvery(func(parts [][]byte) []byte { return srv.scripts.existsIn(parts, shas) })(c)
}

// swapDB is refused while slots move, since a key would change its database on one side
// only, and runs alone: what follows it must find it done.
func (c *call) swapDB() bool {
	s := c.s
	l := s.l
	if bad := l.badSwap(c.args); bad != "" {
		c.reject(bad)
		return true
	}
	if s.queue.n > 0 {
		return false
	}
	if l.table.Moving() {
		c.reject("ERR SWAPDB is refused while slots move: a key would change its database on one side of its move only")
		return true
	}
	if lines := l.srv.waits.lines; lines.Any() { // keys come to those who wait in the other database
		if keys := lines.In(c.databases()); len(keys) > 0 && c.heldByLine(keys) {
			return false
		}
	}
	c.fanHeld(l.everyGroup(), resp.AppendRequest(nil, c.args...), l.srv.flushed(firstOf))
	return true
}

// databases are those that SWAPDB names, which was found to be right.
func (c *call) databases() (first, second int) {
	a, _ := resp.Integer(c.args[1])
	b, _ := resp.Integer(c.args[2])
	return int(a), int(b)
}

// agreed is the reply that all groups have given. If they differ there is no one truth to
// tell: the module would have to say how they are merged.
//
// For commands of modules, about which nothing is known but that all groups are to execute
// them.
func agreed(name string, parts [][]byte) []byte {
	for _, p := range parts {
		if !bytes.Equal(p, parts[0]) {
			return resp.AppendErr(nil, fmt.Sprintf("ERR '%s' was executed by all %d groups, and their replies differ", name, len(parts)))
		}
	}
	return firstOf(parts)
}

// cloneArgs: for what is used when the call is over.
func cloneArgs(args [][]byte) [][]byte {
	out := make([][]byte, len(args))
	for i, a := range args {
		out[i] = bytes.Clone(a)
	}
	return out
}

// everyGroup: groups that serve nothing yet count: their first slot may come with the next table.
func (l *loop) everyGroup() []int16 {
	out := make([]int16, len(l.table.Groups))
	for i := range out {
		out[i] = int16(i)
	}
	return out
}

// fan sends one command to several groups and joins the replies.
//
// The parts go out in the order of groups, each on the shared connection, behind what the
// client has sent before: so a DBSIZE counts the keys that it has just set. tolerant leaves
// errors to join; else the first error is the reply.
func (c *call) fan(groups []int16, frame []byte, tolerant bool, join func(parts [][]byte) []byte) {
	s := c.s
	s.fanOut(c.begin(), groups, frame, &gather{join: join, tolerant: tolerant})
}

// fanHeld is fan for what the client's next commands must find done.
//
// SWAPDB, FLUSHALL: a command behind them could reach a fast server before they reach a slow
// one.
func (c *call) fanHeld(groups []int16, frame []byte, join func(parts [][]byte) []byte) {
	s := c.s
	r := c.begin()
	s.hold = r // first: without a server it fails at once
	s.fanOut(r, groups, frame, &gather{join: join})
}

// fanOut sends a command to groups; g says what is made of their replies.
//
// All parts are made before the first is sent, since it may fail at once and the gather must
// know how many there are.
func (s *session) fanOut(r *request, groups []int16, frame []byte, g *gather) {
	if len(groups) == 0 {
		if g.before != nil {
			g.before()
		}
		r.finish(g.join(nil))
		return
	}
	s.fanParts(r, groups, [][]byte{frame}, g)
}

// fanParts is fanOut of several commands: each group gets all of them, one behind the other. The parts are
// the first of each group, then the second of each.
func (s *session) fanParts(r *request, once []int16, frames [][]byte, g *gather) {
	l := s.l
	var groups []int16
	for range frames {
		groups = append(groups, once...)
	}
	g.r, g.left = r, len(groups)
	parts := make([]*request, len(groups))
	g.groups = make([]string, len(groups))
	for i, grp := range groups {
		parts[i] = l.newRequest(s, r.cmd)
		parts[i].g = g
		g.groups[i] = l.table.Groups[grp].ID
	}
	g.parts = parts
	for i, grp := range groups {
		parts[i].transmit(l.pipe(grp, s.db, s.proto), block{frame: frames[i/len(once)]})
	}
}

var (
	dbSizeFrame = resp.AppendRequest(nil, []byte("DBSIZE"))
	stampFrame  = resp.AppendRequest(nil, []byte("EXISTS"), []byte(router.StampKey))
)

// dbSize: without the gateway's own key that a server has for good, if it has it. A key that is being moved
// can for a moment be counted twice.
//
// The key is asked for in the same breath, and not remembered: it may have been evicted, or flushed by
// somebody else, a moment ago. Nothing comes between the two commands at a server, which reads both from one
// connection at once.
func (c *call) dbSize() {
	s := c.s
	r, groups := c.begin(), s.l.table.Serving()
	if len(groups) == 0 {
		r.finish(redcon.AppendInt(nil, 0))
		return
	}
	s.fanParts(r, groups, [][]byte{dbSizeFrame, stampFrame}, &gather{tolerant: true, join: func(parts [][]byte) []byte {
		keys := int64(0)
		for i := range groups {
			n, ok := resp.ParseInt(parts[i])
			if !ok {
				return bytes.Clone(parts[i])
			}
			own, _ := resp.ParseInt(parts[len(groups)+i]) // a server may refuse to tell
			keys += n - own
		}
		return redcon.AppendInt(nil, keys)
	}})
}

// leastOf is the least of integers.
//
// As LASTSAVE is joined: a save is done when the last group has done it.
func leastOf(parts [][]byte) []byte {
	least := int64(math.MaxInt64)
	for _, p := range parts {
		n, ok := resp.ParseInt(p)
		if !ok {
			return badPart()
		}
		least = min(least, n)
	}
	if len(parts) == 0 {
		least = 0
	}
	return redcon.AppendInt(nil, least)
}

// firstOf: all groups say the same.
func firstOf(parts [][]byte) []byte {
	if len(parts) == 0 {
		return []byte("-CLUSTERDOWN there is no group\r\n")
	}
	return bytes.Clone(parts[0])
}

// quiesceTimeout bounds how long a FLUSHALL waits for the movers to come to a stop.
const quiesceTimeout = 10 * time.Second

// flushData runs FLUSHDB and FLUSHALL: while slots move the movers stop for it, so that
// no key is on its way between two servers when both are emptied.
//
// A mover that had read a key before the flush could write it to the target after it. So the
// movers are stopped between two keys, both sides are emptied, and they go on: with the next
// key, which is not there any more.
//
//	alone in the queue ─► Quiesce (off the loop, at most 10 s) ─► FLUSHALL at every group ─► resume
//
// Nothing is executed if the movers can't be stopped in time. resume is called in every other
// case, also if a group fails: that is what tolerant is for.
func (c *call) flushData() bool {
	s, frame := c.s, resp.AppendRequest(nil, c.args...)
	if s.queue.n > 0 {
		return false
	}
	l := s.l
	srv := l.srv
	if !l.table.Moving() || srv.opt.Quiesce == nil {
		c.fanHeld(l.table.Serving(), frame, srv.flushed(firstOf))
		return true
	}
	r := c.begin()
	// Before anything goes out, so that nothing of the client's comes between.
	s.hold = r
	srv.life.wg.Go(func() {
		ctx, cancel := context.WithTimeout(srv.life.ctx, quiesceTimeout)
		defer cancel()
		resume, err := srv.opt.Quiesce(ctx)
		if err != nil {
			l.post(func() {
				r.finish(resp.AppendErr(nil, "TRYAGAIN the move of slots could not be stopped for this: "+err.Error()+"; nothing was executed"))
			})
			return
		}
		l.post(func() {
			s.fanOut(r, l.table.Serving(), frame, &gather{join: srv.flushed(firstOf), before: resume})
		})
	})
	return true
}

// flushed tells whoever keeps keys of the gateway's own at servers that these have gone, or are in another
// database.
func (s *Server) flushed(join joiner) joiner {
	return func(parts [][]byte) []byte {
		if s.opt.Flushed != nil {
			s.opt.Flushed()
		}
		return join(parts)
	}
}

// badSwap is what Redis says of the arguments of SWAPDB before it does anything.
func (l *loop) badSwap(args [][]byte) string {
	for i, which := range []string{"first", "second"} {
		if n, ok := resp.Integer(args[1+i]); !ok || n != int64(int32(n)) {
			return "ERR invalid " + which + " DB index"
		}
	}
	for _, a := range args[1:3] {
		if n, _ := resp.Integer(a); n < 0 || n >= int64(l.table.Databases) {
			return "ERR DB index is out of range"
		}
	}
	return ""
}
