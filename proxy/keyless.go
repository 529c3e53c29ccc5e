package proxy

import (
	"bytes"
	"fmt"

	"keyferry/internal/resp"
)

// keyless serves a declared command without keys. One that any group may answer goes to the
// same one for all commands of a client, while the same groups serve slots, so that what a
// client does in order is done in order.
func (s *session) keyless(cmd *resp.Command, args [][]byte, all bool) {
	l := s.l
	groups := l.table.Serving()
	if len(groups) == 0 {
		s.reject("CLUSTERDOWN No group serves any hash slot")
		return
	}
	l.scratch = resp.AppendRequest(l.scratch[:0], args...)
	if all {
		s.toGroups(resp.EveryGroup, groups, l.scratch)
		return
	}
	r := l.newRequest(s, cmd)
	s.queue.push(r)
	p := l.pipe(groups[s.id%int64(len(groups))], s.db)
	s.lastPipe = p
	l.send(r, p, l.scratch)
}

// toGroups sends one frame to several groups; kind says how their replies become one.
func (s *session) toGroups(kind resp.Serve, groups []int16, frame []byte) {
	l := s.l
	g := &gather{kind: kind, left: len(groups)}
	g.r = l.newRequest(s, s.lastCmd)
	s.queue.push(g.r)
	for range groups {
		r := l.newRequest(s, s.lastCmd)
		r.g = g
		g.parts = append(g.parts, r)
	}
	parts := g.parts // a part can fail at once, and the last one to do so clears g.parts
	for i, grp := range groups {
		l.send(parts[i], l.pipe(grp, s.db), frame)
	}
}

// agreed is the reply that all groups have given. If they differ there is no one truth to
// tell: the module would have to say how they are merged.
func (g *gather) agreed() []byte {
	first := g.parts[0].reply
	for _, p := range g.parts[1:] {
		if !bytes.Equal(p.reply, first) {
			return resp.AppendErr(nil, fmt.Sprintf("ERR '%s' was executed by all %d groups, and their replies differ", g.r.cmd.Name, len(g.parts)))
		}
	}
	return append([]byte(nil), first...)
}
