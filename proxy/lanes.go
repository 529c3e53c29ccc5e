package proxy

import (
	"bytes"
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/upstream"
)

// A server that runs a script reads nothing from the connection that it came by until it has ended,
// and answers others BUSY once that takes too long. So scripts, functions and transactions that run
// some go out on connections of their own, the lanes: what other clients send does not wait behind
// them. Of these there are two: while the one waits for a script, the next script takes the other.
//
// A client's commands keep their order: while it has some under way on a lane, others of its commands
// wait, and the other way round (inLane).

// The picture, of two clients of a loop:
//
//	A: EVAL ─► lane 1 ─► server: runs it, reads nothing more from there
//	B: GET  ─► the others' connection ─► server: BUSY
//	B: EVAL ─► lane 2, since lane 1 has waited for long ─► server: BUSY
//
// What was sent on lane 1 within the first 50 ms behind the script waits with it: a server can't be
// told to forget what it has been sent.

// laneWaits is how long a script may take until the next is sent on the other lane.
const laneWaits = 50 * time.Millisecond

const lanes = 2

const (
	// busyFor is how long a server counts as busy after it has said so.
	busyFor = 5 * time.Second
	// busyAsk is how often it is asked at most. A tick may come every 20 ms.
	busyAsk = 500 * time.Millisecond
)

// busyness is what is known of a server that scripts may keep busy. It belongs to the loop.
type busyness struct{ asked, said time.Time }

// scripted is a script that the gateway's cache knows nothing of, or that is sent with its body.
type scripted struct{ plain }

// send: by the lane and not by the connection that all others share.
func (x *scripted) send(l *loop, r *request, group int16, frame []byte) {
	r.transmit(l.scriptPipe(r, group, r.db()), block{frame: frame})
}

// reply: what is behind it on the lane begins now.
func (x *scripted) reply(r *request, _ []byte, last bool) bool {
	if last {
		r.s.l.heardLane(r.pipe)
	}
	return true
}

// runsScript reports that the server may be kept busy by the command.
func (c *call) runsScript() bool {
	return c.cmd.Serve == resp.Script || c.cmd == execCommand && c.s.tx != nil && c.s.tx.scripts
}

// inLane reports that the command may be sent: what its client has under way goes by the same
// connections.
//
// A switch costs a round trip, for those alone who send both kinds without awaiting replies. Two
// clients need no such care: they have no order but what they see of each other.
func (c *call) inLane() bool {
	s := c.s
	switch scripts := c.runsScript(); {
	case s.queue.n > 0 && scripts != (s.lane > 0):
		return false
	case !scripts:
		s.lane = 0
	case s.lane == 0:
		s.lane = 1
	}
	return true
}

// scriptPipe is the shared connection for scripts. A client that has others under way stays on its
// lane; else it takes the first that does not wait for anything long.
func (l *loop) scriptPipe(r *request, group int16, db int) *upstream.Pipe {
	s := r.s
	k := pipeKey{l.table.Upstream(group).ID, db, s.proto, max(s.lane, 1)}
	if s.queue.n > 1 {
		return l.onLane(group, k)
	}
	var best *upstream.Pipe
	var began time.Time
	for k.lane = 1; k.lane <= lanes; k.lane++ {
		p := l.onLane(group, k)
		since := l.servers.scripts[p]
		if p.InFlight() == 0 || l.now.Sub(since) <= laneWaits {
			s.lane = k.lane
			return p
		}
		// All wait. The script that runs is on the one that has waited for longer; the other is answered
		// when the server is found to be busy.
		if best == nil || since.After(began) {
			best, began, s.lane = p, since, k.lane
		}
	}
	return best
}

// onLane is the connection of a lane. One on which nothing was under way begins to wait now.
func (l *loop) onLane(group int16, k pipeKey) *upstream.Pipe {
	p := l.sharedPipe(group, k)
	if _, known := l.servers.scripts[p]; !known || p.InFlight() == 0 {
		l.servers.scripts[p] = l.now
	}
	return p
}

// heardLane: what is next on the lane begins now.
func (l *loop) heardLane(p *upstream.Pipe) {
	if _, known := l.servers.scripts[p]; known {
		l.servers.scripts[p] = l.now
	}
}

// runsLong reports that the server of a lane on which nothing comes says that it is busy: then the
// lane is not dead, and its script may take as long as it likes. It is asked on the connection of other
// commands, which has to answer in time like any.
func (l *loop) runsLong(p *upstream.Pipe) bool {
	b := l.servers.busy[p.Group]
	if b == nil {
		b = &busyness{}
		l.servers.busy[p.Group] = b
	}
	if l.now.Sub(b.asked) >= busyAsk {
		if i := l.table.UpstreamOf(p.Group); i >= 0 {
			b.asked = l.now
			l.pipe(i, 0, 2).Send(&busyProbe{l, b}, pingFrame)
		}
	}
	return l.now.Sub(b.said) <= busyFor
}

// busyProbe asks whether a script keeps a server busy.
type busyProbe struct {
	l *loop
	b *busyness
}

// Reply implements upstream.Call.
func (x *busyProbe) Reply(reply []byte, last bool) {
	if last && bytes.HasPrefix(reply, []byte("-BUSY ")) {
		x.b.said = x.l.now
	}
}

// Fail implements upstream.Call.
func (x *busyProbe) Fail(error, bool) {}
