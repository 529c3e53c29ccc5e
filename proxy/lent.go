package proxy

import (
	"errors"
	"strconv"
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/upstream"
)

// lent is a server connection that one client has to itself for a while: to watch keys,
// to block, to wait for replicas. It serves any database, and is never used again after
// its connection has ended once: what was bound to that would be lost unseen.
type lent struct {
	pipe  *upstream.Pipe
	key   lentKey
	db    int // selected, when all that was sent has been executed
	since time.Time

	blocks bool // what it was sent may wait for as long as it likes
}

type lentKey struct {
	group string
	proto int
}

// spareTime is how long an unused connection is kept for the next client.
const spareTime = time.Minute

// errLentFull is given when as many clients as may have a server connection each.
var errLentFull = errors.New("connections for blocked and watching clients are all in use (servers.max-dedicated)")

// borrow gives out a connection to a group of the present table.
func (l *loop) borrow(group int16, proto int) (*lent, error) {
	g := &l.table.Groups[group]
	k := lentKey{g.ID, proto}
	for list := l.spare[k]; len(list) > 0; {
		x := list[len(list)-1]
		list = list[:len(list)-1]
		l.spare[k] = list
		if x.sound() {
			return x, nil
		}
		l.discard(x)
	}
	o := l.opt
	if len(l.lents) >= max(o.MaxDedicated/max(o.Loops, 1), 1) {
		return nil, errLentFull
	}
	x := &lent{key: k, pipe: upstream.New(g.ID, upstream.Target{Endpoint: g.Endpoint, Proto: proto}, &l.env,
		upstream.Limits{QueueBytes: o.PipeBytes, ReconnectMin: o.ReconnectMin, ReconnectMax: o.ReconnectMax})}
	l.lents[x] = struct{}{}
	return x, nil
}

// sound reports that x has one connection, which has been there all the time.
func (x *lent) sound() bool { return x.pipe.State() == upstream.Up && x.pipe.Conns() == 1 }

// send sends a block of commands in one database.
func (x *lent) send(r *request, db int, b block) {
	frame, before := x.selecting(db, b.frame)
	b.frame, b.before = frame, b.before+before
	r.put(x.pipe, b)
}

// ask sends one command in one database, whose reply is not a request's.
func (x *lent) ask(c upstream.Call, db int, frame []byte) {
	frame, before := x.selecting(db, frame)
	x.pipe.SendBlock(c, frame, before, 0)
}

// selecting puts a SELECT in front of a frame where the connection is in another database.
func (x *lent) selecting(db int, frame []byte) (out []byte, before int) {
	if db == x.db {
		return frame, 0
	}
	x.db = db
	return append(resp.AppendRequest(nil, []byte("SELECT"), strconv.AppendInt(nil, int64(db), 10)), frame...), 1
}

// giveBack keeps a connection that is in its initial state but for the database.
func (l *loop) giveBack(x *lent) {
	if _, known := l.lents[x]; !known {
		return
	}
	if !x.sound() || len(l.spare[x.key]) >= 64 {
		l.discard(x)
		return
	}
	x.since, x.blocks = l.now, false
	l.spare[x.key] = append(l.spare[x.key], x)
}

func (l *loop) discard(x *lent) {
	delete(l.lents, x)
	x.pipe.Abandon()
}

// trimSpare ends connections that nobody has wanted for long.
func (l *loop) trimSpare() {
	for k, list := range l.spare {
		n := 0
		for n < len(list) && l.now.Sub(list[n].since) > spareTime {
			l.discard(list[n])
			n++
		}
		if n == len(list) {
			delete(l.spare, k)
		} else {
			l.spare[k] = list[n:]
		}
	}
}

// retireLent ends the connections to groups that t does not have any more.
func (l *loop) retireLent() {
	for x := range l.lents {
		if !l.stays(x.pipe) {
			l.discard(x)
		}
	}
	for k, list := range l.spare {
		keep := list[:0]
		for _, x := range list {
			if _, ok := l.lents[x]; ok {
				keep = append(keep, x)
			}
		}
		l.spare[k] = keep
	}
}
