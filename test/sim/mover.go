package sim

import (
	"keyferry/migrator/keymove"
	"keyferry/slotlock"
)

// move is the move of one key. The mover has its lock from the beginning to the end, which is
// when step is final. A crash forgets it: what it has done at the servers stays.
type move struct {
	key    string
	step   keymove.MoveStep
	value  int
	busy   bool // a command of it is under way
	sweeps bool // it is of the sweep before a reversal, whose pass fails with it
	fence  *wire
}

// moverActs are the passes and the moves under way. In which phases the real runner makes passes
// is jobActs' business, except that what clients have touched is always moved.
func (w *World) moverActs(add func(int, func())) {
	for _, m := range w.moves {
		if !m.busy {
			add(2, func() { w.advance(m) })
		}
	}
	if w.phase == stable {
		return
	}
	add(1, w.take)
	switch w.phase {
	case bulk, tail, back:
		add(1, w.scan)
	}
}

// scan locks a key that a pass has come by. Pages of SCAN show keys twice, and keys that
// have left since.
func (w *World) scan() {
	k := keys[w.rng.IntN(len(keys))]
	if (w.srv[w.from].data[k] != 0 || w.rng.IntN(16) == 0) && w.locks.TryLock(lockKey(k)) {
		w.moves = append(w.moves, &move{key: k})
	}
}

// take begins to move a key that clients wait for.
func (w *World) take() {
	for _, k := range w.locks.Take(1) {
		w.moves = append(w.moves, &move{key: k.Name})
	}
}

// advance does what the step of a move asks for. Its outcome comes with the reply; what needs no
// connection of the simulation, the fences and the file of unproven keys, may fail at once.
func (w *World) advance(m *move) {
	ask := func(to side, verb string, arg int) {
		m.busy = true
		w.send(&w.moverWire[to], to, nil, &command{verb: verb, keys: []string{m.key}, args: []int{arg}, replace: w.variant == SourceWins, move: m})
	}
	switch m.step {
	case keymove.Read:
		ask(w.from, "read", 0)
	case keymove.Restore:
		ask(w.to, "restore", m.value)
	case keymove.FenceTarget, keymove.FenceSource:
		if w.fails() {
			w.next(m, keymove.Unknown)
			return
		}
		if w.variant != NoFence { // of the connection on which the outcome was lost
			w.cut(m.fence)
		}
		w.next(m, keymove.OK)
	case keymove.Probe:
		ask(w.to, "exists", 0)
	case keymove.Persist:
		if w.fails() {
			w.next(m, keymove.Unknown)
			return
		}
		w.next(m, keymove.OK)
		if w.variant == EarlyUnlock { // the key is open while its UNLINK is still under way
			w.send(&w.moverWire[w.from], w.from, nil, &command{verb: "unlink", keys: []string{m.key}, args: []int{0}, move: &move{key: m.key, step: keymove.Committed}})
			w.next(m, keymove.OK)
		}
	case keymove.Unlink:
		ask(w.from, "unlink", 0)
	}
}

// answered is a reply to the mover. What it means is told to the real machine as an Outcome.
func (w *World) answered(cmd *command) {
	m := cmd.move
	if m.step.Final() {
		return // EarlyUnlock's
	}
	m.busy = false
	out := keymove.OK
	present := cmd.results[0] != 0
	switch cmd.verb {
	case "read":
		m.value = cmd.results[0]
		// Another process than at the beginning has a key that had left: an old dump. Only the
		// lock table can tell.
		stale := w.srv[w.from].runID != w.runID && w.locks.Moved(lockKey(m.key)) && w.variant != NoAmnesia
		switch {
		case !present:
			out = keymove.Absent
		case stale:
			out = keymove.Stale
		}
	case "restore":
		switch {
		case cmd.refused:
			out = keymove.Refused
		case present && !cmd.replace:
			out = keymove.Busy
		}
	case "exists":
		if !present {
			out = keymove.Absent
		}
	}
	w.next(m, out)
}

// next takes a move on by the real machine, and ends it with what the step says of the lock.
func (w *World) next(m *move, out keymove.Outcome) {
	if m.step.Final() {
		return
	}
	from := m.step
	m.step = m.step.Next(out)
	if out == keymove.Unknown && w.phase == sweeping && m.sweeps {
		w.sweepAgain() // the pass fails with the batch
	}
	w.say("move %s: %s, %s → %s", m.key, from, out, m.step)
	switch m.step {
	case keymove.Committed:
		// That it was absent, and became the target's by that alone, is what NoCreated forgets.
		w.forgot[m.key] = out == keymove.Absent && !w.locks.Moved(lockKey(m.key))
		w.locks.Commit(lockKey(m.key))
	case keymove.Stays:
		w.locks.Abort(lockKey(m.key), true)
	case keymove.Released:
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
		w.say("proof: %v is empty; flip", w.from)
		w.locks.SetMode(slotlock.AllTarget)
		w.phase = flipped
	}
}
