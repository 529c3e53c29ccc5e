package migrator

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/failpoint"
	"keyferry/migrator/job"
	"keyferry/migrator/joberr"
	"keyferry/migrator/keymove"
	"keyferry/slotlock"
)

// A job is reverted by the machine that moved it, in the other direction:
//
//	forth  passes stop; what is in doubt is decided; a sweep drops what the source still
//	       holds of keys that the target has: now each key is in one place
//	reverse  the lock table is frozen, and when the last command that was let in has been
//	       answered, Job.Back is stored, the loops route by it, and all ask again
//	back   as in the tail phase: every touch brings its key home, passes over the target
//	       go on until one finds nothing, and the slots are stable at the source again
//
// The rule holds in both directions: what is found where the keys go to is the key. It needs
// the sweep, since a source that was restarted from an old dump may hold garbage.
//
// The way back is tried before any of this (wayback.go). Where it turns out later to be one that a
// key can't go, the job can be sent forward: at once before it has turned round, else by turning
// round once more, with its ends exchanged in all that is said above.

// reversalPatience bounds how long the slots may be frozen before the reversal is given up for this
// time: commands that take longer than that are not waited for.
const reversalPatience = 500 * time.Millisecond

// SetSettled gives the Manager the data plane's means to wait until all commands sent to a
// group have been answered. Call it before Begin.
func (m *Manager) SetSettled(f func(ctx context.Context, group string) error) { m.plane.settled = f }

// revert is the action of the phase.
func (r *runner) revert(ctx context.Context) (*job.Event, error) {
	if r.job.Back && !r.job.Onward {
		return r.home(ctx)
	}
	if _, err := r.prepare(ctx); err != nil {
		return nil, err
	}
	if err := r.tryTurn(ctx); err != nil {
		return nil, err
	}
	r.mover.stopServingScripts()
	r.splitWhole()
	r.serveAsFound()
	if err := r.mover.sweep(ctx); err != nil {
		return nil, err
	}
	if err := r.awaitDecided(ctx); err != nil {
		return nil, err
	}
	return r.reverse(ctx)
}

// splitWhole gives slots that were moved in one piece to the lock table, key by key. Which
// keys were created there since is not in its filter.
func (r *runner) splitWhole() {
	for _, slot := range r.mover.whole.Slots() {
		if st, _ := r.mover.whole.State(slot); st == slotlock.Moved {
			r.complete = false
			r.locks.SetMode(slotlock.Resolve)
			r.mover.whole.Set(slot, slotlock.PerKey)
		}
	}
}

// sweep drops the source's copy of every key that the target has. A key that is just being
// moved for a client is looked at again: that move may come to nothing.
//
// Why there has to be one: the way back takes what it finds at the source for the key. After a
// restart from an old dump the source may hold keys that have moved long since, and each of them
// would win over what clients have written at the target.
func (m *mover) sweep(ctx context.Context) error {
	m.sweeping.on.Store(true)
	defer m.sweeping.on.Store(false)
	for {
		m.sweeping.missed.Store(false)
		if _, err := m.pass(ctx, position{}, func(position) {}); err != nil || !m.sweeping.missed.Load() {
			return err
		}
		sleep(ctx, sweepAgain)
	}
}

// doing says how far a sweep is; "": there is none.
func (m *mover) doing() string {
	if !m.sweeping.on.Load() {
		return ""
	}
	return fmt.Sprintf("before it turns round it looks for keys that are at both groups: %d of about %d keys of %s looked at",
		m.stats.scanned.Load()-m.sweeping.from.Load(), m.sweeping.of.Load(), m.source.ID)
}

const sweepAgain = 5 * time.Millisecond

// sweepStep is where the sweep enters the key machine. Of a key that has moved the source
// has nothing but what it brought back from an old dump; to ask the target would be to take
// its word that the key has been deleted since for a proof that it never came there.
func (m *mover) sweepStep(k slotlock.Key) keymove.MoveStep {
	if m.locks.Moved(k) {
		return keymove.Unlink
	}
	return keymove.Probe
}

// awaitDecided waits until nothing is in doubt.
func (r *runner) awaitDecided(ctx context.Context) error {
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	end := time.NewTimer(r.m.cfg.CallTimeout)
	defer end.Stop()
	for len(r.mover.open.inDoubt()) > 0 {
		select {
		case <-t.C:
		case <-end.C:
			return joberr.At(joberr.Target, errInDoubt)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// reverse freezes the slots and waits until nobody is inside. Its event leaves them frozen:
// reversed or thaw must follow.
//
// Nothing may be at the target that is not answered when the job is stored as reversed: a reply
// that came later would be of a key that may have gone home meanwhile. That is why the slots are
// held until both the lock table and the data plane say that all has been answered, and why that
// is given up soon when somebody's command takes long: clients wait all the while.
func (r *runner) reverse(ctx context.Context) (ev *job.Event, err error) {
	dst, err := r.mover.dialTarget(ctx)
	if err != nil {
		return nil, joberr.At(joberr.Target, err)
	}
	from := dst.Info.Life()
	dst.Close()
	src, err := r.mover.dialSource(ctx)
	if err != nil {
		return nil, joberr.At(joberr.Source, err)
	}
	to := src.Info.Life()
	src.Close()
	frozenAt := time.Now()
	r.freeze()
	defer func() {
		if err != nil {
			r.thaw()
		}
	}()
	c, cancel := context.WithTimeout(ctx, reversalPatience)
	defer cancel()
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	for err == nil && !r.quiet() {
		select {
		case <-t.C:
		case <-c.Done():
			err = c.Err()
		}
	}
	if err == nil { // all who are let in have heard of it, and nobody is from here on
		err = r.m.plane.settled(c, r.mover.target.ID)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, joberr.At(joberr.Target, fmt.Errorf("the job can't turn round yet: commands in its slots take longer than %v", reversalPatience))
	}
	r.mover.close() // its resolvers have nothing to do, and nothing comes before the thaw
	r.m.log.Info("the slots are held while the job turns round", zap.String("job", r.job.ID), zap.Duration("after", time.Since(frozenAt)))
	return &job.Event{Kind: job.Reversed, RunID: from, TargetID: to}, nil
}

// freeze holds everybody who asks from here on. Slots that are moved in one piece are closed besides,
// since their commands do not ask the lock table.
func (r *runner) freeze() {
	r.frozen = true
	r.locks.Freeze()
	for _, slot := range r.mover.whole.Slots() {
		if st, _ := r.mover.whole.State(slot); st == slotlock.Open {
			r.mover.whole.Set(slot, slotlock.Closed)
		}
	}
}

// quiet reports that nobody is inside any more. Since freeze nobody comes in, so that it stays true.
func (r *runner) quiet() bool {
	for _, slot := range r.mover.whole.Slots() {
		if _, holds := r.mover.whole.State(slot); holds > 0 {
			return false
		}
	}
	return r.locks.Quiet() && len(r.mover.open.inDoubt()) == 0
}

// unfreeze lets the slots go on after a reversal that came about, or did not. It is called
// before anything else is done for the job.
func (r *runner) unfreeze(ctx context.Context) {
	if !r.frozen {
		return
	}
	if !r.turned() {
		r.thaw()
	} else {
		failpoint.Hit("job.turn.stored")
		if r.awaitRoutes(ctx) != nil {
			return // the gateway stops
		}
		r.locks.Reverse(r.m.lockOptions())
		r.complete = false
		_ = r.m.store.DropCheckpoint(ctx, r.job.ID) // of a pass over what was the source then
		r.m.beginAccount(ctx, r.job)
		r.release(slotlock.Moved) // of which no key had left: they are where the others go
	}
	if r.mover != nil { // its resolvers were stopped for the reversal
		r.m.mu.Lock()
		r.mover = nil
		r.m.mu.Unlock()
	}
}

// turned reports that the job goes the other way from now on, and the mover does not yet.
func (r *runner) turned() bool { return (r.mover.source.ID == r.job.Source) == r.job.Back }

func (r *runner) thaw() { r.release(slotlock.Open) }

// release lets all go on who were held; closed says what becomes of the slots that freeze closed.
// The slots come first: who is let go by the lock table may ask for one of them at once.
func (r *runner) release(closed slotlock.SlotState) {
	r.frozen = false
	for _, slot := range r.mover.whole.Slots() {
		if st, _ := r.mover.whole.State(slot); st == slotlock.Closed {
			r.mover.whole.Set(slot, closed)
		}
	}
	r.locks.Thaw()
}

// home brings back what is at the target. The pass that finds nothing is the proof, as in
// the tail phase.
func (r *runner) home(ctx context.Context) (*job.Event, error) {
	for {
		ev, err := r.tail(ctx)
		if err != nil {
			return nil, err
		}
		if ev.Kind == job.SliceEnd {
			return ev, nil
		}
		if ev.Found == 0 {
			break
		}
	}
	failpoint.Hit("job.reverted.before")
	if err := r.mover.closeAccount(ctx); err != nil {
		return nil, err
	}
	r.locks.SetMode(slotlock.AllTarget)
	return &job.Event{Kind: job.Home}, nil
}
