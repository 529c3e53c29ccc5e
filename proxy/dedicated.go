package proxy

import (
	"errors"
	"strconv"
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/upstream"
)

// dedicatedPool has the dedicated connections of a loop.
//
// Invariants: all has every one, spare those of them that no client has; len(all) is bounded
// by the loop's share of servers.max-dedicated. A connection in spare has nothing in flight
// that matters and watches no key.
//
// Why a pool: a connection costs a dial, a handshake and a name that the server must know,
// which is more than most waits take. Why a bound: every client that blocks has one, and a
// server counts them against its maxclients.
type dedicatedPool struct {
	all   map[*dedicated]struct{}
	spare map[dedicatedKey][]*dedicated
}

// dedicated is a server connection that one client has to itself for a while: to watch keys,
// to block, to wait for replicas. It serves any database, and is never used again after
// its connection has ended once: what was bound to that would be lost unseen.
//
// Lifetime: borrowed when a client begins to watch or to block, given back when that is over,
// discarded after spareTime without use, when its connection has ended, or when its group
// goes. A client never shares it.
//
// Invariant: in spare it has no state at the server but the selected database, which db says;
// -1: not known, so that the next use selects.
type dedicated struct {
	pipe  *upstream.Pipe
	key   dedicatedKey
	db    int // selected, when all that was sent has been executed
	since time.Time

	blocks bool // what it was sent may wait for as long as it likes
}

// dedicatedKey: no database: such a connection serves any, one after the other (selecting).
type dedicatedKey struct {
	group string
	proto int
}

// spareTime is how long an unused connection is kept for the next client.
const spareTime = time.Minute

// errDedicatedFull is given when as many clients as may have a server connection each.
var errDedicatedFull = errors.New("connections for blocked and watching clients are all in use (servers.max-dedicated)")

// borrow gives out a connection to a group of the present table.
//
// The newest spare one comes first, since it is the least likely to have been ended by the
// server for idleness. Each loop has its share of the limit: to count over all loops would
// need a lock.
func (l *loop) borrow(group int16, proto int) (*dedicated, error) {
	g := l.table.Upstream(group)
	k := dedicatedKey{g.ID, proto}
	for list := l.dedicated.spare[k]; len(list) > 0; {
		x := list[len(list)-1]
		list = list[:len(list)-1]
		l.dedicated.spare[k] = list
		if x.sound() {
			return x, nil
		}
		l.discard(x)
	}
	o := l.opt
	if len(l.dedicated.all) >= max(o.MaxDedicated/max(o.Loops, 1), 1) {
		return nil, errDedicatedFull
	}
	x := &dedicated{key: k, pipe: upstream.New(g.ID, upstream.Target{Endpoint: g.Endpoint, Proto: proto}, &l.servers.env,
		upstream.Limits{QueueBytes: o.PipeBytes, ReconnectMin: o.ReconnectMin, ReconnectMax: o.ReconnectMax})}
	l.dedicated.all[x] = struct{}{}
	return x, nil
}

// sound reports that x has one connection, which has been there all the time.
//
// A second connection of the pipe would be one on which nothing is watched.
func (x *dedicated) sound() bool { return x.pipe.State() == upstream.Up && x.pipe.Conns() == 1 }

// send sends a block of commands in one database.
func (x *dedicated) send(r *request, db int, b block) {
	frame, before := x.selecting(db, b.frame)
	b.frame, b.before = frame, b.before+before
	r.put(x.pipe, b)
}

// ask sends one command in one database, whose reply is not a request's.
func (x *dedicated) ask(c upstream.Call, db int, frame []byte) {
	frame, before := x.selecting(db, frame)
	x.pipe.SendBlock(c, frame, before, 0)
}

// selecting puts a SELECT in front of a frame where the connection is in another database.
func (x *dedicated) selecting(db int, frame []byte) (out []byte, before int) {
	if db == x.db {
		return frame, 0
	}
	x.db = db
	return append(resp.AppendRequest(nil, []byte("SELECT"), strconv.AppendInt(nil, int64(db), 10)), frame...), 1
}

// giveBack keeps a connection that is in its initial state but for the database.
//
// It may have been discarded meanwhile, with its group: then it is known no more.
func (l *loop) giveBack(x *dedicated) {
	if _, known := l.dedicated.all[x]; !known {
		return
	}
	if !x.sound() || len(l.dedicated.spare[x.key]) >= 64 {
		l.discard(x)
		return
	}
	x.since, x.blocks = l.now, false
	l.dedicated.spare[x.key] = append(l.dedicated.spare[x.key], x)
}

// discard: what was in flight on it fails, now or when the connection has been closed.
func (l *loop) discard(x *dedicated) {
	delete(l.dedicated.all, x)
	x.pipe.Abandon()
}

// trimSpare ends connections that nobody has wanted for long.
func (l *loop) trimSpare() {
	for k, list := range l.dedicated.spare {
		n := 0
		for n < len(list) && l.now.Sub(list[n].since) > spareTime {
			l.discard(list[n])
			n++
		}
		if n == len(list) {
			delete(l.dedicated.spare, k)
		} else {
			l.dedicated.spare[k] = list[n:]
		}
	}
}

// retireDedicated ends the connections to groups that t does not have any more.
//
// What was in flight there fails, and its clients hear of it. A client that watches has
// nothing in flight: at EXEC its connection is not sound any more, and the reply is null.
func (l *loop) retireDedicated() {
	for x := range l.dedicated.all {
		if !l.stays(x.pipe) {
			l.discard(x)
		}
	}
	for k, list := range l.dedicated.spare {
		keep := list[:0]
		for _, x := range list {
			if _, ok := l.dedicated.all[x]; ok {
				keep = append(keep, x)
			}
		}
		l.dedicated.spare[k] = keep
	}
}
