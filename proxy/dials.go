package proxy

import (
	"context"
	"sync"
)

// dials are the connections to servers that are being made. The loops that they are to be
// enrolled on must not end before them.
type dials struct {
	mu     sync.Mutex // protects all but wg
	wg     sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
	ended  bool
}

func newDials() *dials {
	ctx, cancel := context.WithCancel(context.Background())
	return &dials{ctx: ctx, cancel: cancel}
}

// do runs f on a goroutine, unless stop has been called. The context ends with stop.
func (d *dials) do(f func(ctx context.Context)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ended {
		d.wg.Go(func() { f(d.ctx) })
	}
}

// stop lets no more begin and returns when none is under way.
//
// A connection that is enrolled on a loop which has ended would never be answered; so dials
// end first, and the engine is stopped after that (Server.Stop).
func (d *dials) stop() {
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
	d.cancel()
	d.wg.Wait()
}
