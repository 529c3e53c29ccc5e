package sim

import (
	"keyferry/migrator"
	"keyferry/slotlock"
)

// mind is what the operator of a run has in mind beside pauses.
type mind uint8

const (
	content   mind = iota
	mayCancel      // the job, as long as nothing has moved
	mayRevert      // it
	minds
)

// operatorActs are those of cancelling and reverting a job, and what follows from them.
func (w *World) operatorActs(add func(int, func())) {
	open := w.phase == bulk || w.phase == tail
	switch {
	case open && w.mind == mayCancel && !w.quiet && w.rng.IntN(3) == 0:
		add(1, w.cancel)
	case open && w.mind == mayRevert && !w.quiet && w.rng.IntN(8) == 0:
		add(1, w.revert)
	case w.phase == ending:
		add(1, w.endStored)
	case w.phase == cancelled:
		for i := range w.left {
			if !w.left[i] {
				add(1, func() { w.say("loop of client %d leaves", i); w.left[i] = true })
			}
		}
	case w.phase == sweeping:
		add(2, w.sweep)
	case w.phase == turning:
		add(2, w.turn)
		if w.rng.IntN(4) == 0 {
			add(1, w.giveUpTurn)
		}
	case w.phase == turned:
		add(1, w.turnRound)
	}
}

// serveAsFound is the mode of a job that does not prove anything at present.
func (w *World) serveAsFound() {
	w.locks.SetMode(slotlock.Resolve)
	if w.knows {
		w.locks.SetMode(slotlock.Filtered)
	}
}

// inDoubt reports a key whose place is not proven.
func (w *World) inDoubt() bool {
	for _, m := range w.moves {
		if m.step.InDoubt() {
			return true
		}
	}
	return false
}

// cancel ends a job of which nothing has moved. Passes have stopped by then; what clients
// have touched is moved on.
func (w *World) cancel() {
	if w.variant == NoFreeze {
		if s := w.locks.Stats(); w.knows && s.Commits == 0 && s.Waiting == 0 && !w.inDoubt() {
			w.say("nothing has moved: to be cancelled")
			w.phase, w.met.cancelled = ending, true
		}
		return
	}
	w.locks.Freeze()
	if w.knows && w.locks.Still() && w.locks.Stats().Commits == 0 && !w.inDoubt() {
		w.say("nothing has moved, and nobody is let in: to be cancelled")
		w.phase, w.met.cancelled = ending, true
		return
	}
	w.locks.Thaw()
	w.say("cancel: something may have moved; paused and resumed")
	w.phase, w.met.refused = bulk, true
	w.serveAsFound()
}

// endStored: the store has it that the job is cancelled.
func (w *World) endStored() {
	w.say("cancelled")
	w.phase = cancelled
	if w.variant != NoFreeze {
		w.locks.SetMode(slotlock.AllSource)
		w.locks.Thaw()
	}
}

// revert begins with a pass over the source that drops what the target has too.
func (w *World) revert() {
	w.say("revert")
	w.serveAsFound()
	w.sweepAgain()
}

func (w *World) sweepAgain() {
	w.say("sweep from the beginning")
	w.phase, w.swept, w.sweepOf = sweeping, map[string]bool{}, w.srv[sideA].runID
}

// sweep takes the pass a step further, or holds the slots when it has come by everything.
func (w *World) sweep() {
	if w.variant == NoSweep {
		w.freeze()
		return
	}
	for _, k := range keys {
		if w.swept[k] {
			continue
		}
		if w.srv[sideA].data[k] != 0 {
			first, ok := w.sweepStep(k)
			if !ok {
				return
			}
			if first != migrator.Committed {
				w.say("sweep: %s", k)
				w.met.swept = w.met.swept || w.srv[sideB].data[k] != 0
				w.moves = append(w.moves, &move{key: k, step: first, sweeps: true})
			}
		}
		w.swept[k] = true
		return
	}
	switch {
	case w.inDoubt():
	case w.sweepOf != w.srv[sideA].runID: // seen at the end of the pass
		w.sweepAgain()
	default:
		w.freeze()
	}
}

// sweepStep locks a key for the sweep. Committed: somebody uses it at the source, so that
// it is not at the target as well. ok false: it can't be told yet.
func (w *World) sweepStep(k string) (first migrator.MoveStep, ok bool) {
	ok, inUse := w.locks.Claim(lockKey(k))
	if !ok {
		return migrator.Committed, inUse
	}
	if w.locks.Moved(lockKey(k)) && w.variant != SweepAsks {
		return migrator.Unlink, true
	}
	return migrator.Probe, true
}

func (w *World) freeze() {
	w.say("the slots are held for the turn")
	w.phase = turning
	w.locks.Freeze()
}

// settled reports that no command is under way to the target.
func (w *World) settled() bool {
	for _, o := range w.current {
		if o != nil && len(o.wake) > 0 {
			return false // it may be on its way there when it has heard
		}
	}
	for _, c := range w.wires {
		if c.to == sideB && !c.fenced && c.carries() {
			return false
		}
	}
	return true
}

// turn stores that the job turns round, if nobody is inside.
func (w *World) turn() {
	if !w.locks.Quiet() || w.inDoubt() || len(w.moves) > 0 || w.variant != NoSettle && !w.settled() {
		return
	}
	w.say("nobody is inside: the turn is stored")
	w.phase, w.met.turned = turned, true
}

func (w *World) giveUpTurn() {
	w.say("commands take too long: no turn this time")
	w.met.gaveUp = true
	w.locks.Thaw()
	w.sweepAgain()
}

// turnRound: every loop routes by the turn.
func (w *World) turnRound() {
	w.say("turned round")
	w.from, w.to, w.runID = sideB, sideA, w.srv[sideB].runID
	w.phase, w.knows = back, false
	w.forgot = map[string]bool{}
	if w.up {
		w.locks.Turn(slotlock.Options{})
		w.locks.Thaw()
	}
}
