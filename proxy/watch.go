package proxy

import (
	"keyferry/internal/resp"
	"keyferry/slotlock"
)

// watch is the connection that has a client's watched keys, and these.
//
// Lifetime: from the first WATCH to UNWATCH, EXEC, DISCARD, RESET or the end of the client.
//
// The server notices every change of a key that it has, also the UNLINK by which a key moves
// away. What it can't notice is looked for by EXEC.
type watch struct {
	on    *dedicated
	slot  int
	epoch uint64 // of the table when the first key was watched
	keys  []slotlock.Key
	asked bool // a WATCH is under way on the connection: its reply, and not teardown, gives that back
	lost  bool // what was watched may have changed unseen: EXEC answers null
}

// unwatch is UNWATCH. Inside MULTI it is refused: what it would end is the watch of the
// transaction that it is part of.
func (c *call) unwatch() {
	c.s.unwatch()
	c.answer(okReply)
}

// unwatch forgets what the client watches, and gives the connection back.
func (s *session) unwatch() {
	w := s.watch
	if w == nil {
		return
	}
	s.watch = nil
	s.l.giveBackWatching(w.on)
}

// giveBackWatching is giveBack of a connection that may watch keys.
//
// The UNWATCH goes in front of whatever the next client sends on it; a connection with
// somebody's watch on it would abort that client's transactions for no reason.
func (l *loop) giveBackWatching(on *dedicated) {
	if on.sound() {
		on.pipe.Send(ignored{}, []byte("*1\r\n$7\r\nUNWATCH\r\n"))
	}
	l.giveBack(on)
}

// watch sends WATCH on the client's own connection, which it gets for it.
//
// The client's first WATCH gets it a connection; further ones must be of the same slot, since
// one connection leads to one server. It runs alone: EXEC protects what was read after WATCH.
func (c *call) watch() bool {
	s, args, index := c.s, c.args, c.keys
	switch {
	case s.tx != nil:
		c.reject("ERR WATCH inside MULTI is not allowed")
		return true
	case s.queue.n > 0:
		return false // a read that is answered before has not been protected
	}
	l := s.l
	slot := l.table.Scheme.Slot(args[1])
	for _, k := range index[1:] {
		if l.table.Scheme.Slot(args[k]) != slot {
			c.reject(crossSlotText)
			return true
		}
	}
	if s.watch != nil && s.watch.slot != slot {
		c.reject(crossSlotText)
		return true
	}
	var keys []slotlock.Key
	for _, k := range index {
		keys = append(keys, slotlock.Key{DB: s.db, Name: string(args[k])})
	}
	r := c.begin()
	r.op = &watching{keys: keys, slot: slot, epoch: l.table.Epoch}
	s.hold = r
	l.place(r, s.db, slot, keys, resp.AppendRequest(nil, args...))
	return true
}

// watching is a WATCH under way.
type watching struct {
	plain
	keys  []slotlock.Key
	slot  int
	epoch uint64
}

// send: if what was watched before is lost already, nothing more needs watching: EXEC will answer
// null. But the WATCH is answered OK, as it would be by a server that has noticed a change.
func (x *watching) send(l *loop, r *request, group int16, frame []byte) {
	s := r.s
	w := s.watch
	if w == nil {
		on, err := l.borrow(group, s.proto)
		if err != nil {
			r.Fail(err, false)
			return
		}
		w = &watch{on: on, slot: x.slot, epoch: x.epoch}
		s.watch = w
		// The slot has moved between two WATCHes: what the first has watched is elsewhere.
	} else if w.on.key.group != l.table.Upstream(group).ID || !w.on.sound() {
		w.lost = true
	}
	w.keys = append(w.keys, x.keys...)
	if w.lost {
		r.finish(okReply)
		return
	}
	w.asked = true
	w.on.send(r, r.db(), block{frame: frame})
}

func (x *watching) reply(r *request, b []byte, last bool) bool {
	if last {
		x.over(r)
	}
	return true
}

// dropped: the WATCH may have been executed or not. Whoever can't tell has to answer null.
func (x *watching) dropped(r *request) {
	if w := r.s.watch; w != nil {
		w.lost = true
	}
	x.over(r)
}

// over is told that the WATCH is at no server any more.
func (x *watching) over(r *request) {
	if w := r.s.watch; w != nil {
		w.asked = false
	}
	if r.s.life == lifeGone {
		r.s.unwatch()
	}
}
