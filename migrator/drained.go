package migrator

import (
	"context"

	"keyferry/migrator/job"
)

// prepare waits until every loop routes the slots as moving and nothing is in flight at
// the source without a lock.
func (r *runner) prepare(ctx context.Context) (*job.Event, error) {
	if err := r.awaitDrained(ctx); err != nil {
		return nil, err
	}
	return &job.Event{Kind: job.Acked}, nil
}

// awaitDrained waits until no command is at the source that was sent before the slots were routed
// as moving: such a command holds no lock, and its key could be moved under it.
func (r *runner) awaitDrained(ctx context.Context) error {
	r.m.mu.Lock()
	drained := r.m.moving(moveOf(&r.job)).drained
	r.m.mu.Unlock()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
