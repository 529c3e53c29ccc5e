package sim

import (
	"keyferry/migrator"
	"keyferry/slotlock"
)

// met is what a run has come by: what is never met is never tested.
type met struct {
	crashedAt map[migrator.MoveStep]bool // a key stood there when the gateway died
	forgotAt  map[migrator.MoveStep]bool // … when the source came back from an old dump
	full      bool                       // the target refused for want of memory
	slow      bool
	paused    bool // after the tail phase had begun
	cancelled bool // nothing had moved
	refused   bool // … but something had
	turned    bool
	gaveUp    bool // a turn, because somebody was inside for too long
	swept     bool // a key that was at both ends before a turn
}

// fails reports whether a step that talks to a server by other means than a command of the
// simulation gets no answer.
func (w *World) fails() bool { return !w.quiet && w.rng.IntN(4) == 0 }

// weather changes how the target feels: out of memory for a while, slow for a while.
func (w *World) weather() {
	if w.rng.IntN(2) == 0 {
		w.full = !w.full
		w.met.full = w.met.full || w.full
		w.say("target out of memory: %v", w.full)
		return
	}
	w.slow = !w.slow
	w.met.slow = w.met.slow || w.slow
	w.say("target slow: %v", w.slow)
}

// calm ends every fault and every client: the liveness phase begins.
func (w *World) calm() {
	w.quiet, w.full, w.slow = true, false, false
	w.say("no faults any more")
}

// pause is an operator's, in the tail phase: the job goes on with a bulk pass, and keys
// that certainly have not moved are served at the source again, if the filter can tell.
func (w *World) pause() {
	w.say("pause and resume")
	w.met.paused = true
	w.phase = bulk
	w.serveAsFound()
}

// crash is kill -9 of the gateway. It does not happen while a restarted source holds
// garbage that only this gateway's filter can tell from data: that double fault is the
// known limit of the protocol (ARCHITECTURE.md, "What is not promised").
func (w *World) crash() {
	for k := range w.garbage {
		if w.srv[sideA].data[k] != 0 {
			return
		}
	}
	w.garbage = map[string]bool{}
	w.say("gateway crashes")
	for _, m := range w.moves {
		w.met.crashedAt[m.step] = true
	}
	w.up, w.crashed = false, true
	for _, o := range w.current {
		if o != nil {
			w.finish(o, false)
		}
	}
	for _, c := range w.wires {
		c.broken, c.replies = true, nil
	}
	w.dataWire, w.moverWire, w.moves = [2]*wire{}, [2]*wire{}, nil
	w.lossHolds = map[*wire][]string{}
}

// restart fences the former self and resumes without a filter.
func (w *World) restart() {
	w.say("gateway starts again")
	for _, c := range w.wires {
		c.fenced, c.queue = true, nil
	}
	w.wires = nil
	w.life++
	w.up = true
	w.knows = false
	mode := slotlock.Resolve
	switch w.phase {
	case flipped:
		mode = slotlock.AllTarget
	case cancelled:
		mode, w.left = slotlock.AllSource, [2]bool{true, true}
	case turning: // not stored
		w.sweepAgain()
	case sweeping:
		w.sweepAgain()
	case turned:
		w.turnRound()
	case back:
	default: // ending: not stored
		w.phase = bulk
	}
	w.locks = slotlock.New(slotlock.Options{Mode: mode, MaxWaiting: 100})
	w.forgot = map[string]bool{}
}

// forget restarts the source from an older dump: keys that a move has unlinked come back.
// After a crash of the gateway, whose filter went with it, only those come back which the
// target holds: of the others nobody knows any more that they had left.
//
// It does not happen when a job has turned round, or is about to: what it then brings back
// wins over what has not returned yet, which is the other limit.
func (w *World) forget() {
	if !w.up || w.phase >= turning { // the double fault again: see crash
		return
	}
	a := w.srv[sideA]
	back := false
	for _, k := range keys {
		if a.data[k] == 0 && a.old[k] != 0 && (!w.crashed || w.srv[sideB].data[k] != 0) && w.phase != flipped {
			a.data[k] = a.old[k]
			w.garbage[k] = true
			back = true
		}
	}
	if !back {
		return
	}
	w.amnesia = true
	for _, m := range w.moves {
		w.met.forgotAt[m.step] = true
	}
	a.runID++
	w.say("the source restarts from an old dump: %v", a.data)
	for _, c := range w.wires {
		if c.to == sideA && !c.fenced {
			if w.dataWire[sideA] == c {
				w.dataWire[sideA] = nil
			}
			if w.moverWire[sideA] == c {
				w.moverWire[sideA] = nil
			}
			if !c.broken {
				w.lose(c)
			}
			c.fenced, c.queue = true, nil // the new process knows nothing of it
		}
	}
}
