// Package sim explores the move of a slot: the real parking of the event loops, the real lock
// table and the real per-key machine against simulated servers, connections and clients,
// with every interleaving chosen by a seed.
//
//	clients ─► loops: parking.Lot ─► data connections ─┐         ┌─ data of A
//	                  │      ▲ mail                    ├► queues ┤
//	           slotlock.Table│                         │         │
//	                  │      │ tables, wakes           │         │
//	mover ── MoveStep ┴──────┴─────► its connections ──┘         └─ data of B
//
// A command that was sent waits in its connection's queue until the seed executes it, and
// its reply until the seed delivers it. A broken connection loses the replies, but its
// queue can still be executed until it is fenced: that is what makes outcomes unknown. What
// one part of the gateway tells a loop waits in the loop's mail until the seed has it read.
package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"keyferry/migrator/keymove"
	"keyferry/proxy/parking"
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
	NoSettle            // a job is reversed while commands are under way to the target
	NoSweep             // … without a look for keys that are at both ends
	SweepAsks           // that look asks the target also about keys that have moved
	NoDrain             // keys move while commands are under way to the source without a lock
)

// phase is where the job stands, as the runner sees it. Which of it is stored is said in restart.
type phase uint8

const (
	stable    phase = iota // all is at the source, and no job yet
	beginning              // the loops take over the job's routes, and are drained
	bulk
	tail
	flipped   // all is at the target, or, of a job that was reverted, back
	ended     // … and the loops leave the job's routes, one after the other
	ending    // nothing has moved: that the job is cancelled is being stored
	cancelled // … and the loops leave the job's routes
	sweeping  // a job that is reverted looks for keys at both ends
	frozen    // its slots are held
	settling  // nobody is inside; what was sent to the target before is being answered
	reversed  // … and that it is reversed is stored; not every loop knows
	back      // the tail phase of the way back
)

// World is the whole simulation. All of it, loops and servers too, is run by one goroutine: what
// happens at the same time in the real system happens here in any order that the seed picks.
type World struct {
	rng     *rand.Rand
	variant Variant
	plant   func(*parking.Lot) // a mistake in every Lot; nil: none
	now     int
	log     []string
	failed  error // the first invariant that did not hold
	met     met

	cluster
	gateway
	job
	traffic
}

// cluster are the servers, which a crash of the gateway leaves as they are.
type cluster struct {
	srv     [2]*server
	wires   []*wire // all that may still execute something
	full    bool    // the target has no memory
	slow    bool    // the target takes its time
	amnesia bool    // the source has restarted from an old dump, ever
	garbage map[string]bool
}

// gateway is one incarnation of the process, as far as it is no job's. A crash takes all of it but
// the connections that the servers still know, which are in cluster.wires.
type gateway struct {
	up        bool
	life      int  // which incarnation
	crashed   bool // ever
	loops     [2]*loop
	moverWire [2]*wire
	moves     []*move
	await     awaited
}

// awaited counts the words of loops that the runner waits for. What a loop says of an
// earlier question counts no more.
type awaited struct {
	question int
	adopted  int
	drained  int
}

// job is the move of the slot. The phase is stored, except as restart says; the lock table and
// what is known by it (knows, forgot, swept) die with the gateway.
type job struct {
	locks   *slotlock.Table
	phase   phase
	from    side // where keys move from: the source, and after a reversal the target
	to      side
	mind    mind            // what the operator wants of this job
	runID   int             // of the source when the job began
	knows   bool            // the lock table knows every key that went to the target
	forgot  map[string]bool // NoCreated: keys that the filter was not told of
	swept   map[string]bool // sweeping: keys that the pass has come by
	sweepOf int             // … the process in which it began
}

// traffic are the clients and what they have seen. The history outlives every crash: it is what
// the servers and gateways together are judged by.
type traffic struct {
	clients   [3]*client
	history   []*op
	nextValue int
	quiet     bool // no more faults, no new commands, no deadlines
}

var keys = []string{"x", "y"}

// New makes a world with both keys at the source, before the job.
func New(seed uint64, v Variant) *World {
	w := &World{rng: rand.New(rand.NewPCG(seed, 1)), variant: v, met: newMet()}
	w.cluster = cluster{garbage: map[string]bool{}}
	for i := range w.srv {
		w.srv[i] = &server{data: map[string]int{}, old: map[string]int{}, runID: 1}
	}
	w.job = job{to: sideB, runID: 1, knows: true, forgot: map[string]bool{}, mind: mind(w.rng.IntN(int(minds)))}
	w.nextValue = 1
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
	w.history = append(w.history, &op{verb: "set", keys: []string{k}, args: []int{w.nextValue}, results: []int{0}, call: w.now, ret: w.now + 1})
	w.now++
	w.nextValue++
}

func (w *World) say(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%4d ", w.now)+fmt.Sprintf(format, args...))
}

// Transcript is what happened, for a seed that failed.
func (w *World) Transcript() string { return strings.Join(w.log, "\n") }

// time is the hour of a step, for what has deadlines: a second each.
func (w *World) time() time.Time { return time.Unix(int64(w.now), 0) }

// Run takes n steps with faults and then lets the job end without. An error says which
// invariant broke.
func (w *World) Run(n int) error {
	w.start(&table{owner: sideA})
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
	return fmt.Errorf("the job does not end: phase %d, moves %v, stats %+v, loops %v, %v", w.phase, w.moves, w.locks.Stats(), w.loops[0], w.loops[1])
}

// over reports that the job has ended everywhere, and every client has its answers.
func (w *World) over() bool {
	if w.phase != ended && w.phase != cancelled || !w.up || len(w.moves) > 0 || w.await.adopted < len(w.loops) {
		return false
	}
	for _, c := range w.clients {
		if len(c.ops) > 0 {
			return false
		}
	}
	for _, c := range w.wires {
		if c.loop != nil && c.broken && !c.fenced {
			return false
		}
	}
	return len(w.loops[0].mail)+len(w.loops[1].mail) == 0
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
	w.serverActs(add)
	if w.up {
		w.clientActs(add)
		w.loopActs(add)
		w.moverActs(add)
		w.jobActs(add)
	} else {
		add(2, w.restart)
	}
	if !w.quiet {
		w.faultActs(add)
	}
	if len(acts) > 0 {
		acts[w.rng.IntN(len(acts))]()
	}
	return w.check()
}

// met is what a run has come by: what is never met is never tested.
type met struct {
	crashedAt map[keymove.MoveStep]bool // a key stood there when the gateway died
	forgotAt  map[keymove.MoveStep]bool // … when the source came back from an old dump
	jobs      metJobs
	parking   metParking
	full      bool // the target refused for want of memory
	slow      bool
}

// metJobs is what an operator has done.
type metJobs struct {
	paused    bool // after the tail phase had begun
	cancelled bool // nothing had moved
	refused   bool // … but something had
	reversed  bool
	gaveUp    bool // a reversal, because somebody was inside for too long
	swept     bool // a key that was at both ends before a reversal
}

// metParking is what parked commands have seen.
type metParking struct {
	waited   bool // any
	both     bool // one with two keys, of which one had moved
	expired  bool
	left     bool // its client
	offered  bool // a table waited for commands
	drained  bool // … was drained later than adopted
	reversed bool // the job while commands waited
	tooLate  bool // a hold came for a command that had gone
	overfull bool // too many waited
}

func newMet() met {
	return met{crashedAt: map[keymove.MoveStep]bool{}, forgotAt: map[keymove.MoveStep]bool{}}
}
