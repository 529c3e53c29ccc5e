package proxy

import (
	"time"

	"keyferry/internal/resp"
	"keyferry/router"
	"keyferry/slotlock"
)

// operation is what makes a request more than one command on a shared connection. Code that
// handles requests of any kind asks the operation for what differs, and never which one it
// is: a new operation needs no change there.
//
// Lifetime: from when the request is made until the last byte of its reply has been taken,
// which is the one place that ends it (request.take). It may make up the reply itself, by
// request.finish.
type operation interface {
	// send puts the request on the wire to a group of the present table, where its keys
	// are. frame is valid during the call only. It is called again if reply or a table leads
	// to another place.
	send(l *loop, r *request, group int16, frame []byte)
	// reply sees the reply before the client does; false: there will be another one, and
	// this is not for the client.
	reply(r *request, b []byte, last bool) bool
	// dropped is told that there will be no reply: a failure, or the client has left
	// while the request was parked. It gives back what the operation holds.
	dropped(r *request)
	// needs is what it needs of a slot that moves.
	needs() needs
	// waits is for how long the client of the request may have to wait.
	waits() wait
	// patient reports that a parked request may wait on at its deadline: waiting is what it
	// came for.
	patient(now time.Time) bool
	// expire ends a parked request as its client expects it, when it is not patient any more;
	// false: it is for the caller to say that the keys did not come in time.
	expire(r *request) bool
	// abandon is told that the client has gone while the request was under way. It frees the
	// request if nobody else will; behind are keys for which others may now go on.
	abandon(r *request) (behind []slotlock.Key)
}

// needs is what an operation needs of a slot that moves.
//
// A plain command needs neither: it runs wherever its keys are.
type needs struct {
	unnamed bool // all keys of the slot at one place, since it uses some that it does not name
	pull    bool // its keys at the target, even if they could be used at the source
}

// wait is for how long a client may have to wait.
//
// Server.Stop waits for clients of the first kind, and for those of the last: what has been
// taken out of a server for a client must reach it. Who may wait for ever is not waited for.
type wait uint8

const (
	waitsForReply wait = iota // of a server, which comes in due time
	waitsForData              // which may never come
	takesData                 // … and may just have been taken out of a server for it
)

// plain is the operation of one command on a shared connection, and what the others don't do
// otherwise.
type plain struct {
	unnamed bool // it uses keys of its slot that it does not name
}

func (plain) send(l *loop, r *request, group int16, frame []byte) {
	r.transmit(l.pipe(group, r.db(), r.s.proto), block{frame: frame})
}

// The rest of plain says that there is nothing to do, so that other operations say only what
// they do.
func (plain) reply(*request, []byte, bool) bool   { return true }
func (plain) dropped(*request)                    {}
func (x plain) needs() needs                      { return needs{unnamed: x.unnamed} }
func (plain) waits() wait                         { return waitsForReply }
func (plain) patient(time.Time) bool              { return false }
func (plain) expire(*request) bool                { return false }
func (plain) abandon(*request) (b []slotlock.Key) { return nil }

// observer hears how a request that was sent to a server has ended, whatever its operation
// is: wakers of those who wait for a key hear of writes by it. Of what each is told exactly
// one, unless the client leaves while the request is parked: then nothing was executed.
type observer interface {
	// answered is told that the server's whole reply has come, of which b is the last piece.
	// The client has not seen that piece yet.
	answered(r *request, b []byte)
	// failed is told that there will be no reply. sent: the server may have executed the
	// command all the same.
	failed(r *request, sent bool)
}

// observe adds one to those of the request. A request without any costs nothing.
func (r *request) observe(o observer) { r.observers = append(r.observers, o) }

// sendTo sends the request to a group of the present table.
func (r *request) sendTo(l *loop, group int16, frame []byte) {
	if r.op == nil {
		plain{}.send(l, r, group, frame)
		return
	}
	r.op.send(l, r, group, frame)
}

// place sends a request to where the keys of one slot are, or parks it until that is known.
//
// For commands about which there is more to know than a slot; plain ones are routed by
// call.keyed. It is also where an operation comes back that has to be asked elsewhere, by the
// table of then.
func (l *loop) place(r *request, db, slot int, keys []slotlock.Key, frame []byte) {
	if r.s.modes.refusing {
		r.giveBack(l.elsewhereError())
		return
	}
	switch l.table.RouteSlot(slot) {
	case router.Serve:
		if via := l.table.Slots[slot].Via; l.table.IsPeer(via) {
			l.sendByPeer(r, db, slot, keys, frame)
		} else {
			r.sendTo(l, via, frame)
		}
	case router.Resolve:
		m := l.newMotion(slot, db)
		m.Keys = keys
		if r.op != nil {
			// Asked now and not when the request was made: a command that blocks is placed again and
			// again.
			n := r.op.needs()
			m.Unnamed, m.Pull = n.unnamed, n.pull
		}
		l.move(r, m, frame)
	default:
		r.giveUp(unservedText(slot))
	}
}

// anywhere sends a request that has no keys to some group.
//
// The first slot that has an owner decides. All such commands of a client so go to one server,
// in their order.
func (l *loop) anywhere(r *request, frame []byte) {
	for slot := range l.table.Slots {
		if g := l.table.Slots[slot].Owner; g >= 0 {
			r.sendTo(l, g, frame)
			return
		}
	}
	r.giveUp(unservedText(0))
}

// giveUp answers a request that can't be sent.
//
// Unlike Fail it is no fault of a connection: the table says that nobody serves the slot.
func (r *request) giveUp(text string) {
	if r.op != nil {
		r.op.dropped(r)
	}
	r.finish(resp.AppendErr(nil, text))
}

// db is the database that a request runs in.
func (r *request) db() int {
	switch {
	case r.motion != nil:
		return r.motion.db
	case r.detour != nil:
		return r.detour.db
	}
	return r.s.db
}
