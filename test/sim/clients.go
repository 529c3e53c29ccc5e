package sim

import (
	"fmt"
	"slices"
	"time"

	"keyferry/proxy/parking"
	"keyferry/slotlock"
)

func lockKey(k string) slotlock.Key { return slotlock.Key{Name: k} }

// client is one connection of a client. It sends on before it is answered: only so can it see
// whether its commands keep their order.
type client struct {
	id   int
	loop *loop
	ops  []*op // without an answer, in the order in which they were sent
	done []*op // answered; see inOrder
}

// pipelined is how many commands a client has under way at most.
const pipelined = 3

type opState uint8

const (
	opParked opState = iota // or has just come
	opSent
	opDone
)

// op is one command of a client, and an event in the history. While the slot moves it is a
// parking.Command as well.
type op struct {
	parking.Command
	w       *World
	client  *client
	seq     int // of the client's commands
	verb    string
	keys    []string
	args    []int
	results []int
	call    int // logical times
	ret     int // 0: never answered

	state    opState
	patient  bool // waits on at its deadline
	executed int  // when a server did
	refused  bool // it was not executed: the server said no, or the gateway
}

func (o *op) String() string {
	return fmt.Sprintf("client %d: %s %v %v", o.client.id, o.verb, o.keys, o.args)
}

// connect makes a client of one of the loops. What its predecessor had sent is no earlier command
// of its own.
func (w *World) connect(i int) {
	w.clients[i] = &client{id: i, loop: w.loops[i%len(w.loops)]}
}

// clientActs: clients send until the calm, and seldom leave.
func (w *World) clientActs(add func(int, func())) {
	if w.quiet {
		return
	}
	for i, c := range w.clients {
		if len(c.ops) == 0 || len(c.ops) < pipelined && w.rng.IntN(3) == 0 {
			add(1, func() { w.issue(c) })
		}
		if len(c.ops) > 0 && w.rng.IntN(24) == 0 {
			add(1, func() { w.hangUp(i) })
		}
	}
}

// issue has a client send a command: two in three have one key, the others both, in any order.
// No value is written twice, so that a history tells which write a read has seen.
func (w *World) issue(c *client) {
	o := &op{w: w, client: c, seq: w.now, verb: []string{"set", "set", "del", "get"}[w.rng.IntN(4)], call: w.now, patient: w.rng.IntN(4) == 0}
	first := w.rng.IntN(len(keys))
	o.keys = []string{keys[first]}
	if w.rng.IntN(3) == 0 {
		o.keys = append(o.keys, keys[1-first])
	}
	for range o.keys {
		o.args = append(o.args, w.nextValue)
		w.nextValue++
	}
	c.ops = append(c.ops, o)
	w.history = append(w.history, o)
	w.say("%v", o)
	w.route(o)
}

// route sends a command by the table of its loop: without a lock where the slot does not move, else
// by the Lot. This is what proxy does between the router and parking.
func (w *World) route(o *op) {
	l := o.client.loop
	route, moves := l.table.Route(0)
	if !moves {
		w.sendOp(o, l.table.owner)
		return
	}
	o.Route, o.Request = route, o
	for _, k := range o.keys {
		o.Keys = append(o.Keys, lockKey(k))
	}
	o.Pull = w.rng.IntN(5) == 0 // like a command that blocks
	if w.variant == NoCreated && w.phase == bulk && w.knows && !o.Pull && len(o.keys) == 1 && w.forgot[o.keys[0]] && w.free(o.keys[0]) {
		w.sendOp(o, w.from)
		return
	}
	moved := slices.ContainsFunc(o.Keys, w.locks.Moved)
	if l.lot.Enter(&o.Command, []byte(o.String()), w.time()) {
		w.say("%v waits", o)
		w.met.parking.waited = true
		w.met.parking.both = w.met.parking.both || moved && slices.ContainsFunc(o.Keys, func(k slotlock.Key) bool { return !w.locks.Moved(k) })
	}
}

// Run implements parking.Request. Each wrong call of the Lot is a failure of its own, so that it
// is seen also where it does no harm.
func (o *op) Run(at slotlock.Verdict, frame []byte) {
	w := o.w
	switch {
	case o.state != opParked:
		w.fail(fmt.Errorf("%v runs twice, or after its end", o))
	case at == slotlock.Full:
		w.met.parking.overfull = true
		w.refuse(o)
	case string(frame) != o.String():
		w.fail(fmt.Errorf("%v runs with the frame %q", o, frame))
	case at == slotlock.Source:
		w.sendOp(o, sideOf(o.Source))
	default:
		w.sendOp(o, sideOf(o.Target))
	}
}

// Patient implements parking.Request: some of the commands are like clients that block.
func (o *op) Patient(time.Time) bool { return o.patient }

// Expired implements parking.Request.
func (o *op) Expired() {
	if o.state != opParked {
		o.w.fail(fmt.Errorf("%v expires after its end", o))
	}
	o.w.met.parking.expired = true
	o.w.refuse(o)
}

// refuse answers a command that is not executed: -TRYAGAIN.
func (w *World) refuse(o *op) {
	w.say("%v is refused by the gateway", o)
	o.refused = true
	w.finish(o, true)
}

// sendOp puts a command on its loop's connection to a side. What it holds it keeps until it is
// answered, or the connection is fenced.
func (w *World) sendOp(o *op, to side) {
	o.state = opSent
	w.say("%v goes to %v", o, to)
	l := o.client.loop
	w.send(&l.wires[to], to, l, &command{verb: o.verb, keys: o.keys, args: o.args, op: o})
}

// replied is a reply to a client, who may have gone. The holds end with the reply, and not with
// the client.
func (w *World) replied(cmd *command) {
	o := cmd.op
	o.Release()
	if o.state == opDone {
		return
	}
	o.results, o.refused = cmd.results, cmd.refused
	w.say("%v answered %v, refused %v", o, o.results, o.refused)
	w.finish(o, true)
	w.inOrder(o)
}

// inOrder fails if a server has executed two commands of one client on one key in another
// order than that in which they were sent. A command without an answer may be executed at
// any time.
func (w *World) inOrder(o *op) {
	if o.refused {
		return
	}
	for _, p := range o.client.done {
		shared := slices.ContainsFunc(p.keys, func(k string) bool { return slices.Contains(o.keys, k) })
		if shared && (p.seq < o.seq) != (p.executed < o.executed) {
			w.fail(fmt.Errorf("%v and %v were executed in the wrong order", p, o))
		}
	}
	o.client.done = append(o.client.done, o)
}

// finish ends a client's command; answered false: it never learns what came of it.
func (w *World) finish(o *op, answered bool) {
	o.state = opDone
	if answered {
		o.ret = w.now
	}
	o.client.ops = slices.DeleteFunc(o.client.ops, func(p *op) bool { return p == o })
}

// hangUp has a client go, as proxy's sessions do: its parked commands are withdrawn, and only
// then those behind them go on. Another takes its place.
func (w *World) hangUp(i int) {
	c := w.clients[i]
	w.say("client %d leaves", i)
	var behind []slotlock.Key
	for _, o := range slices.Clone(c.ops) {
		if o.state == opParked {
			behind = append(behind, c.loop.lot.Withdraw(&o.Command)...)
			o.refused = true // it never ran
			w.met.parking.left = true
		}
		w.finish(o, false)
	}
	w.connect(i)
	c.loop.lot.Resume(behind)
}
