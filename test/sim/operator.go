package sim

import (
	"keyferry/migrator/keymove"
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

// jobActs are those of the runner and of the operator:
//
//	stable ► beginning ► bulk ◄─► tail ► flipped ► ended
//	                      ├────────┘
//	                      ├► ending ► cancelled
//	                      └► sweeping ◄─► frozen ► settling ► reversed ► back ► flipped ► ended
func (w *World) jobActs(add func(int, func())) {
	all := len(w.loops)
	switch w.phase {
	case stable:
		if w.quiet || w.rng.IntN(4) == 0 {
			add(1, w.begin)
		}
	case beginning:
		if w.await.adopted == all && (w.await.drained == all || w.variant == NoDrain) {
			add(2, w.opened)
		}
	case bulk:
		if w.quiet || w.rng.IntN(8) == 0 {
			add(1, func() { w.say("tail"); w.phase = tail; w.locks.SetMode(slotlock.Resolve) })
		}
	case tail:
		add(1, w.prove)
		if !w.quiet && w.rng.IntN(4) == 0 {
			add(1, w.pause)
		}
	case back:
		add(1, w.prove)
	case flipped:
		add(2, w.end)
	default:
		w.endActs(add)
	}
	w.operatorActs(add)
}

// operatorActs are cancelling and reverting a job.
func (w *World) operatorActs(add func(int, func())) {
	if open := w.phase == bulk || w.phase == tail; !open || w.quiet {
		return
	}
	switch {
	case w.mind == mayCancel && w.rng.IntN(3) == 0:
		add(1, w.cancel)
	case w.mind == mayRevert && w.rng.IntN(8) == 0:
		add(1, w.revert)
	}
}

// endActs are what follows from these.
func (w *World) endActs(add func(int, func())) {
	switch w.phase {
	case ending:
		add(1, w.endStored)
	case sweeping:
		add(2, w.sweep)
	case frozen:
		add(2, w.quietNow)
	case settling:
		if w.await.drained == len(w.loops) {
			add(2, w.reverse)
		}
	case reversed:
		if w.await.adopted == len(w.loops) {
			add(1, w.thawReversed)
		}
	}
	if (w.phase == frozen || w.phase == settling) && w.rng.IntN(4) == 0 {
		add(1, w.giveUpReversal)
	}
}

// begin publishes the job. Nothing is moved before every loop routes by it and what was sent
// without a lock has been answered; what clients touch waits for that too.
func (w *World) begin() {
	w.say("the job begins")
	w.phase = beginning
	w.locks = slotlock.New(slotlock.Options{Mode: slotlock.Filtered, MaxWaiting: 100, Closed: true})
	w.publish(&table{locks: w.locks, owner: sideA, target: sideB})
}

// opened lets the mover begin.
func (w *World) opened() {
	w.say("nothing is in flight without a lock")
	w.phase = bulk
	w.locks.Open()
}

// end: the store has it that all has moved. Commands may still wait for keys that were touched
// and not taken; the loops that have them leave the job's routes later.
func (w *World) end() {
	w.say("the slot is %v's", w.to)
	w.phase = ended
	w.publish(&table{owner: w.to})
}

// serveAsFound is the mode of a job that does not prove anything at present.
func (w *World) serveAsFound() {
	w.locks.SetMode(slotlock.Resolve)
	if w.knows {
		w.locks.SetMode(slotlock.Filtered)
	}
}

// pause is an operator's, in the tail phase: the job goes on with a bulk pass, and keys
// that certainly have not moved are served at the source again, if the filter can tell.
func (w *World) pause() {
	w.say("pause and resume")
	w.met.jobs.paused = true
	w.phase = bulk
	w.serveAsFound()
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
			w.phase, w.met.jobs.cancelled = ending, true
		}
		return
	}
	w.locks.Freeze()
	if w.knows && w.locks.Still() && w.locks.Stats().Commits == 0 && !w.inDoubt() {
		w.say("nothing has moved, and nobody is let in: to be cancelled")
		w.phase, w.met.jobs.cancelled = ending, true
		return
	}
	w.thaw()
	w.say("cancel: something may have moved; paused and resumed")
	w.phase, w.met.jobs.refused = bulk, true
	w.serveAsFound()
}

// endStored: the store has it that the job is cancelled.
func (w *World) endStored() {
	w.say("cancelled")
	w.phase = cancelled
	if w.variant != NoFreeze {
		w.locks.SetMode(slotlock.AllSource)
		w.thaw()
	}
	w.publish(&table{owner: sideA})
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
			if first != keymove.Committed {
				w.say("sweep: %s", k)
				w.met.jobs.swept = w.met.jobs.swept || w.srv[sideB].data[k] != 0
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
func (w *World) sweepStep(k string) (first keymove.MoveStep, ok bool) {
	ok, inUse := w.locks.Claim(lockKey(k))
	if !ok {
		return keymove.Committed, inUse
	}
	if w.locks.Moved(lockKey(k)) && w.variant != SweepAsks {
		return keymove.Unlink, true
	}
	return keymove.Probe, true
}

// freeze: nobody is let in from here on until thawReversed, or giveUpReversal.
func (w *World) freeze() {
	w.say("the slots are frozen for the reversal")
	w.phase = frozen
	w.locks.Freeze()
}

// quietNow asks, if nobody is inside, whether what was sent to the target before has been
// answered. The loops read in their mail first who was let in.
func (w *World) quietNow() {
	switch {
	case !w.locks.Quiet() || w.inDoubt() || len(w.moves) > 0:
	case w.variant == NoSettle:
		w.reverse()
	default:
		w.say("nobody is inside")
		w.phase = settling
		w.askSettled(sideB)
	}
}

// reverse stores that the job is reversed. Only then do the loops hear of it.
func (w *World) reverse() {
	w.say("no command is under way: the reversal is stored")
	w.phase, w.met.jobs.reversed = reversed, true
	w.publish(&table{locks: w.locks, owner: sideB, target: sideA})
}

// giveUpReversal is what a command leads to that takes too long. Keys may have come to both ends
// since the sweep began: so it begins again.
func (w *World) giveUpReversal() {
	w.say("commands take too long: no reversal this time")
	w.met.jobs.gaveUp = true
	w.thaw()
	w.sweepAgain()
}

// thawReversed: every loop routes the other way, and so do the commands that are parked there.
// Before that nobody may be let in, since half of the loops would send them to the other side.
func (w *World) thawReversed() {
	w.becomeBack()
	w.locks.Reverse(slotlock.Options{})
	w.thaw()
}

// becomeBack sets what the way back begins with.
func (w *World) becomeBack() {
	w.say("reversed")
	w.from, w.to, w.runID = sideB, sideA, w.srv[sideB].runID
	w.phase, w.knows = back, false
	w.forgot = map[string]bool{}
}
