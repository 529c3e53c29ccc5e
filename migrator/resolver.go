package migrator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/control"
	"keyferry/internal/failpoint"
	"keyferry/migrator/joberr"
	"keyferry/migrator/keymove"
)

// Resolvers are several and their batches small, because a key that takes long (a big one,
// say) must not hold up the touches of others.
const (
	resolverCount = 8
	touchBatch    = 8
)

// resolvers fence the former self, then decide touched keys and pending ones for as long
// as the mover lives.
func (m *mover) resolvers(ctx context.Context) {
	pause := m.cfg.BackoffMin
	for {
		err := m.fenceOthers(ctx)
		if err == nil {
			break
		}
		m.note(err)
		m.fenced.err.Store(&err)
		if !control.BackOff(ctx, &pause) {
			return
		}
	}
	close(m.fenced.done)
	for i := range resolverCount {
		m.wg.Go(func() { m.resolver(ctx, fmt.Sprint("resolver", i)) })
	}
}

// resolver works for as long as the mover lives. An error is noted and the resolver goes on after a
// pause: there is nobody else who would decide the keys that it has in hand, and clients wait for
// them, each for its own deadline.
func (m *mover) resolver(ctx context.Context, id string) {
	w := m.newWorker()
	defer w.Close()
	pause := m.cfg.BackoffMin
	for ctx.Err() == nil {
		err := m.resolveOnce(ctx, w)
		if err == nil {
			pause = m.cfg.BackoffMin
			select {
			case <-m.locks.Touched():
			case <-m.open.bell:
			case <-ctx.Done():
			}
			continue
		}
		if ctx.Err() == nil {
			m.note(err)
			if ok, skipped := m.talk.may(time.Now()); ok {
				m.log.Warn("resolver: will try again", zap.String("job", m.job), zap.Error(err), zap.Duration("in", pause), zap.Int("lines_left_out", skipped))
			}
		}
		if !control.BackOff(ctx, &pause) {
			return
		}
	}
}

// resolveOnce works until nothing is touched or pending.
//
// Pending keys come before touched ones: they have been locked longer, and each of them may be
// what a touch that comes next would wait for.
func (m *mover) resolveOnce(ctx context.Context, w *keymove.Worker) error {
	for ctx.Err() == nil {
		if pending := m.open.claim(); len(pending) > 0 {
			if err := m.drive(ctx, w, pending); err != nil {
				return err
			}
			continue
		}
		// Connect before taking keys: while an end is away they wait locked, each for its
		// client's own deadline, and no retry spins.
		if m.locks.Stats().Waiting > 0 {
			if err := w.Connect(ctx); err != nil {
				return err
			}
		}
		keys := m.locks.Take(touchBatch)
		if len(keys) == 0 {
			return nil
		}
		moves := make([]*keymove.Key, len(keys))
		for i, k := range keys {
			moves[i] = &keymove.Key{Key: k, Since: time.Now()}
		}
		m.stats.touched.Add(int64(len(keys)))
		if err := m.drive(ctx, w, moves); err != nil && !joberr.IsOOM(err) {
			if !decided(err, moves) {
				return err
			}
			m.note(err)
		}
	}
	return nil
}

// decided reports that an error is an answer after which it is known of each key where it lives:
// its clients go on there. To pause for that would have them all wait, and the next ones too, for as
// long as the target refuses what the source has.
func decided(err error, moves []*keymove.Key) bool {
	return joberr.Refused(err) && !slices.ContainsFunc(moves, func(mv *keymove.Key) bool { return mv.Step != keymove.Committed && mv.Step != keymove.Stays })
}

// drive runs moves of any databases and hands over what could not be decided.
func (m *mover) drive(ctx context.Context, w *keymove.Worker, moves []*keymove.Key) error {
	if err := enterGate(ctx, m.gate); err != nil {
		m.handOver(moves)
		return err
	}
	defer m.gate.Leave()
	byDB := make(map[int][]*keymove.Key)
	for _, mv := range moves {
		byDB[mv.DB] = append(byDB[mv.DB], mv)
	}
	var first error
	for db, group := range byDB {
		if first != nil {
			m.handOver(group)
			continue
		}
		if err := w.Connect(ctx); err != nil {
			m.handOver(group)
			first = err
			continue
		}
		over := m.open.locked(group)
		left, err := w.Run(ctx, db, group)
		m.handOver(left)
		over()
		if err != nil {
			first = err
		}
	}
	return first
}

// settle releases the keys whose move is over, and returns the others.
//
// A lock is released when, and only when, the step says where the key lives: at the target
// (Committed), at the source (Stays), or where it lived before (Released). Clients who wait for
// it are let go in that moment and go there.
func (m *mover) settle(moves []*keymove.Key) []*keymove.Key {
	now := time.Now()
	rest := moves[:0]
	var since time.Time // of the keys counted in n
	n := int64(0)
	for _, mv := range moves {
		if !mv.Step.Final() {
			rest = append(rest, mv)
			continue
		}
		if n > 0 && mv.Since != since {
			m.stats.holds.note(now.Sub(since), n)
			n = 0
		}
		since = mv.Since
		n++
		mv.Drop()
		if mv.Doubted {
			m.open.decided(mv)
		}
		if mv.MayExpire() {
			m.locks.Expiring().Leave(mv.Key)
		}
		if failpoint.On(failpoint.PlantNoCreated) && mv.Step == keymove.Committed && mv.Unread() { // there was nothing to move
			m.locks.CommitForgetting(mv.Key)
		} else if mv.Step == keymove.Committed {
			m.locks.Commit(mv.Key)
		} else {
			m.locks.Abort(mv.Key, mv.Step == keymove.Stays)
		}
		if mv.Unsettled != nil {
			*mv.Unsettled--
		}
	}
	if n > 0 {
		m.stats.holds.note(now.Sub(since), n)
	}
	return rest
}

// handOver gives keys that could not be decided to the resolvers.
func (m *mover) handOver(moves []*keymove.Key) {
	for _, mv := range moves {
		if mv.Step <= keymove.Restore { // nothing of it has been sent to the target
			mv.Step = keymove.Released
		}
	}
	keep := m.settle(moves)
	for _, mv := range keep {
		mv.Unsettled = nil // its part in that is over
	}
	m.open.add(keep)
}
