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
	ctx    context.Context
	jobs   chan batchJob
	urgent bool // no rate limit
	wg     sync.WaitGroup
	end    context.CancelFunc
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
	p := &pool{m: m, ctx: ctx, jobs: make(chan batchJob), end: cancel}
	unhook := context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })
	for i := range m.parallel {
		w := &worker{m: m, id: fmt.Sprint(i)}
		p.wg.Go(func() {
			defer w.close()
			for j := range p.jobs {
				err := p.move(hard, w, j.keys)
				if p.ctx.Err() == nil { // else it is the stop's doing
					m.errs.add(err)
				}
				j.done(err)
			}
		})
	}
	p.end = func() { unhook(); cancel() }
	return p
}

func (p *pool) close() {
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
			n := min(len(keys), int(p.m.batch.Load()))
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
	if p.urgent {
		// clients wait for a whole slot
	} else if err := m.limit.WaitN(p.ctx, min(len(keys), m.limit.Burst())); err != nil {
		return p.ctx.Err()
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
		left, err = w.run(ctx, keys[0].DB, moves)
		m.leave(left)
		m.adapt(time.Since(start), len(moves))
	}
	if len(busy) > 0 {
		m.nudge(busy)
	}
	return err
}
