package migrator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"keyferry/slotlock"
)

// pool is the workers of one pass.
type pool struct {
	m      *mover
	ctx    context.Context // ends with the stop
	hard   context.Context // … and this stopGrace later
	jobs   chan batchJob
	urgent bool // no limits
	wg     sync.WaitGroup
	end    context.CancelFunc

	mu     sync.Mutex // protects what follows
	size   int        // workers that run or are about to leave
	closed bool
}

type batchJob struct {
	keys []slotlock.Key
	done func(error)
}

// stopGrace is how long a batch under way may go on after a stop, so that a planned stop
// leaves no outcome unknown. With it a stop stays within the 2 s that are promised.
const stopGrace = time.Second

func (m *mover) newPool(ctx context.Context) *pool {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &pool{m: m, ctx: ctx, hard: hard, jobs: make(chan batchJob)}
	unhook := context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })
	p.end = func() { unhook(); cancel() }
	m.mu.Lock()
	m.pool = p
	m.mu.Unlock()
	p.grow()
	return p
}

// grow starts the workers that are missing; those that are too many leave by themselves
// after their batch.
func (p *pool) grow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && p.size < int(p.m.parallel.Load()) {
		w := &worker{m: p.m, id: fmt.Sprint(p.size)}
		p.size++
		p.wg.Go(func() { p.work(w) })
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

func (p *pool) work(w *worker) {
	defer w.close()
	for !p.surplus() {
		j, ok := <-p.jobs
		if !ok {
			return
		}
		err := p.move(p.hard, w, j.keys)
		if p.ctx.Err() == nil { // else it is the stop's doing
			p.m.errs.add(err)
		}
		j.done(err)
	}
}

func (p *pool) close() {
	p.m.mu.Lock()
	if p.m.pool == p {
		p.m.pool = nil
	}
	p.m.mu.Unlock()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	close(p.jobs)
	p.wg.Wait()
	p.end()
}

// submit hands keys of one database to the workers; the returned function waits for all
// and gives the first error.
func (p *pool) submit(keys []slotlock.Key) func() error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	done := func(err error) {
		mu.Lock()
		if first == nil {
			first = err
		}
		mu.Unlock()
		wg.Done()
	}
	wg.Go(func() { // the workers always take, and done is waited for
		for len(keys) > 0 {
			n := min(len(keys), int(p.m.batch.Load()), p.m.gov.batch(int(p.m.parallel.Load())))
			wg.Add(1)
			select {
			case p.jobs <- batchJob{keys[:n], done}:
			case <-p.ctx.Done():
				done(p.ctx.Err())
				return
			}
			keys = keys[n:]
		}
	})
	return func() error {
		wg.Wait()
		mu.Lock()
		defer mu.Unlock()
		return first
	}
}

// move moves one batch: those keys that nobody holds at once, the others when their
// holders are done within the mover's patience.
func (p *pool) move(ctx context.Context, w *worker, keys []slotlock.Key) error {
	m := p.m
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if !p.urgent { // else clients wait for a whole slot
		release, err := m.admit(p.ctx, len(keys))
		if err != nil {
			if p.ctx.Err() != nil {
				return p.ctx.Err()
			}
			return err
		}
		defer release()
	}
	if err := w.connect(ctx); err != nil { // before any key is locked
		return err
	}
	if err := m.gate.enter(p.ctx); err != nil {
		return err
	}
	defer m.gate.leave()
	var moves []*keyMove
	var busy []slotlock.Key
	start := time.Now()
	for _, k := range keys {
		if m.locks.TryLock(k) {
			moves = append(moves, &keyMove{key: k, since: start})
		} else {
			busy = append(busy, k)
		}
	}
	var err error
	if len(moves) > 0 {
		var left []*keyMove
		over := m.locked(moves)
		left, err = w.run(ctx, keys[0].DB, moves)
		m.leave(left)
		over()
		m.adapt(time.Since(start), len(moves))
	}
	if len(busy) > 0 {
		m.nudge(busy)
	}
	return err
}
