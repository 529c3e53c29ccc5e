package proxy

import (
	"bytes"
	"sync/atomic"

	"keyferry/internal/resp"
	"keyferry/internal/transport"
	"keyferry/proxy/pubsub"
)

// speech is what the loop's clients say to others: messages, and whatever else a command of theirs
// leads servers to tell those who listen. A plain Redis runs one command at a time, and what it has to
// say of one is with the listeners before anybody has the reply. Here there are several servers and
// loops, and each does its own. So:
//
//	before   a command that is to say something waits until all that clients had sent before it has
//	         been taken by the loops, and its own client's commands have been answered
//	after    a command that may have said something is answered when that is with the loops
//
//	PUBLISH ─► say ─► CatchUp ─► hub.Publish ────────────────────────► Done ─► reply
//	EVAL    ─► say ─► CatchUp ─► hub.Synced ─► server ─► unheard ─► hub.Heard ─► reply
//	SET     ─────────────────────────────────► server ─► unheard ─► hub.Heard ─► reply
//
// Nobody who does not speak waits, and a write only while somebody listens to keyspace events or
// tracks.
//
// Who touches it: the loop's goroutine.
//
// Invariants: what is said goes out in the order of say; and a request in unheard has given back its
// holds, and is ended by the hub alone.
type speech struct {
	waiting  []func() // to be said when the loops have caught up
	catching bool     // … with what was said before those
	unheard  map[string][]unheard
}

// unheard is a reply that waits for what a group's server has said of its command. b is its last piece,
// or all of it, if there are messages of a transaction to be counted.
type unheard struct {
	r *request
	b []byte
	x *published
}

// say runs f when every loop has taken what clients had sent until now. A SUBSCRIBE for whose reply
// nobody waits is so in front of the PUBLISH that another client has sent behind it.
func (l *loop) say(f func()) {
	l.speech.waiting = append(l.speech.waiting, f)
	l.arm()
}

// sayByScript is say for a command that goes to a server by itself: the subscriptions of those who
// were in front have to be confirmed there.
func (l *loop) sayByScript(r *request, send func()) {
	then := func() {
		if r.s.life < lifeGone {
			send()
			return
		}
		if r.op != nil {
			r.op.dropped(r)
		}
		r.finish(nil)
	}
	l.say(func() {
		if !l.srv.hub.Synced(l, then) {
			then()
		}
	})
}

func (x *speech) isDue() bool { return len(x.waiting) > 0 && !x.catching || len(x.unheard) > 0 }

// speak is a part of turn: it begins what is due. One catching up at a time, so that what is said
// goes out in the order of say; what comes meanwhile shares the next one. All replies of a turn that
// wait for one group share a PING.
func (l *loop) speak() {
	x := &l.speech
	if len(x.waiting) > 0 && !x.catching {
		list := x.waiting
		x.waiting, x.catching = nil, true
		l.catchUp(func() {
			x.catching = false
			for _, f := range list {
				f()
			}
			l.arm()
		})
	}
	for group, list := range x.unheard {
		delete(x.unheard, group)
		then := func() {
			for _, u := range list {
				if u.x != nil {
					u.b = u.x.counted(l, u.b)
				}
				u.r.take(u.b, true)
			}
		}
		then = l.passedOn(l.passedOn(then))
		for _, g := range l.heardOf(group) {
			next := then
			then = func() {
				if !l.srv.hub.Heard(l, g, next) {
					next()
				}
			}
		}
		then()
	}
}

// passedOn has f wait until what is in the mail of the loops has been passed on to other loops, where
// clients track for clients of those (REDIRECT).
//
//	hub ─► loop of the reader ─► loop of whom it tells ─► its mail is read before its next input
//	hub ─► loop of the writer ─► a word to all loops ─► f
//
// Twice, since a reader is told that whom it tells has gone.
func (l *loop) passedOn(f func()) func() {
	if l.srv.clients.redirects.Load() == 0 {
		return f
	}
	return func() {
		loops := l.srv.allLoops()
		left := new(atomic.Int64)
		left.Store(int64(len(loops)))
		for _, x := range loops {
			x.post(func() {
				if left.Add(-1) == 0 {
					l.post(f)
				}
			})
		}
	}
}

// catchUp: f may be run before it returns, and mostly is.
func (l *loop) catchUp(f func()) {
	if eng, ok := l.srv.eng.Load().(transport.Engine); ok {
		eng.CatchUp(l.el, f)
		return
	}
	f() // the first client came before Start returned
}

// mayBeHeard reports that somebody may listen to what the command has led its server to say.
//
// It is asked of each command, when it has been answered and not when it was sent: who began to
// listen in between may have been told of it. PUBLISH is not asked: its reply comes by the feed.
func (r *request) mayBeHeard() bool {
	x := r.s.l.srv.hub.Listens()
	if x == 0 || r.cmd == nil || r.pipe == nil {
		return false
	}
	return r.cmd.Serve == resp.Script || r.cmd == execCommand || r.cmd.Flags&resp.Write != 0 && x&(pubsub.ListensToEvents|pubsub.ListensToChanges) != 0
}

// waitUntilHeard keeps the end of a reply until what was said of the command is with the loops. The
// session's queue keeps what stands behind it.
//
// The request is no operation any more: a teardown must not end what the hub will end.
func (r *request) waitUntilHeard(b []byte, x *published) {
	r.op = nil // it has had its say
	l := r.s.l
	l.speech.unheard[r.pipe.Group] = append(l.speech.unheard[r.pipe.Group], unheard{r, bytes.Clone(b), x})
	l.arm()
}
