package proxy

import (
	"context"
	"errors"

	"keyferry/internal/upstream"
	"keyferry/proxy/parking"
	"keyferry/router"
)

// pipeMark is a place in a pipe's history. A pipe outlives its connections: calls that died with
// one count as answered when it has been fenced.
type pipeMark struct {
	pipe *upstream.Pipe
	at   uint64
}

// Answered implements parking.Mark.
func (m pipeMark) Answered() bool { return m.pipe.Drained(m.at) }

// mark adds the place behind all that a pipe has been sent, if that is not answered yet.
func mark(marks []parking.Mark, p *upstream.Pipe) []parking.Mark {
	if m := (pipeMark{p, p.Mark()}); !m.Answered() {
		marks = append(marks, m)
	}
	return marks
}

// offer gives the loop a new table; see parking.Lot.Offer for when it comes into force.
func (l *loop) offer(t *router.Table, adopted, drained func()) {
	l.parking.Offer(parking.Offer{Table: routes{t}, Drained: drained, Adopt: func() []parking.Mark {
		old := l.table
		l.adopt(t)
		// From here on whoever comes asks the lock table. What went out before did not: the marks
		// are taken after the last of it.
		adopted()
		return l.beginMarks(old, t)
	}})
}

// beginMarks are those of the pipes to the sources of moves that t has and old had not, or had with
// another owner, and of the shared ones to their targets, where a SWAPDB may be under way. A client
// that blocks at a source counts only if its keys are about to move, since then it is called off.
func (l *loop) beginMarks(old, t *router.Table) (marks []parking.Mark) {
	begins := func(slot int) bool {
		s := t.Slots[slot]
		if s.Job < 0 { // it is stable, or a peer moves it
			return s.Target >= 0 && byPeer(old, slot) != byPeer(t, slot)
		}
		return !routes{old}.Has(t.Jobs[s.Job].Locks)
	}
	sources, ends := make(map[string]bool), make(map[string]bool)
	for slot, s := range t.Slots {
		if begins(slot) {
			source := t.Groups[s.Owner].ID
			sources[source], ends[source], ends[t.Groups[s.Target].ID] = true, true, true
		}
	}
	if len(sources) == 0 {
		return nil
	}
	stay := make(map[*dedicated]bool)
	for x := range l.waiters.blocked {
		stay[x.on] = !x.keyed() || !begins(x.slot)
	}
	for k, p := range l.servers.pipes {
		if ends[k.group] {
			marks = mark(marks, p)
		}
	}
	for x := range l.dedicated.all {
		if sources[x.key.group] && !stay[x] {
			marks = mark(marks, x.pipe)
		}
	}
	return marks
}

// A job that is reverted turns round: its source and its target change places. Its lock
// table is frozen meanwhile, so that whoever asks waits (slotlock.Table.Freeze):
//
//	runner   freeze ─► Settled(target) ─► store Back ────────────► acknowledged ─► turn, thaw
//	loops                                      Apply: Lot.Offer ─┘

// Settled returns when every command has been answered that was sent to a group before the
// call, but those of clients that block there: they hold nothing, and a table that says
// that their keys are elsewhere calls them off.
func (s *Server) Settled(ctx context.Context, group string) error {
	loops := s.allLoops()
	done := make(chan struct{}, len(loops))
	for _, l := range loops {
		l.post(func() { l.parking.Await(l.marksOf(group), func() { done <- struct{}{} }) })
	}
	for range loops {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.life.ctx.Done():
			return errors.New("data plane stopped")
		}
	}
	return nil
}

// marksOf are those of the pipes to a group, blocked clients' excepted.
func (l *loop) marksOf(group string) (marks []parking.Mark) {
	blocked := make(map[*dedicated]bool)
	for x := range l.waiters.blocked {
		blocked[x.on] = true
	}
	for k, p := range l.servers.pipes {
		if k.group == group {
			marks = mark(marks, p)
		}
	}
	for x := range l.dedicated.all {
		if x.key.group == group && !blocked[x] {
			marks = mark(marks, x.pipe)
		}
	}
	return marks
}

// sharedMarks are those of all shared connections. A client that blocks has a connection of
// its own, and is not waited for.
func (l *loop) sharedMarks() (marks []parking.Mark) {
	for _, p := range l.servers.pipes {
		marks = mark(marks, p)
	}
	return marks
}
