package proxy

import (
	"strconv"

	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
	"keyferry/router"
	"keyferry/slotlock"
)

// gather merges the parts of a request whose keys are in several slots into one reply.
//
// Keys of stable slots go out as one part for each group; keys of moving slots as one
// part each, so that none waits for another's move. The command is not atomic across
// parts, as with every Redis proxy.
//
// Lifetime: until the last part has its reply; the request that stands in the queue outlives
// it. Parts are requests that are in no queue, which is why their replies are kept
// (request.take) and freed here.
//
// Invariant: left is the number of parts without a reply. join may send a second round of
// parts, and then ends the request itself.
type gather struct {
	r     *request // stands in the session's queue
	kind  resp.Serve
	join  func(parts [][]byte) []byte // where kind does not say how; parts are in the order of the groups
	parts []*request
	left  int
	// tolerant leaves the errors of parts to join.
	tolerant bool
	order    []int32 // for each key, which part has it; a part has its keys in the same order
	// groups are those that the parts went to, where each has the whole command; else nil.
	groups []string
	before func() // is called when all parts have ended, before anything is made of them; or nil
}

// cut: part of a split before it is sent.
//
// Keys of stable slots are cut by group: they can't be held up by one another. Keys in motion, by this
// gateway or another, go one by one, so that a part waits for its own key only.
type cut struct {
	group int16 // of a stable slot; -1: a moving slot
	slot  int
	n     int
	keys  []int // argument indexes, n of them
}

// split: a slot without a group refuses the whole command before anything is sent: half of an MSET is
// worse than none.
func (c *call) split() {
	s, cmd, args := c.s, c.cmd, c.args
	l := s.l
	g := &gather{kind: cmd.Serve}
	cuts, unserved := l.cut(g, args, c.keys)
	if unserved >= 0 {
		c.refuse(unservedText(unserved))
		return
	}
	g.r = c.begin()
	g.left = len(cuts)
	g.parts = make([]*request, len(cuts))
	for i := range cuts {
		g.parts[i] = l.newRequest(s, cmd)
		g.parts[i].g = g
	}
	parts := g.parts
	for i, x := range cuts {
		r := parts[i]
		frame := l.partFrame(cmd, args, x.keys)
		if x.group >= 0 {
			r.transmit(l.pipe(x.group, s.db, s.proto), block{frame: frame})
			continue
		}
		l.place(r, s.db, x.slot, []slotlock.Key{{DB: s.db, Name: string(args[x.keys[0]])}}, frame)
	}
}

// cut says which keys go together. unserved is a slot without a group, or -1.
//
// A map from group to part would allocate; the loop keeps a slice for it. Keys are counted
// first and listed after that, so that all lists of a command share one piece of memory.
func (l *loop) cut(g *gather, args [][]byte, keys []int) (cuts []cut, unserved int) {
	byGroup := l.spares.cutOf[:0]
	for range l.table.Groups {
		byGroup = append(byGroup, -1)
	}
	l.spares.cutOf = byGroup
	g.order = make([]int32, len(keys))
	cuts = make([]cut, 0, 4)
	for i, k := range keys {
		slot := l.table.Scheme.Slot(args[k])
		at := -1
		switch l.table.RouteSlot(slot) {
		case router.Unserved:
			return nil, slot
		case router.Resolve:
			at = len(cuts)
			cuts = append(cuts, cut{group: -1, slot: slot})
		default:
			via := l.table.Slots[slot].Via
			if l.table.IsPeer(via) {
				at = len(cuts)
				cuts = append(cuts, cut{group: -1, slot: slot})
			} else if at = byGroup[via]; at < 0 {
				at = len(cuts)
				byGroup[via] = at
				cuts = append(cuts, cut{group: via})
			}
		}
		g.order[i] = int32(at)
		cuts[at].n++
	}
	room := make([]int, len(keys))
	for i := range cuts {
		cuts[i].keys, room = room[:0:cuts[i].n], room[cuts[i].n:]
	}
	for i, k := range keys {
		c := &cuts[g.order[i]]
		c.keys = append(c.keys, k)
	}
	return cuts, -1
}

// partFrame encodes the command for some of its keys. It is valid until the next call.
func (l *loop) partFrame(cmd *resp.Command, args [][]byte, keys []int) []byte {
	per := 1
	if cmd.Serve == resp.SplitMSet {
		per = 2
	}
	b := append(l.spares.scratch[:0], '*')
	b = strconv.AppendInt(b, int64(1+per*len(keys)), 10)
	b = append(b, "\r\n"...)
	b = redcon.AppendBulk(b, args[0])
	for _, k := range keys {
		b = redcon.AppendBulk(b, args[k])
		if per == 2 {
			b = redcon.AppendBulk(b, args[k+1])
		}
	}
	l.spares.scratch = b
	return b
}

// part is told that one part has its reply.
//
// Whoever's reply comes last ends it. The time of the whole is that of the slowest part, so
// its connection is what the slow log names.
func (g *gather) part(r *request) {
	if g.left--; g.left > 0 {
		return
	}
	s := g.r.s
	l := s.l
	// For the slow log: where the time went, and when.
	g.r.pipe, g.r.span.Sent = r.pipe, r.span.Sent // the last part is the one that took longest
	reply := g.merge()                            // join may end g.r by itself
	for _, p := range g.parts {
		s.out.held -= len(p.reply)
		l.free(p)
	}
	g.parts = nil
	if reply != nil { // else join has gone on to ask for more
		g.r.finish(reply)
		if g.join == nil && g.kind == resp.SplitMGet {
			l.spares.buffers.put(reply) // finish has copied it
		}
	}
}

// merge makes one reply of all. An error of any part is the reply; the first, in the
// order of the keys, if there are several, with what is known of the others.
func (g *gather) merge() []byte {
	if g.before != nil {
		g.before()
	}
	for _, p := range g.parts {
		if len(p.reply) > 0 && p.reply[0] == '-' && !g.tolerant {
			return g.failure(p)
		}
	}
	if g.join != nil {
		replies := make([][]byte, len(g.parts))
		for i, p := range g.parts {
			replies[i] = p.reply
		}
		return g.join(replies)
	}
	switch g.kind {
	case resp.SplitMSet:
		return []byte("+OK\r\n")
	case resp.SplitSum:
		sum := int64(0)
		for _, p := range g.parts {
			n, ok := resp.ParseInt(p.reply)
			if !ok {
				return badPart()
			}
			sum += n
		}
		return redcon.AppendInt(nil, sum)
	}
	return g.mergeValues()
}

// mergeValues puts the elements of the parts in the order of the keys.
//
// It goes over all parts at once, without making lists of their elements: MGET of ten keys
// makes one buffer.
func (g *gather) mergeValues() []byte {
	values := make([]resp.Elements, len(g.parts))
	size := 16
	for i, p := range g.parts {
		v, ok := resp.ArrayElements(p.reply)
		if !ok {
			return badPart()
		}
		values[i] = v
		size += len(p.reply)
	}
	buffers := &g.r.s.l.spares.buffers
	out := redcon.AppendArray(buffers.get(size), len(g.order))
	for _, part := range g.order {
		v, ok := values[part].Next()
		if !ok {
			return badPart()
		}
		out = append(out, v...)
	}
	for i := range values {
		if !values[i].AtEnd() {
			return badPart()
		}
	}
	return out
}

// badPart: a server that answers MGET with no array is none that we know: better an error than a reply
// that is torn.
func badPart() []byte { return []byte("-ERR a server sent a reply of an unexpected type\r\n") }
