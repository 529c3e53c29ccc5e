package migrator

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
)

const weighEvery = time.Second // at the least, unless it is asked for sooner

// targetRoom is what is known of the target's memory besides the governor's sums. The pinger
// of the target weighs it; workers that wait for room ask for that.
type targetRoom struct {
	seen  atomic.Pointer[joberr.FullError] // used and most, as last seen
	asked atomic.Bool                      // it is to be weighed now
}

func (r *targetRoom) ask() { r.asked.Store(true) }

// weigh asks the target for its memory.
func (m *mover) weigh(ctx context.Context, l *link.Link) error {
	m.gov.Weighing()
	text, err := l.Conn.Info(ctx, "memory").Result()
	if err != nil {
		return err
	}
	i := link.ReadInfo(text)
	m.room.seen.Store(&joberr.FullError{Used: i.UsedBytes, Most: i.MaxBytes})
	m.gov.Weighed(i.Room())
	return nil
}

// awaitRoom waits until the target has room for n keys as far as is known. It is weighed
// again as long as that depends on what is under way; a fullError says that it is full.
//
// A batch must not find out by OOM that the target is full: by then the clients' own writes there
// are refused as well. So keys are let go only against room that has been seen, and a target that
// is filled by others is noticed at the next weighing.
func (m *mover) awaitRoom(ctx context.Context, n int) error {
	short, _, seen := m.gov.Room(n)
	if !short {
		return nil
	}
	t := time.NewTicker(pingEvery / 2)
	defer t.Stop()
	end := time.NewTimer(m.cfg.CallTimeout)
	defer end.Stop()
	for m.room.ask(); ; {
		select {
		case <-t.C:
		case <-end.C:
			return joberr.At(joberr.Target, fmt.Errorf("no answer to INFO memory within %v, without which nothing is sent there: %w", m.cfg.CallTimeout, context.DeadlineExceeded))
		case <-ctx.Done():
			return ctx.Err()
		}
		short, full, weighings := m.gov.Room(n)
		switch {
		case !short:
			return nil
		case weighings == seen:
			continue
		case full:
			return joberr.At(joberr.Target, m.room.seen.Load())
		}
		seen = weighings
		m.room.ask()
		end.Reset(m.cfg.CallTimeout)
	}
}
