package proxy

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
	"keyferry/proxy/line"
	"keyferry/router"
	"keyferry/slotlock"
)

// takeFirst is a command that takes from the first of its keys that has anything, BLPOP and
// its like, with keys in more than one slot. No server can be asked that, so the slots are,
// one after the other in the order of the keys, by the command's kin that does not block.
// When none has anything a client that blocks waits here until one of its keys may have;
// see waitlist.go.
//
//	ask slot after slot ─► data ─► client; the next in line for that key asks
//	  ▲            │ nothing
//	  └── a key ── wait ── in due time ─► null ─► client
//
// Each question is an ordinary command on its slot: moves and locks are as for any other.
//
// Who touches it: the loop of its session. It is in waiters.pops from its beginning to its
// end, and in the lines of its keys from the first time that none has anything.
//
// Invariants: at most one question is under way, so that no two servers can both give
// something; r stands in the queue and holds the session, so that nothing overtakes it; every
// way out goes through forget.
//
// An interleaving to know: a key is written to while the questions are asked, behind the one
// on its own slot. Whoever wakes it then finds it asking, and sets again; so it asks once more
// before it waits (nothing).
type takeFirst struct {
	plain
	r        *request // stands in the session's queue and holds it
	db       int
	asks     []question
	at       int      // how many questions have been answered
	from     int      // the question that is asked first
	part     *request // under way
	spot     line.Waiter
	phase    takePhase  // see there
	inLine   bool       // for its keys
	loop     trampoline // of ask
	deadline time.Time  // zero: never

	unblocked unblocked
}

// takePhase is what a takeFirst does.
//
//	firstRound ── nothing ─► waiting ── a key was written to ─► laterRound
//	                            ▲                                   │
//	                            └──────────── nothing ──────────────┘
type takePhase uint8

const (
	firstRound takePhase = iota // asks for the first time: a key of the wrong type is an error
	laterRound                  // … again: such a key counts as not there, as for a client that blocks
	waiting
)

func (x *takeFirst) asking() bool { return x.phase != waiting }

// trampoline keeps what is answered at once, from within, from piling up on the stack.
type trampoline uint8

const (
	notRunning trampoline = iota
	running               // ask is on the stack …
	runningOn             // … and is to go on
)

func (x *takeFirst) blocks() bool { return x.r.cmd.Flags&resp.Blocking != 0 }

func (x *takeFirst) waits() wait {
	switch {
	case !x.blocks():
		return waitsForReply
	case x.asking():
		return takesData
	}
	return waitsForData
}

// question is what one slot is asked.
//
// Its frame is made once, when the client comes: the keys of one slot stay together whatever
// the table says later, and where the slot is at is looked up each time.
type question struct {
	slot  int
	keys  []slotlock.Key
	frame []byte
}

// takeFirst runs such a command. False: not before the commands in front of it have been
// answered.
//
// What is wrong with the arguments is said here, since no server sees them as they are: each
// gets a part.
func (c *call) takeFirst() bool {
	s, cmd, args, keys := c.s, c.cmd, c.args, c.keys
	if s.queue.n > 0 {
		return false
	}
	l := s.l
	x := &takeFirst{db: s.db}
	if cmd.Flags&resp.Blocking != 0 {
		at, _ := cmd.TimeoutArg(args)
		wait, bad := parseTimeout(args[at])
		if bad != "" {
			c.refuse(bad)
			return true
		}
		if wait > 0 {
			x.deadline = l.now.Add(wait)
		}
	}
	if last := keys[len(keys)-1]; last == len(args)-1 && cmd.Kin.CountsKeys() {
		c.refuse("ERR syntax error") // LEFT, RIGHT, MIN or MAX is missing
		return true
	}
	x.cut(l, cmd, args, keys)
	x.r = c.begin()
	s.hold = x.r
	x.r.op = x
	// Before the first question, which may be answered from within and end it.
	l.waiters.pops[x] = struct{}{}
	for _, q := range x.asks {
		x.spot.Keys = append(x.spot.Keys, q.keys...)
	}
	x.spot.Takes = cmd.Group
	x.spot.FD, x.spot.Nudge = s.conn.FD(), func() { l.post(x.attend) }
	l.srv.waits.lines.Enter(&x.spot)
	x.ask()
	return true
}

// timeoutMost is the longest time-out that is counted down, more than two centuries.
const timeoutMost = float64(math.MaxInt64 / int64(time.Second) * 3 / 4)

// parseTimeout reads a time-out in seconds as Redis does; 0: for ever.
func parseTimeout(arg []byte) (wait time.Duration, bad string) {
	f, err := strconv.ParseFloat(string(arg), 64)
	switch {
	case err != nil || math.IsNaN(f):
		return 0, "ERR timeout is not a float or out of range"
	case f*1000 > math.MaxInt64:
		return 0, "ERR timeout is out of range"
	case math.Ceil(f*1000) < 0:
		return 0, "ERR timeout is negative"
	case f > timeoutMost:
		return 0, ""
	}
	return time.Duration(math.Ceil(f*1000)) * time.Millisecond, ""
}

// cut makes the questions: of LMPOP and ZMPOP one for keys of one slot that follow each
// other, of others one for each key.
//
// LMPOP and ZMPOP take several keys themselves, in order, so neighbours of one slot are one
// question. The others are asked key by key: LPOP takes one, and who blocks is served from the key that was
// written to.
func (x *takeFirst) cut(l *loop, cmd *resp.Command, args [][]byte, keys []int) {
	kin, blocks := cmd.Kin, cmd.Flags&resp.Blocking != 0
	many := kin.CountsKeys()
	tail := args[keys[len(keys)-1]+1:]
	for i := 0; i < len(keys); {
		q := question{slot: l.table.Scheme.Slot(args[keys[i]])}
		from := i
		for i++; many && !blocks && i < len(keys) && l.table.Scheme.Slot(args[keys[i]]) == q.slot; i++ {
		}
		request := [][]byte{[]byte(kin.Name)}
		if many {
			request = append(request, strconv.AppendInt(nil, int64(i-from), 10))
		}
		for _, k := range keys[from:i] {
			q.keys = append(q.keys, slotlock.Key{DB: x.db, Name: string(args[k])})
			request = append(request, args[k])
		}
		if many {
			request = append(request, tail...)
		}
		q.frame = resp.AppendRequest(nil, request...)
		x.asks = append(x.asks, q)
	}
}

// ask asks from the question at hand on.
//
// An answer can come from within the send, if there is no connection and none can be made. A
// loop here takes what would else be a call for each question.
func (x *takeFirst) ask() {
	if x.phase == waiting {
		x.phase = laterRound
	}
	if x.loop != notRunning {
		x.loop = runningOn
		return
	}
	for x.loop = runningOn; x.loop == runningOn && x.r != nil; {
		x.loop = running
		x.askOne()
	}
	x.loop = notRunning
}

// askOne: a part is a request of its own in a gather of one, since it is a server's answer and not yet
// the client's reply.
func (x *takeFirst) askOne() {
	s := x.r.s
	l := s.l
	q := &x.asks[(x.from+x.at)%len(x.asks)]
	route := l.table.RouteSlot(q.slot)
	if route == router.Unserved {
		x.end(resp.AppendErr(nil, unservedText(q.slot)))
		return
	}
	x.part = l.newRequest(s, x.r.cmd)
	x.part.g = &gather{r: x.r, join: x.answered, tolerant: true, left: 1, parts: []*request{x.part}}
	if route == router.Resolve || l.table.IsPeer(l.table.Slots[q.slot].Via) {
		l.place(x.part, x.db, q.slot, q.keys, q.frame)
		return
	}
	x.part.transmit(l.pipe(l.table.Slots[q.slot].Via, x.db, s.proto), block{frame: q.frame})
}

// answered takes a server's answer. It is no reply of the client's yet, or the last thing
// that happens to x.
//
// TRYAGAIN counts as nothing: the key is being moved, and will be looked at again. A key of
// another type is an error when the client comes, as in Redis; one that became so while it
// waits is not there for it, and it waits on.
func (x *takeFirst) answered(parts [][]byte) []byte {
	b := parts[0]
	s := x.r.s
	x.part = nil
	q := &x.asks[(x.from+x.at)%len(x.asks)]
	switch {
	case isNull(b), string(b) == "*0\r\n", bytes.HasPrefix(b, []byte("-TRYAGAIN")):
	case x.phase == laterRound && bytes.HasPrefix(b, []byte("-BUSY ")): // who blocks waits on meanwhile
	case b[0] == '-' && (x.phase == firstRound || !bytes.HasPrefix(b, []byte("-WRONGTYPE"))):
		x.end(bytes.Clone(b))
		return nil
	case b[0] == '-': // of another type since: as for a blocked client, not there
	default:
		l := s.l
		x.end(x.form(q, b))
		for _, k := range q.keys {
			// One write may have put several elements there, of which this client took one.
			l.available(k) // to the next in line
		}
		return nil
	}
	if x.at++; x.at < len(x.asks) && s.life < lifeGone {
		x.ask()
		return nil
	}
	x.nothing()
	return nil
}

// form makes the client's reply of the server's.
//
// BLPOP says which key it took from and LPOP does not: it was asked for one key only, so that
// is known here.
func (x *takeFirst) form(q *question, b []byte) []byte {
	n := 2
	switch cmd := x.r.cmd; {
	case cmd.Kin.CountsKeys(): // the reply names the key
		return bytes.Clone(b)
	case cmd.Traits&resp.PopsPairs != 0:
		member, pair := bytes.CutPrefix(b, []byte("*2\r\n"))
		if !pair {
			return badPart()
		}
		n, b = 3, member
	}
	out := redcon.AppendArray(make([]byte, 0, len(b)+len(q.keys[0].Name)+32), n)
	out = redcon.AppendBulkString(out, q.keys[0].Name)
	return append(out, b...)
}

// nothing is told that no key has anything.
//
// The order of the cases: who is to be ended is ended first, then who has reason to ask again
// does so, and only then it waits. Asking again comes before waiting because a wake that came
// while it asked has been used up.
func (x *takeFirst) nothing() {
	s := x.r.s
	x.at, x.from, x.phase = 0, 0, waiting
	switch {
	case x.unblocked == unblockedAsError && s.life < lifeGone:
		x.end(unblockedReply)
	case !x.blocks() || x.unblocked == unblockedAsTimeout || s.life == lifeGone || s.life == lifeHalfClosed || x.late():
		x.endEmpty()
	case !s.l.srv.waits.lines.Waits(&x.spot): // a key was written to while the questions were asked
		x.from = x.questionOf(s.l.srv.waits.lines.WokenBy(&x.spot))
		x.ask()
	default:
		s.l.enterWaitlist(x)
	}
}

// late: only looked at: the tick ends who waits, and an answer who asks.
func (x *takeFirst) late() bool { return !x.deadline.IsZero() && !x.r.s.l.now.Before(x.deadline) }

// endEmpty: the null of an array in both versions, as of BLPOP whose time is over.
func (x *takeFirst) endEmpty() {
	out := x.r.s.reply()
	out.NullArray()
	x.end(out.B)
}

// end gives the client its reply.
func (x *takeFirst) end(reply []byte) {
	r := x.r
	x.forget()
	r.finish(reply)
}

// forget takes x out of everything.
//
// Setting r to nil ends the loop of ask, which may be on the stack below.
func (x *takeFirst) forget() {
	l := x.r.s.l
	delete(l.waiters.pops, x)
	l.srv.waits.lines.Leave(&x.spot)
	l.leaveWaitlist(x)
	x.r = nil
}

// attend does what the line asks for. While clients are paused nobody is served, as by Redis; what
// there is then is found by looking.
func (x *takeFirst) attend() {
	if x.r == nil {
		return
	}
	l := x.r.s.l
	switch l.srv.waits.lines.Next(&x.spot) {
	case line.Gone:
		x.r.s.kill("")
	case line.Ask:
		if x.asking() {
			return
		}
		if l.clients.pause == pauseNone || !l.srv.waits.lines.Waits(&x.spot) {
			x.from = x.questionOf(l.srv.waits.lines.WokenBy(&x.spot))
			x.ask()
		}
	}
}

// questionOf is the question about a key. Who waits is served from the key that was written to, as by Redis,
// though others in front of it may have something by then.
func (x *takeFirst) questionOf(k slotlock.Key) int {
	return max(0, slices.IndexFunc(x.asks, func(q question) bool { return slices.Contains(q.keys, k) }))
}

// abandon ends the wait. What a server has been asked it will answer, as it would a client
// of its own that goes then.
func (x *takeFirst) abandon(r *request) (behind []slotlock.Key) {
	part := x.part
	l := r.s.l
	l.srv.waits.lines.Leaving(&x.spot) // nobody writes to its keys until the question has been answered
	switch {
	case !x.asking():
	// Its question waits for a key. It is withdrawn, so that it takes nothing for nobody.
	case part != nil && part.isParked():
		behind = l.parking.Withdraw(&part.motion.Command)
		l.free(part)
	default:
		return nil
	}
	x.forget()
	l.free(r)
	return behind
}

// unblock is CLIENT UNBLOCK.
func (x *takeFirst) unblock(how unblocked) {
	x.unblocked = how
	x.r.s.l.srv.waits.lines.Leaving(&x.spot)
	if !x.asking() {
		x.nothing()
	}
}
