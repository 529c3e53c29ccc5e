package proxy

import (
	"bytes"
	"context"
	"sync"

	"keyferry/internal/resp"
	"keyferry/internal/upstream"
)

// interrupts runs what is meant to interrupt a server that runs a script, or to ask what it runs, at
// every group: SCRIPT KILL, FUNCTION KILL, FUNCTION STATS. Each goes over a connection of its own, so
// that it waits behind nothing, and is not kept away by a connection that can't be made ready. The
// client's next commands find it done.
func interrupts(join joiner) func(*call) {
	return func(c *call) {
		s := c.s
		srv, proto, frame := s.l.srv, s.proto, resp.AppendRequest(nil, c.args...)
		s.hold = c.async(func() []byte {
			return join(srv.askOnce(proto, frame))
		})
	}
}

// askOnce asks every group over a connection made for that, and gives their replies. One that did not
// answer has an error in its place. It may take as long as a connection may to be made: a server that is
// frozen, and not busy, says nothing. For goroutines.
func (s *Server) askOnce(proto int, frame []byte) [][]byte {
	ctx, cancel := context.WithTimeout(s.life.ctx, s.opt.ConnectTimeout)
	defer cancel()
	at := s.groupEndpoints()
	parts := make([][]byte, len(at))
	var wg sync.WaitGroup
	for i := range at {
		wg.Go(func() {
			reply, err := s.opt.Dialer.Once(ctx, upstream.Target{Endpoint: at[i], Proto: proto}, frame)
			if err != nil {
				reply = resp.AppendErr(nil, "ERR server "+at[i].Addr+" did not answer: "+err.Error())
			}
			parts[i] = reply
		})
	}
	wg.Wait()
	return parts
}

// groupEndpoints are how to reach the groups of the newest table. For goroutines.
func (s *Server) groupEndpoints() (out []upstream.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.mu.table.Groups {
		out = append(out, s.mu.table.Groups[i].Endpoint)
	}
	return out
}

// killed makes one reply of those to a KILL, by what they say and not by the order of groups. Most
// groups have nothing to kill (NOTBUSY), which says nothing about the others: so that is the answer
// only if all say it.
//
//	a success                   something was killed
//	UNKILLABLE                  nothing was, and something runs that can't be
//	another error of a server   something runs there that is not of the kind to be killed (BUSY), or
//	                            it would not say (NOPERM, LOADING)
//	no answer                   something may run there
//	NOTBUSY                     nothing runs anywhere
func killed(parts [][]byte) []byte {
	rank := func(p []byte) int {
		switch {
		case len(p) > 0 && p[0] != '-':
			return 4
		case bytes.HasPrefix(p, []byte("-UNKILLABLE")):
			return 3
		case bytes.HasPrefix(p, []byte("-NOTBUSY")):
			return 0
		case bytes.HasPrefix(p, []byte("-ERR")):
			return 1
		}
		return 2
	}
	var best []byte
	for _, p := range parts {
		if best == nil || rank(p) > rank(best) {
			best = p
		}
	}
	if best == nil {
		return firstOf(parts)
	}
	return best
}

// runningOf is the reply of FUNCTION STATS of the group that runs something; of any, if none does.
func runningOf(parts [][]byte) []byte {
	var idle []byte
	for _, p := range parts {
		fields, ok := resp.SplitAggregate(p)
		if !ok || len(fields) < 2 {
			continue
		}
		if !isNull(fields[1]) {
			return p
		}
		if idle == nil {
			idle = p
		}
	}
	if idle == nil {
		return firstOf(parts)
	}
	return idle
}
