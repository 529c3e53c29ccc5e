package proxy

import (
	"context"
	"errors"

	"keyferry/internal/upstream"
	"keyferry/router"
)

// A job that is reverted turns round: its source and its target change places. Its lock
// table is frozen meanwhile, so that whoever asks waits (slotlock.Table.Freeze):
//
//	runner   freeze ─► Settled(target) ─► store Back ───────────► acknowledged ─► turn, thaw
//	loops                                      Apply: turnParked ─┘

// Settled returns when every command has been answered that was sent to a group before the
// call, but those of clients that block there: they hold nothing, and a table that says
// that their keys are elsewhere calls them off.
func (s *Server) Settled(ctx context.Context, group string) error {
	loops := s.allLoops()
	done := make(chan struct{}, len(loops))
	for _, l := range loops {
		l.post(func() {
			l.drains = append(l.drains, drain{l.marksOf(group), func() { done <- struct{}{} }})
			l.settleDrains()
		})
	}
	for range loops {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return errors.New("data plane stopped")
		}
	}
	return nil
}

// marksOf are the pipes to a group with commands in flight.
func (l *loop) marksOf(group string) map[*upstream.Pipe]uint64 {
	blocked := make(map[*lent]bool)
	for x := range l.blocked {
		blocked[x.on] = true
	}
	marks := make(map[*upstream.Pipe]uint64)
	for k, p := range l.pipes {
		if k.group == group && !p.Drained(p.Mark()) {
			marks[p] = p.Mark()
		}
	}
	for x := range l.lents {
		if p := x.pipe; x.key.group == group && !p.Drained(p.Mark()) && !blocked[x] {
			marks[p] = p.Mark()
		}
	}
	return marks
}

// turnParked follows jobs that have turned round with the commands that are parked: what
// they knew of their keys holds no more.
func (l *loop) turnParked(t *router.Table) {
	for _, q := range l.parked {
		for _, r := range q.list {
			m := r.motion
			s := t.Slots[m.slot]
			if s.Target < 0 || t.Jobs[s.Job].Locks != m.locks {
				continue
			}
			if owner := t.Groups[s.Owner].ID; owner != m.owner {
				m.owner, m.target = owner, t.Groups[s.Target].ID
				clear(m.home)
			}
		}
	}
}
