package migrator

import (
	"context"
	"sync"
	"time"

	"keyferry/migrator/keymove"
	"keyferry/slotlock"
)

// How keys come from a pass to a worker and back:
//
//	scanPass ── give ──► jobs ──► lane: waiting ──► admitted ──► begin: keys are locked
//	   ▲                                                             │
//	   └── done(err) ◄── finish ◄── settle ◄── round … round ◄───────┘
//
// A lane never waits for anything but a reply while it holds locks: what has to be waited for
// (ceilings, memory, places, the gate) is had before begin, or the batch does not join.

// pool is the workers of one pass. The first error of a batch ends it: batches under way
// are brought to their end, and no other is begun.
type pool struct {
	m      *mover
	ctx    context.Context // no batch is begun after its end
	hard   context.Context // ends stopGrace after the stop, and every connection with it
	fail   context.CancelCauseFunc
	jobs   chan *batch
	urgent bool // no limits
	wg     sync.WaitGroup
	end    func()

	mu     sync.Mutex // protects what follows
	size   int        // workers that run or are about to leave
	closed bool
}

// batch is keys of one database that are locked together.
type batch struct {
	keys []slotlock.Key
	done func(error)

	// What follows is of the worker that has begun it.
	moves []keymove.Key
	since time.Time // locked at
	left  int       // moves that are not settled
	over  []func()  // to be called when it is over
}

// stopGrace is how long a batch under way may go on after a stop, so that a planned stop
// leaves no outcome unknown. With it a stop stays within the 2 s that are promised.
const stopGrace = time.Second

// newPool starts the workers of a pass or, urgent, of slots for which clients wait.
func (m *mover) newPool(ctx context.Context, urgent bool) *pool {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })
	p := &pool{m: m, hard: hard, urgent: urgent, jobs: make(chan *batch, 2*m.parallel.Load())}
	p.ctx, p.fail = context.WithCancelCause(ctx)
	p.end = func() { unhook(); cancel(); p.fail(nil) }
	if !urgent {
		m.workers.set(p)
	}
	p.grow()
	return p
}

// grow starts the workers that are missing; those that are too many leave by themselves
// after what they have begun.
func (p *pool) grow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && p.size < int(p.m.parallel.Load()) {
		f := &lane{p: p, w: p.m.newWorker()}
		p.size++
		p.wg.Go(func() { f.run(p.hard) })
	}
}

// surplus takes a worker off the books when there are more than wanted.
func (p *pool) surplus() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.size > int(p.m.parallel.Load()) {
		p.size--
		return true
	}
	return false
}

// close waits for what is under way. Batches that nobody has begun are told so by the workers, who
// find the context ended and call done with its cause.
func (p *pool) close() {
	p.m.workers.unset(p)
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	close(p.jobs)
	p.wg.Wait()
	p.end()
}

// give hands a batch to the workers, who call its done; if it can't, it does so itself.
func (p *pool) give(b *batch) {
	select {
	case p.jobs <- b:
	case <-p.ctx.Done():
		b.done(context.Cause(p.ctx))
	}
}

// moveAll moves keys of one database and returns the first error.
func (p *pool) moveAll(keys []slotlock.Key) error {
	var wg sync.WaitGroup
	var mu sync.Mutex // protects first
	var first error
	var all []slotlock.Key
	done := func(err error) {
		mu.Lock()
		if first == nil {
			first = err
		}
		mu.Unlock()
		wg.Done()
	}
	for all = keys; len(keys) > 0; {
		n := min(len(keys), p.m.batchKeys())
		wg.Add(1)
		p.give(&batch{keys: keys[:n], done: done})
		keys = keys[n:]
	}
	wg.Wait()
	if first == nil {
		first = p.m.large.among(all)
	}
	return first
}

// lane is one worker's batches under way: while one is read, the one before it is restored
// and the one before that unlinked, so that both ends have work all the time.
type lane struct {
	p       *pool
	w       *keymove.Worker
	db      int
	waiting *batch         // taken, not yet begun
	batches []*batch       // under way, oldest first
	moves   []*keymove.Key // theirs, but for aside
	aside   []*keymove.Key // big values: they go one by one, when everything else has gone
	spare   []*batch       // their moves can be used again
	leaving bool           // there are too many workers
}

// flowDepth is how many batches a worker may have under way: one is read, one restored, one
// unlinked.
const flowDepth = 3

// run takes batches until there are none.
func (f *lane) run(ctx context.Context) {
	defer f.w.Close()
	for {
		if f.waiting == nil && !f.leaving {
			f.leaving = f.p.surplus()
		}
		more := !f.leaving
		if more && len(f.aside) == 0 {
			more = f.next(ctx)
		}
		if len(f.batches) > 0 {
			f.step(ctx)
		} else if !more {
			return
		}
	}
}

// next begins another batch. It waits for one only if none is under way: then it holds no
// lock. False if there will be no more.
func (f *lane) next(ctx context.Context) (more bool) {
	idle := len(f.batches) == 0
	if f.waiting == nil {
		if idle {
			f.waiting, more = <-f.p.jobs
		} else {
			select {
			case f.waiting, more = <-f.p.jobs:
			default:
				return true
			}
		}
		if !more {
			return false
		}
	}
	b := f.waiting
	if !idle {
		if !f.mayJoin(b) {
			return true
		}
	} else if err := f.admitted(ctx, b); err != nil {
		f.waiting = nil
		if f.p.ctx.Err() == nil { // else it is the stop's doing
			f.p.m.errs.add(err)
		}
		f.p.fail(err)
		b.done(err)
		return true
	}
	f.waiting = nil
	f.begin(b)
	return true
}

// mayJoin reports, without waiting, that a batch can be begun beside those under way, and
// has entered the gate then.
func (f *lane) mayJoin(b *batch) bool {
	m := f.p.m
	if f.p.ctx.Err() != nil || b.keys[0].DB != f.db || !f.w.Connected() || m.gate.Enter() != nil {
		return false
	}
	b.over = append(b.over, m.gate.Leave)
	if f.p.urgent {
		return true
	}
	leave, ok := m.places.Try(m.source.ID, m.target.ID)
	if ok {
		b.over = append(b.over, leave)
		var release func()
		if release, ok = m.tryAdmit(len(b.keys)); ok {
			b.over = append(b.over, release)
		}
	}
	if !ok {
		b.isOver()
	}
	return ok
}

// admitted waits until a batch can be begun, and has entered the gate then.
func (f *lane) admitted(ctx context.Context, b *batch) error {
	m := f.p.m
	if f.p.ctx.Err() != nil {
		return context.Cause(f.p.ctx)
	}
	if !f.p.urgent { // else clients wait for a whole slot
		release, err := m.admit(f.p.ctx, len(b.keys))
		if err != nil {
			return f.orStopped(err)
		}
		b.over = append(b.over, release)
		if err := m.takePlaces(f.p.ctx, b); err != nil {
			b.isOver()
			return f.orStopped(err)
		}
	}
	err := f.w.Connect(ctx) // before any key is locked
	if err == nil {
		err = m.ledger.Forgot()
	}
	if err == nil {
		if err = enterGate(f.p.ctx, m.gate); err == nil {
			b.over = append(b.over, m.gate.Leave)
			return nil
		}
	}
	b.isOver()
	return f.orStopped(err)
}

// orStopped is why the pool has stopped, if it has, and else err.
func (f *lane) orStopped(err error) error {
	if f.p.ctx.Err() != nil {
		return context.Cause(f.p.ctx)
	}
	return err
}

// isOver gives back what the batch was let through with, in the order of coming in. It may be
// called for a batch that was refused half way: over has just what it had got by then.
func (b *batch) isOver() {
	for _, f := range b.over {
		f()
	}
	b.over = b.over[:0]
}

// begin is the moment from which clients may have to wait for the mover.
//
// begin locks those keys of a batch that nobody holds; the others are asked for, and the
// resolvers move them when their holders are done within the mover's patience.
func (f *lane) begin(b *batch) {
	m := f.p.m
	f.db, b.since = b.keys[0].DB, time.Now()
	if n := len(f.spare); n > 0 {
		b.moves = f.spare[n-1].moves[:0]
		f.spare = f.spare[:n-1]
	}
	if cap(b.moves) < len(b.keys) {
		b.moves = make([]keymove.Key, 0, len(b.keys))
	}
	var busy []slotlock.Key
	sweeping := m.sweeping.on.Load()
	for _, k := range b.keys {
		ok, inUse := m.locks.Claim(k)
		switch {
		case ok && sweeping:
			b.moves = append(b.moves, keymove.Key{Key: k, Step: m.sweepStep(k), Since: b.since, Unsettled: &b.left})
		case ok:
			b.moves = append(b.moves, keymove.Key{Key: k, Since: b.since, Unsettled: &b.left})
		case !sweeping:
			busy = append(busy, k)
		case !inUse: // a key in use at the source is not at the target as well
			m.sweeping.missed.Store(true)
		}
	}
	for i := range b.moves {
		f.moves = append(f.moves, &b.moves[i])
	}
	b.left = len(b.moves)
	b.over = append(b.over, m.open.locked(f.moves[len(f.moves)-b.left:]))
	f.batches = append(f.batches, b)
	if len(busy) > 0 {
		m.nudge(busy)
	}
}

// step takes everything under way one round further. A big value goes by itself, when everything
// else has been settled: its transfer would be added to the lock hold of every key beside it.
func (f *lane) step(ctx context.Context) {
	m := f.p.m
	if small, big := f.w.Apart(f.moves); len(big) > 0 && len(f.moves) > 1 {
		f.moves, f.aside = small, append(f.aside, big...)
	}
	if len(f.moves) == 0 && len(f.aside) > 0 {
		f.moves, f.aside = append(f.moves, f.aside[0]), f.aside[1:]
	}
	stop, err := f.w.Round(ctx, f.db, f.moves)
	f.moves = m.settle(f.moves)
	if err != nil {
		f.p.fail(err)
	}
	if stop {
		m.handOver(f.moves)
		m.handOver(f.aside)
		f.moves, f.aside = nil, nil
	}
	f.finish(stop, err)
}

// finish ends the batches of which nothing is left, or all. An error of a round is told of
// each that had a part in it, for want of knowing better.
func (f *lane) finish(all bool, err error) {
	rest := f.batches[:0]
	for _, b := range f.batches {
		if !all && b.left > 0 {
			if err != nil {
				done := b.done
				b.done = func(error) { done(err) }
			}
			rest = append(rest, b)
			continue
		}
		b.isOver()
		if len(b.moves) > 0 {
			f.p.m.batch.Held(time.Since(b.since), len(b.moves))
		}
		if b.left == 0 {
			f.spare = append(f.spare, &batch{moves: b.moves})
		}
		b.done(err)
	}
	f.batches = rest
}
