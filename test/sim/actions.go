package sim

import (
	"errors"
	"fmt"

	"keyferry/migrator"
	"keyferry/slotlock"
)

func lockKey(k string) slotlock.Key { return slotlock.Key{Name: k} }

// ---- clients ----

func (w *World) issue(client int) {
	o := &op{client: client, verb: []string{"set", "set", "del", "get"}[w.rng.IntN(4)], key: keys[w.rng.IntN(len(keys))],
		call: w.now, w: w, life: w.life, bring: w.rng.IntN(5) == 0}
	if o.verb == "set" {
		o.arg = w.nextValue
		w.nextValue++
	}
	w.current[client] = o
	w.history = append(w.history, o)
	w.say("client %d: %s %s %d", client, o.verb, o.key, o.arg)
	w.admit(o)
}

func (w *World) admit(o *op) {
	if w.variant == NoCreated && w.phase == bulk && w.knows && !o.bring && w.forgot[o.key] && w.free(o.key) {
		w.sendOp(o, w.from)
		return
	}
	verdict := w.locks.Admit
	switch {
	case w.left[o.client]:
		w.sendOp(o, sideA)
		return
	case o.bring && o.arg%2 == 0: // like a command that blocks
		verdict = w.locks.Bring
	case o.bring:
		verdict = w.locks.Resolve
	}
	switch verdict(0, []byte(o.key), o) {
	case slotlock.Source:
		o.held = true
		w.sendOp(o, w.from)
	case slotlock.Target:
		w.sendOp(o, w.to)
	default:
		o.state = opParked
	}
}

func (w *World) handleWake(o *op) {
	v := o.wake[0]
	o.wake = o.wake[1:]
	if o.state != opParked {
		if v == slotlock.Source {
			w.locks.Release(lockKey(o.key))
		}
		return
	}
	switch v {
	case slotlock.Source:
		o.held = true
		w.sendOp(o, w.from)
	case slotlock.Target:
		w.sendOp(o, w.to)
	default:
		w.admit(o)
	}
}

func (w *World) sendOp(o *op, to side) {
	o.state = opSent
	w.say("client %d: %s %s goes to %c", o.client, o.verb, o.key, 'A'+to)
	w.send(&w.dataWire[to], to, &command{verb: o.verb, key: o.key, arg: o.arg, op: o})
}

func (w *World) send(slot **wire, to side, c *command) *wire {
	if *slot == nil {
		*slot = &wire{to: to}
		w.wires = append(w.wires, *slot)
	}
	(*slot).queue = append((*slot).queue, c)
	return *slot
}

// finish ends a client's command; answered false: it never learns what came of it.
func (w *World) finish(o *op, answered bool) {
	o.state = opDone
	if answered {
		o.ret = w.now
	}
	if w.current[o.client] == o {
		w.current[o.client] = nil
	}
}

// ---- servers ----

func (w *World) execute(c *wire) {
	cmd := c.queue[0]
	c.queue = c.queue[1:]
	s := w.srv[c.to]
	v := s.data[cmd.key]
	cmd.result, cmd.present = v, v != 0
	switch cmd.verb {
	case "set":
		if cmd.refused = w.full && c.to == sideB; !cmd.refused {
			s.data[cmd.key] = cmd.arg
		}
	case "del":
		delete(s.data, cmd.key)
	case "unlink":
		if v != 0 {
			s.old[cmd.key] = v
		}
		delete(s.data, cmd.key)
	case "restore":
		if cmd.refused = w.full || !w.quiet && w.rng.IntN(12) == 0; cmd.refused {
			break // out of memory
		}
		if v == 0 || cmd.replace {
			s.data[cmd.key] = cmd.arg
			cmd.present = false
		}
	}
	w.say("%c executes %s %s %d: had %d", 'A'+c.to, cmd.verb, cmd.key, cmd.arg, v)
	c.replies = append(c.replies, cmd)
}

func (w *World) deliver(c *wire) {
	cmd := c.replies[0]
	c.replies = c.replies[1:]
	if o := cmd.op; o != nil {
		o.result = cmd.result
		if o.held {
			o.held = false
			w.locks.Release(lockKey(o.key))
		}
		w.say("client %d: %s %s answered %d, refused %v", o.client, o.verb, o.key, o.result, cmd.refused)
		o.refused = cmd.refused
		w.finish(o, true)
		return
	}
	w.answered(cmd)
}

// breakWire loses a connection at the gateway's end: what is in its queue can still be
// executed until it is fenced.
func (w *World) breakWire() {
	slots := []**wire{&w.dataWire[0], &w.dataWire[1], &w.moverWire[0], &w.moverWire[1]}
	slot := slots[w.rng.IntN(len(slots))]
	c := *slot
	if c == nil {
		return
	}
	*slot = nil
	w.say("connection to %c lost", 'A'+c.to)
	w.lose(c)
}

func (w *World) lose(c *wire) {
	c.broken = true
	for _, cmd := range append(append([]*command(nil), c.replies...), c.queue...) {
		if o := cmd.op; o != nil {
			if o.held {
				o.held = false
				w.lossHolds[c] = append(w.lossHolds[c], o.key)
			}
			w.finish(o, false)
			continue
		}
		m := cmd.move
		m.busy = false
		m.fence = c
		w.next(m, migrator.Unknown)
	}
	c.replies = nil
}

func (w *World) fenceLoss(c *wire) {
	w.say("fence a data connection to %c", 'A'+c.to)
	c.fenced, c.queue = true, nil
	for _, k := range w.lossHolds[c] {
		w.locks.Release(lockKey(k))
	}
	delete(w.lossHolds, c)
}

// ---- mover ----

// scan locks a key that a pass has come by. Pages of SCAN show keys twice, and keys that
// have left since.
func (w *World) scan() {
	k := keys[w.rng.IntN(len(keys))]
	if (w.srv[w.from].data[k] != 0 || w.rng.IntN(16) == 0) && w.locks.TryLock(lockKey(k)) {
		w.moves = append(w.moves, &move{key: k})
	}
}

func (w *World) take() {
	for _, k := range w.locks.Take(1) {
		w.moves = append(w.moves, &move{key: k.Name})
	}
}

func (w *World) advance(m *move) {
	ask := func(to side, verb string, arg int) {
		m.busy = true
		w.send(&w.moverWire[to], to, &command{verb: verb, key: m.key, arg: arg, replace: w.variant == SourceWins, move: m})
	}
	switch m.step {
	case migrator.Read:
		ask(w.from, "read", 0)
	case migrator.Restore:
		ask(w.to, "restore", m.value)
	case migrator.FenceTarget, migrator.FenceSource:
		if w.fails() {
			w.next(m, migrator.Unknown)
			return
		}
		if w.variant != NoFence {
			m.fence.fenced, m.fence.queue = true, nil
		}
		w.next(m, migrator.OK)
	case migrator.Probe:
		ask(w.to, "exists", 0)
	case migrator.Persist:
		if w.fails() {
			w.next(m, migrator.Unknown)
			return
		}
		w.next(m, migrator.OK)
		if w.variant == EarlyUnlock {
			w.send(&w.moverWire[w.from], w.from, &command{verb: "unlink", key: m.key, move: &move{key: m.key, step: migrator.Committed}})
			w.next(m, migrator.OK)
		}
	case migrator.Unlink:
		ask(w.from, "unlink", 0)
	}
}

// answered is a reply to the mover.
func (w *World) answered(cmd *command) {
	m := cmd.move
	if m.step.Final() {
		return // EarlyUnlock's
	}
	m.busy = false
	out := migrator.OK
	switch cmd.verb {
	case "read":
		m.value = cmd.result
		stale := w.srv[w.from].runID != w.runID && w.locks.Moved(lockKey(m.key)) && w.variant != NoAmnesia
		switch {
		case !cmd.present:
			out = migrator.Absent
		case stale:
			out = migrator.Stale
		}
	case "restore":
		switch {
		case cmd.refused:
			out = migrator.Refused
		case cmd.present && !cmd.replace:
			out = migrator.Busy
		}
	case "exists":
		if !cmd.present {
			out = migrator.Absent
		}
	}
	w.next(m, out)
}

func (w *World) next(m *move, out migrator.Outcome) {
	if m.step.Final() {
		return
	}
	from := m.step
	m.step = m.step.Next(out)
	if out == migrator.Unknown && w.phase == sweeping && m.sweeps {
		w.sweepAgain() // the pass fails with the batch
	}
	w.say("move %s: %s, %s → %s", m.key, from, out, m.step)
	switch m.step {
	case migrator.Committed:
		w.forgot[m.key] = out == migrator.Absent && !w.locks.Moved(lockKey(m.key))
		w.locks.Commit(lockKey(m.key))
	case migrator.Stays:
		w.locks.Abort(lockKey(m.key), true)
	case migrator.Released:
		w.locks.Abort(lockKey(m.key), false)
	default:
		return
	}
	for i := range w.moves {
		if w.moves[i] == m {
			w.moves = append(w.moves[:i], w.moves[i+1:]...)
			return
		}
	}
}

// prove flips when a pass finds nothing: it stands for a whole pass of the tail phase, and
// of the way back.
func (w *World) prove() {
	if w.locks.Stats().Holds == 0 && len(w.moves) == 0 && len(w.srv[w.from].data) == 0 {
		w.say("proof: %c is empty; flip", 'A'+w.from)
		w.locks.SetMode(slotlock.AllTarget)
		w.phase = flipped
	}
}

// ---- invariants ----

// check is done after every step.
func (w *World) check() error {
	if !w.up || w.amnesia || w.phase == flipped || w.phase == cancelled {
		return nil
	}
	for _, k := range keys {
		if w.srv[sideA].data[k] != 0 && w.srv[sideB].data[k] != 0 && w.free(k) {
			return fmt.Errorf("key %s is on both sides and its lock is free", k)
		}
	}
	return nil
}

// free reports whether nobody holds, wants or moves k. After a crash a key in doubt is on
// both sides until it is touched, so only this incarnation's keys count.
func (w *World) free(k string) bool {
	if w.crashed {
		return false
	}
	if !w.locks.TryLock(lockKey(k)) {
		return false
	}
	w.locks.Abort(lockKey(k), false)
	return true
}

// final is checked at the end: all is in one place, the one where a job of this end leaves
// it, and every client saw a history that one correct server could have shown.
func (w *World) final() error {
	home := w.to
	if w.phase == cancelled {
		home = sideA
	}
	if other := w.srv[1-home]; len(other.data) > 0 {
		return fmt.Errorf("%c, which has no slot, holds %v", 'B'-home, other.data)
	}
	for _, k := range keys {
		w.now++
		w.history = append(w.history, &op{client: 8, verb: "get", key: k, call: w.now, ret: w.now + 1, result: w.srv[home].data[k], state: opDone})
		w.now++
		if !linearizable(w.history, k, w.now) {
			return errors.New("key " + k + ": what the clients saw is not what one server would have shown")
		}
	}
	return nil
}
