package sim

import "keyferry/slotlock"

// faultActs are what goes wrong. Weights and chances are set so that a run of some hundred steps
// meets a few faults and still gets somewhere; TestSeedsReachEveryCorner watches over that.
func (w *World) faultActs(add func(int, func())) {
	if w.up {
		add(1, w.breakWire)
		if w.rng.IntN(6) == 0 && w.phase != stable {
			add(1, w.crash)
		}
	}
	if w.rng.IntN(6) == 0 && w.phase != stable {
		add(1, w.forget)
	}
	if w.rng.IntN(8) == 0 {
		add(1, w.weather)
	}
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

// calm ends every fault, every client and every deadline: the liveness phase begins.
func (w *World) calm() {
	w.quiet, w.full, w.slow = true, false, false
	w.say("no faults any more")
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
	for _, c := range w.clients {
		for _, o := range c.ops { // what was sent may still be executed, and has no answer
			o.refused = o.state == opParked // it never ran
			o.state = opDone
		}
		c.ops = nil
	}
	for _, c := range w.wires { // the lock table that knew of the holds is gone with them
		c.broken, c.replies, c.holds = true, nil, nil
	}
	w.moverWire, w.moves = [2]*wire{}, nil
}

// restart fences the former self and resumes without a filter, by what is stored: whether the job
// is published, its phase without what freezes, and which way it goes.
func (w *World) restart() {
	w.say("gateway starts again")
	for _, c := range w.wires {
		w.cut(c)
	}
	w.wires = nil
	w.knows = false
	mode := slotlock.Resolve
	switch w.phase {
	case flipped:
		mode = slotlock.AllTarget
	case frozen, settling, sweeping: // that its slots were held is not stored
		w.sweepAgain()
	case reversed:
		w.becomeBack()
	case back, ended, cancelled:
	default: // that it was about to end is not stored, nor is that it had begun to move keys
		w.phase = bulk
	}
	w.locks = slotlock.New(slotlock.Options{Mode: mode, MaxWaiting: 100})
	w.forgot = map[string]bool{}
	t := &table{locks: w.locks, owner: w.from, target: w.to}
	switch w.phase {
	case ended:
		t = &table{owner: w.to}
	case cancelled:
		t = &table{owner: sideA}
	}
	// The new loops begin with that table, and have nothing in flight: nobody need acknowledge.
	w.start(t)
	w.await = awaited{question: w.await.question + 1, adopted: len(w.loops), drained: len(w.loops)}
}

// forget restarts the source from an older dump: keys that a move has unlinked come back.
// After a crash of the gateway, whose filter went with it, only those come back which the
// target holds: of the others nobody knows any more that they had left.
//
// It does not happen when a job has been reversed, or is about to be: what then comes back
// wins over what has not returned yet, which is the other limit. Nor when the loops have
// left, or are leaving, the routes of a job: the source is none any more.
func (w *World) forget() {
	if !w.up || w.phase >= frozen || w.phase == ended { // the double fault again: see crash
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
		if c.to != sideA || c.fenced {
			continue
		}
		for _, l := range w.loops {
			if l.wires[sideA] == c {
				l.wires[sideA] = nil
			}
		}
		if w.moverWire[sideA] == c {
			w.moverWire[sideA] = nil
		}
		if !c.broken {
			w.lose(c)
		}
		w.cut(c) // the new process knows nothing of it
	}
}
