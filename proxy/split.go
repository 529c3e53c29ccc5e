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
type gather struct {
	r     *request // stands in the session's queue
	kind  resp.Serve
	parts []*request
	left  int
	// order says for each key which part has its value and where in it; MGET only.
	order []place
}

type place struct{ part, index int }

// part of a split before it is sent.
type cut struct {
	group int16 // of a stable slot; -1: a moving slot
	slot  int
	keys  []int // argument indexes
}

func (l *loop) split(s *session, cmd *resp.Command, args [][]byte, keys []int) {
	g := &gather{kind: cmd.Serve}
	cuts, unserved := l.cut(g, args, keys)
	if unserved >= 0 {
		s.reject(unservedText(unserved))
		return
	}
	g.r = l.newRequest(s, cmd)
	s.queue.push(g.r)
	g.left = len(cuts)
	g.parts = make([]*request, len(cuts))
	for i := range cuts {
		g.parts[i] = l.newRequest(s, cmd)
		g.parts[i].g = g
	}
	parts := g.parts
	for i, c := range cuts {
		r := parts[i]
		frame := l.partFrame(cmd, args, c.keys)
		if c.group >= 0 {
			l.send(r, l.pipe(c.group, s.db), frame)
			continue
		}
		m := l.newMotion(c.slot, s.db)
		m.keys = []slotlock.Key{{DB: s.db, Name: string(args[c.keys[0]])}}
		l.move(r, m, frame)
	}
}

// cut says which keys go together. unserved is a slot without a group, or -1.
func (l *loop) cut(g *gather, args [][]byte, keys []int) (cuts []cut, unserved int) {
	byGroup := make([]int, len(l.table.Groups))
	for i := range byGroup {
		byGroup[i] = -1
	}
	for _, k := range keys {
		slot := l.table.Scheme.Slot(args[k])
		at := -1
		switch l.table.RouteSlot(slot) {
		case router.Unserved:
			return nil, slot
		case router.Resolve:
			at = len(cuts)
			cuts = append(cuts, cut{group: -1, slot: slot})
		default:
			owner := l.table.Slots[slot].Owner
			if at = byGroup[owner]; at < 0 {
				at = len(cuts)
				byGroup[owner] = at
				cuts = append(cuts, cut{group: owner})
			}
		}
		g.order = append(g.order, place{at, len(cuts[at].keys)})
		cuts[at].keys = append(cuts[at].keys, k)
	}
	return cuts, -1
}

// partFrame encodes the command for some of its keys. It is valid until the next call.
func (l *loop) partFrame(cmd *resp.Command, args [][]byte, keys []int) []byte {
	per := 1
	if cmd.Serve == resp.SplitMSet {
		per = 2
	}
	b := append(l.scratch[:0], '*')
	b = strconv.AppendInt(b, int64(1+per*len(keys)), 10)
	b = append(b, "\r\n"...)
	b = redcon.AppendBulk(b, args[0])
	for _, k := range keys {
		b = redcon.AppendBulk(b, args[k])
		if per == 2 {
			b = redcon.AppendBulk(b, args[k+1])
		}
	}
	l.scratch = b
	return b
}

// part is told that one part has its reply.
func (g *gather) part(*request) {
	if g.left--; g.left > 0 {
		return
	}
	l := g.r.s.l
	reply := g.merge()
	for _, p := range g.parts {
		g.r.s.held -= len(p.reply)
		l.free(p)
	}
	g.parts = nil
	g.r.finish(reply)
}

// merge makes one reply of all. An error of any part is the reply; the first, in the
// order of the keys, if there are several.
func (g *gather) merge() []byte {
	for _, p := range g.parts {
		if len(p.reply) > 0 && p.reply[0] == '-' {
			return append([]byte(nil), p.reply...)
		}
	}
	switch g.kind {
	case resp.EveryGroup:
		return g.agreed()
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
	values := make([][][]byte, len(g.parts))
	size := 16
	for i, p := range g.parts {
		v, ok := resp.SplitArray(p.reply, nil)
		if !ok {
			return badPart()
		}
		values[i] = v
		size += len(p.reply)
	}
	out := redcon.AppendArray(make([]byte, 0, size), len(g.order))
	for _, o := range g.order {
		if o.index >= len(values[o.part]) {
			return badPart()
		}
		out = append(out, values[o.part][o.index]...)
	}
	return out
}

func badPart() []byte { return []byte("-ERR a server sent a reply of an unexpected type\r\n") }
