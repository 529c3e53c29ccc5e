// Package sim explores the key-move protocol: the real lock table and the real per-key
// machine against simulated servers, connections and clients, with every interleaving
// chosen by a seed.
//
//	clients ─ Admit ─► data connections ─┐         ┌─ data of A
//	mover ── MoveStep ─► its connections ┴► queues ┴─ data of B
//
// A command that was sent waits in its connection's queue until the seed executes it, and
// its reply until the seed delivers it. A broken connection loses the replies, but its
// queue can still be executed until it is fenced: that is what makes outcomes unknown.
package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"keyferry/migrator"
	"keyferry/slotlock"
)

// Variant plants a mistake in the protocol, to show that the explorer finds it.
type Variant uint8

const (
	Correct     Variant = iota
	SourceWins          // RESTORE with REPLACE: the source's copy overwrites the target's
	EarlyUnlock         // the lock is released before UNLINK is confirmed
	NoFence             // an unknown RESTORE is probed without killing its connection
	NoAmnesia           // a restarted source is believed about keys that had left
	NoCreated           // the filter does not hold the keys that were created at the target
	NoFreeze            // a job that has moved nothing is cancelled while clients are let in
	NoSettle            // a job turns round while commands are under way to the target
	NoSweep             // … without a look for keys that are at both ends
	SweepAsks           // that look asks the target also about keys that have moved
)

type side uint8

const (
	sideA side = iota
	sideB
)

// server is one Redis: values by key; 0 is no key.
type server struct {
	data  map[string]int
	old   map[string]int // the last value of keys that were unlinked by a move
	runID int
}

// wire is one connection of one incarnation of the gateway.
type wire struct {
	to      side
	queue   []*command // sent, not executed
	replies []*command // executed, not delivered
	broken  bool       // the gateway has given it up
	fenced  bool       // the server has: nothing of it can be executed any more
}

// carries reports commands of clients that have no answer and may still be executed.
func (c *wire) carries() bool {
	of := func(cmd *command) bool { return cmd.op != nil }
	return slices.ContainsFunc(c.queue, of) || !c.broken && slices.ContainsFunc(c.replies, of)
}

type command struct {
	verb    string // set, del, get, read, restore, exists, unlink
	key     string
	arg     int
	replace bool
	result  int
	present bool
	refused bool
	op      *op   // a client's
	move    *move // the mover's
}

type opState uint8

const (
	opParked opState = iota
	opSent
	opDone
)

// op is one command of a client, and an event in the history.
type op struct {
	client int
	verb   string
	key    string
	arg    int
	call   int // logical times
	ret    int // 0: never answered
	result int

	state opState
	held  bool
	bring bool // like a command with several keys of which one lives at the target
	// the server said no: it was not executed
	refused bool
	wake    []slotlock.Verdict // messages that the loop has not handled yet
	w       *World
	life    int // incarnation of the gateway that took it
}

// Wake implements slotlock.Waiter: the verdict reaches the loop later.
func (o *op) Wake(_ *slotlock.Table, _ slotlock.Key, v slotlock.Verdict) { o.wake = append(o.wake, v) }

type move struct {
	key   string
	step  migrator.MoveStep
	value int
	busy  bool // a command of it is under way
	// it is of the sweep before a turn, whose pass fails with it
	sweeps bool
	fence  *wire
}

type phase uint8

const (
	bulk phase = iota
	tail
	flipped   // all is at the target, or, of a job that was reverted, back
	ending    // nothing has moved: that the job is cancelled is being stored
	cancelled // the loops leave the job's routes, one after the other
	sweeping  // a job that is reverted looks for keys at both ends
	turning   // its slots are held
	turned    // … and that it turns round is stored; not every loop knows
	back      // the tail phase of the way back
)

// World is the whole simulation.
type World struct {
	rng     *rand.Rand
	variant Variant
	now     int
	log     []string

	srv     [2]*server
	locks   *slotlock.Table
	phase   phase
	from    side // where keys move from: the source, and after a turn the target
	to      side
	mind    mind // what the operator wants of this job
	up      bool
	life    int
	knows   bool            // the lock table knows every key that went to the target
	left    [2]bool         // loops, by client, that have left the routes of a cancelled job
	swept   map[string]bool // sweeping: keys that the pass has come by
	sweepOf int             // … the process in which it began
	crashed bool            // ever
	amnesia bool            // ever
	runID   int             // of the source when the job began
	garbage map[string]bool // keys that a restarted source has brought back

	dataWire  [2]*wire
	moverWire [2]*wire
	wires     []*wire // all that may still execute something
	moves     []*move
	lossHolds map[*wire][]string // keys held by commands that died with a connection
	current   [2]*op             // by client
	history   []*op
	nextValue int
	quiet     bool            // no more faults, no new client commands
	full      bool            // the target has no memory
	slow      bool            // the target takes its time
	forgot    map[string]bool // NoCreated: keys that the filter was not told of
	met       met
}

var keys = []string{"x", "y"}

// New makes a world with both keys at the source.
func New(seed uint64, v Variant) *World {
	w := &World{rng: rand.New(rand.NewPCG(seed, 1)), variant: v, up: true, lossHolds: map[*wire][]string{}, garbage: map[string]bool{}, nextValue: 1, runID: 1, life: 1, to: sideB, knows: true,
		forgot: map[string]bool{}, met: met{crashedAt: map[migrator.MoveStep]bool{}, forgotAt: map[migrator.MoveStep]bool{}}}
	for i := range w.srv {
		w.srv[i] = &server{data: map[string]int{}, old: map[string]int{}, runID: 1}
	}
	w.locks = slotlock.New(slotlock.Options{Mode: slotlock.Filtered, MaxWaiting: 100})
	w.mind = mind(w.rng.IntN(int(minds)))
	for _, k := range keys {
		if w.rng.IntN(4) > 0 && (w.mind != mayCancel || w.rng.IntN(3) == 0) {
			w.write(k)
		}
	}
	return w
}

// write puts a first value at the source, as if a client had done so before the job.
func (w *World) write(k string) {
	w.now++
	w.srv[sideA].data[k] = w.nextValue
	w.history = append(w.history, &op{client: 9, verb: "set", key: k, arg: w.nextValue, call: w.now, ret: w.now + 1, state: opDone})
	w.now++
	w.nextValue++
}

func (w *World) say(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%4d ", w.now)+fmt.Sprintf(format, args...))
}

// Transcript is what happened, for a seed that failed.
func (w *World) Transcript() string { return strings.Join(w.log, "\n") }

// Run takes n steps with faults and then lets the job end without. An error says which
// invariant broke.
func (w *World) Run(n int) error {
	for range n {
		if err := w.step(); err != nil {
			return err
		}
	}
	w.calm()
	for range 20000 {
		if w.over() {
			return w.final()
		}
		if err := w.step(); err != nil {
			return err
		}
	}
	return fmt.Errorf("the job does not end: phase %d, moves %v, stats %+v", w.phase, w.moves, w.locks.Stats())
}

func (w *World) over() bool {
	if w.phase != flipped && w.phase != cancelled || !w.up || len(w.moves) > 0 {
		return false
	}
	for _, o := range w.current {
		if o != nil {
			return false
		}
	}
	return true
}

// step does one thing that the seed picks.
func (w *World) step() error {
	w.now++
	var acts []func()
	add := func(weight int, f func()) {
		for range weight {
			acts = append(acts, f)
		}
	}
	for _, c := range w.wires {
		if len(c.queue) > 0 && !c.fenced && (c.to == sideA || !w.slow || w.rng.IntN(10) == 0) {
			add(3, func() { w.execute(c) })
		}
		if len(c.replies) > 0 && !c.broken {
			add(3, func() { w.deliver(c) })
		}
	}
	if w.up {
		w.gatewayActs(add)
	} else {
		add(2, w.restart)
	}
	if !w.quiet {
		if w.up {
			add(1, w.breakWire)
			if w.rng.IntN(6) == 0 {
				add(1, w.crash)
			}
		}
		if w.rng.IntN(6) == 0 {
			add(1, w.forget)
		}
		if w.rng.IntN(8) == 0 {
			add(1, w.weather)
		}
	}
	if len(acts) > 0 {
		acts[w.rng.IntN(len(acts))]()
	}
	return w.check()
}

func (w *World) gatewayActs(add func(int, func())) {
	for i := range w.current {
		if w.current[i] == nil && !w.quiet {
			add(2, func() { w.issue(i) })
		}
		if o := w.current[i]; o != nil && len(o.wake) > 0 {
			add(3, func() { w.handleWake(o) })
		}
	}
	for _, c := range w.wires { // not the map itself: its order is not the seed's
		if len(w.lossHolds[c]) > 0 || c.broken && !c.fenced && c.carries() {
			add(1, func() { w.fenceLoss(c) })
		}
	}
	for _, m := range w.moves {
		if !m.busy {
			add(2, func() { w.advance(m) })
		}
	}
	add(1, w.take)
	switch w.phase {
	case bulk:
		add(1, w.scan)
		if w.quiet || w.rng.IntN(8) == 0 {
			add(1, func() { w.say("tail"); w.phase = tail; w.locks.SetMode(slotlock.Resolve) })
		}
	case tail:
		add(1, w.scan)
		add(1, w.prove)
		if !w.quiet && w.rng.IntN(4) == 0 {
			add(1, w.pause)
		}
	case back:
		add(1, w.scan)
		add(1, w.prove)
	}
	w.operatorActs(add)
}
