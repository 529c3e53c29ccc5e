package sim

import (
	"slices"

	"keyferry/migrator/keymove"
	"keyferry/proxy/parking"
)

type side uint8

const (
	sideA side = iota
	sideB
)

func (s side) String() string { return [...]string{"A", "B"}[s] }

func sideOf(group string) side {
	if group == "A" {
		return sideA
	}
	return sideB
}

// server is one Redis: values by key; 0 is no key. It never fails here but by restarting from an old
// dump: to the gateway a server that has died is a connection that is lost.
type server struct {
	data  map[string]int
	old   map[string]int // the last value of keys that were unlinked by a move
	runID int
}

// wire is one connection of one incarnation of the gateway. Each loop has one to each side, and
// so has the mover; a broken one is replaced by the next command.
type wire struct {
	to       side
	loop     *loop           // whose it is; nil: the mover's
	queue    []*command      // sent, not executed
	replies  []*command      // executed, not delivered
	sent     int             // commands, ever
	answered int             // … with their replies delivered
	broken   bool            // the gateway has given it up
	fenced   bool            // the server has: nothing of it can be executed any more
	holds    []parking.Holds // of commands that died with it, until it is fenced
}

// command is one of a client, or of the mover. A server executes it as a whole: all of its keys are
// there at that moment, or none.
type command struct {
	verb    string // set, del, get, read, restore, exists, unlink
	keys    []string
	args    []int
	results []int // what was there
	replace bool
	refused bool
	op      *op   // a client's
	move    *move // the mover's
}

// serverActs are the servers' and the network's. A connection that the gateway has lost goes on
// being executed until it is fenced, and the gateway fences those of its loops on its own.
func (w *World) serverActs(add func(int, func())) {
	for _, c := range w.wires {
		if len(c.queue) > 0 && !c.fenced && (c.to == sideA || !w.slow || w.rng.IntN(10) == 0) {
			add(3, func() { w.execute(c) })
		}
		if len(c.replies) > 0 && !c.broken {
			add(3, func() { w.deliver(c) })
		}
		if c.loop != nil && c.broken && !c.fenced && w.up {
			add(1, func() { w.fence(c) })
		}
	}
}

// send puts a command on a connection, which is made if there is none.
func (w *World) send(slot **wire, to side, l *loop, c *command) {
	if *slot == nil {
		*slot = &wire{to: to, loop: l}
		w.wires = append(w.wires, *slot)
	}
	(*slot).queue = append((*slot).queue, c)
	(*slot).sent++
}

// execute has a server execute the oldest command of a connection.
func (w *World) execute(c *wire) {
	cmd := c.queue[0]
	c.queue = c.queue[1:]
	s := w.srv[c.to]
	cmd.results = nil
	for _, k := range cmd.keys {
		cmd.results = append(cmd.results, s.data[k])
	}
	switch cmd.verb {
	case "set":
		cmd.refused = w.full && c.to == sideB
	case "restore":
		cmd.refused = w.full || !w.quiet && w.rng.IntN(12) == 0 // out of memory
	}
	if !cmd.refused {
		for i, k := range cmd.keys {
			s.apply(cmd, i, k)
		}
	}
	if cmd.op != nil {
		cmd.op.executed = w.now
	}
	w.say("%v executes %s %v %v: had %v", c.to, cmd.verb, cmd.keys, cmd.args, cmd.results)
	c.replies = append(c.replies, cmd)
}

// apply does to one key what the command says. What was there is in results already.
func (s *server) apply(cmd *command, i int, k string) {
	v := cmd.results[i]
	switch cmd.verb {
	case "set":
		s.data[k] = cmd.args[i]
	case "del":
		delete(s.data, k)
	case "unlink":
		if v != 0 {
			s.old[k] = v
		}
		delete(s.data, k)
	case "restore":
		if v == 0 || cmd.replace {
			s.data[k] = cmd.args[i]
			cmd.results[i] = 0
		}
	}
}

// deliver hands the oldest reply of a connection to the gateway.
func (w *World) deliver(c *wire) {
	cmd := c.replies[0]
	c.replies = c.replies[1:]
	c.answered++
	if cmd.op != nil {
		w.replied(cmd)
		return
	}
	w.answered(cmd)
}

// breakWire loses a connection at the gateway's end: what is in its queue can still be
// executed until it is fenced.
func (w *World) breakWire() {
	slots := []**wire{&w.moverWire[0], &w.moverWire[1]}
	for _, l := range w.loops {
		slots = append(slots, &l.wires[0], &l.wires[1])
	}
	slot := slots[w.rng.IntN(len(slots))]
	c := *slot
	if c == nil {
		return
	}
	*slot = nil
	w.say("connection to %v lost", c.to)
	w.lose(c)
}

// lose fails what was in flight on a connection. The keys of its commands stay held, since they
// may still be executed; see cut.
func (w *World) lose(c *wire) {
	c.broken = true
	for _, cmd := range slices.Concat(c.replies, c.queue) {
		if o := cmd.op; o != nil {
			c.holds = append(c.holds, o.HandOver())
			w.finish(o, false)
			continue
		}
		m := cmd.move
		m.busy = false
		m.fence = c
		w.next(m, keymove.Unknown)
	}
	c.replies = nil
}

// fence ends a data connection for good.
func (w *World) fence(c *wire) {
	w.say("fence a data connection to %v", c.to)
	w.cut(c)
}

// cut: nothing of a connection is executed from here on. So what its commands held can be given
// back: whether they ran or not, they no longer can.
func (w *World) cut(c *wire) {
	c.fenced, c.queue = true, nil
	for _, h := range c.holds {
		h.Release()
	}
	c.holds = nil
}

// wireMark is the place behind all that a connection has been sent.
type wireMark struct {
	wire *wire
	at   int
}

// Answered implements parking.Mark. A broken connection counts only when it is fenced: what it had
// been sent may be executed until then. (The replies of a connection come in order, so that a
// number is enough.)
func (m wireMark) Answered() bool {
	return m.wire.fenced || !m.wire.broken && m.wire.answered >= m.at
}

// marks are those of a loop's connections to one side.
func (w *World) marks(l *loop, to side) (marks []parking.Mark) {
	for _, c := range w.wires {
		if m := (wireMark{c, c.sent}); c.loop == l && c.to == to && !m.Answered() {
			marks = append(marks, m)
		}
	}
	return marks
}
