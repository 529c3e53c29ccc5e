package migrator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/failpoint"
	"keyferry/internal/topology"
	"keyferry/migrator/job"
	"keyferry/migrator/joberr"
	"keyferry/migrator/preflight"
	"keyferry/slotlock"
)

// runner drives one job: it acts by the phase, makes an event of what came of it, stores
// the job that Step gives, and acts again. It alone writes its job.
type runner struct {
	m          *Manager
	job        topology.Job
	locks      *slotlock.Table
	complete   bool // the lock table knows every key that went to the target
	live       *liveJob
	mover      *mover
	progressMs atomic.Int64 // Unix time of the last step forward of the job, its keys apart
	storingMs  atomic.Int64 // Unix time at which the store was asked for what it has not done yet; 0: nothing
	cmds       chan command
	relimited  chan struct{} // capacity 1: the limits have changed, while the action goes on
	proof      proof         // of the tail phase, between its slices
	cut        bool          // the last pass was ended by a slice
	atLast     int64         // keys moved at the last failure
	errs       *errorLog
	talk       *talk
	frozen     bool                // the slots are held for a reversal
	held       bool                // … or for an end; see holdUntouched
	findings   []preflight.Finding // of the last preflight; Manager.mu protects it
	stop       context.CancelFunc
	done       chan struct{}
}

// command is an operator's event on its way to the runner, who answers when it is stored.
type command struct {
	ev      job.Event
	refusal error // of a revert, unless nothing has moved: see Manager.wayBack
	reply   chan error
}

// run ends when the job has ended or ctx does.
func (r *runner) run(ctx context.Context) {
	defer close(r.done)
	defer r.shut()
	for ctx.Err() == nil && !r.job.Phase.Ended() {
		r.unfreeze(ctx)
		if r.job.Published && r.mover == nil {
			mv := r.m.newMover(r)
			r.m.mu.Lock()
			r.mover = mv
			r.m.mu.Unlock()
			r.cut = false
			mv.start()
		}
		actx, cancel := context.WithCancel(ctx)
		result := make(chan *job.Event, 1)
		go func() { result <- r.actAccepted(actx) }()
		r.await(ctx, cancel, result)
		cancel()
	}
	if r.job.Phase.Ended() {
		r.finish(ctx)
	}
}

// await waits for what comes first: the result of the action, or a command that makes
// sense, for which the action is stopped.
//
// An action never waits for an operator, and an operator never for an action: what is said to a
// job stops what it does, which can be begun again at any time, and the event counts as soon as
// it is stored. Only LIMIT lets the action go on.
func (r *runner) await(ctx context.Context, cancel context.CancelFunc, result chan *job.Event) {
	for {
		select {
		case ev := <-result:
			if ev == nil {
				return
			}
			err := r.step(ctx, *ev)
			if errors.Is(err, errNotOwner) {
				<-ctx.Done() // the gateway hears that it is fenced, and stops
				return
			}
			if err != nil && r.frozen && ctx.Err() == nil {
				r.unfreeze(ctx) // before the failure is stored: that takes as long as the store's trouble
				_ = r.step(ctx, *r.failed(err))
			}
			return
		case c := <-r.cmds:
			if _, err := job.Step(r.job, c.ev); err != nil {
				c.reply <- err
				continue
			}
			if c.ev.Kind == job.LimitBy {
				c.reply <- r.limit(ctx, c.ev)
				continue
			}
			cancel()
			<-result
			if c.ev.Kind == job.CancelBy {
				c.ev.Clean = r.holdUntouched()
			}
			accepted := accepts(&r.job, c.ev)
			err := c.refusal
			if err == nil || c.ev.Clean {
				err = r.step(ctx, c.ev)
			}
			r.letGo()
			if err == nil && accepted {
				r.accept(ctx)
			}
			c.reply <- err
			return
		case <-ctx.Done():
			<-result
			return
		}
	}
}

// holdUntouched reports that no key of the job's slots can be at the target, and lets nobody
// in until letGo, so that it stays so while the job's end is stored: a client that blocks on
// a key, or creates one, could bring it there meanwhile.
func (r *runner) holdUntouched() bool {
	if r.locks == nil {
		return true
	}
	if r.job.Back || !r.complete || r.touched() { // it goes on, and scripts are served on
		return false
	}
	r.mover.stopServingScripts()
	r.locks.Freeze()
	if r.locks.Still() && !r.touched() {
		r.held = true
		return true
	}
	r.locks.Thaw()
	r.mover.resumeServingScripts()
	return false
}

// touched reports that a key has moved, may have, or may have been created at the target, or
// that a slot is about to be moved because a script waits for it.
func (r *runner) touched() bool {
	return r.locks.Stats().Commits > 0 || len(r.mover.open.inDoubt()) > 0 ||
		slices.ContainsFunc(r.mover.whole.Slots(), func(slot int) bool {
			st, _ := r.mover.whole.State(slot)
			return st == slotlock.Moved || st == slotlock.Closed || st == slotlock.Wanted
		})
}

// letGo lets in who has come since holdUntouched: to the source, if the job has ended.
func (r *runner) letGo() {
	if !r.held {
		return
	}
	r.held = false
	if r.job.Phase == topology.Cancelled {
		r.locks.SetMode(slotlock.AllSource)
	}
	r.locks.Thaw()
}

// act does what the phase asks for and says what came of it; nil when it was stopped.
func (r *runner) act(ctx context.Context) *job.Event {
	var ev *job.Event
	var err error
	switch r.job.Phase {
	case topology.Queued:
		ev = &job.Event{Kind: job.Start}
	case topology.Preflight:
		ev, err = r.preflight(ctx)
	case topology.Preparing:
		ev, err = r.prepare(ctx)
	case topology.Bulk:
		ev, err = r.bulk(ctx)
	case topology.Tail:
		ev, err = r.tail(ctx)
	case topology.Verifying:
		ev, err = r.verify(ctx)
	case topology.Reverting:
		ev, err = r.revert(ctx)
	case topology.Backoff:
		t := time.NewTimer(untilDue(r.job.NextTryAtMs, r.m.cfg.BackoffMax))
		defer t.Stop()
		select {
		case <-t.C:
			ev = &job.Event{Kind: job.Due}
		case <-ctx.Done():
		}
	case topology.Paused, topology.Failed:
		if job.Resting(&r.job) {
			ev = r.rest(ctx)
			break
		}
		r.serveAsFound()
		if job.WaitsForRoom(&r.job) {
			return r.awaitRoom(ctx)
		}
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return r.failed(err)
	}
	return ev
}

// untilDue is the time until then, and no more than a job ever waits: when the clock has been set
// back since, what was soon may be far away.
func untilDue(atMs int64, most time.Duration) time.Duration {
	return min(time.Until(time.UnixMilli(atMs)), most)
}

// failed makes an event of an error.
func (r *runner) failed(err error) *job.Event {
	r.errs.add(err)
	e := r.errs.tell(err)
	kind := judge(err, r.job.Published)
	if kind != job.Failure {
		return &job.Event{Kind: kind, Err: e}
	}
	moved := int64(0)
	if r.mover != nil {
		moved = r.mover.stats.keys.Load()
	}
	progress := moved > r.atLast
	r.atLast = moved
	attempt := r.job.Attempt
	if progress {
		attempt = 0
	}
	wait := job.BackoffPause(r.m.cfg.BackoffMin, r.m.cfg.BackoffMax, attempt, rand.Float64())
	return &job.Event{Kind: job.Failure, Err: e, Progress: progress, WaitMs: wait.Milliseconds()}
}

// serveAsFound lets unmoved keys be served and created at the source, where the lock table
// can tell which these are.
func (r *runner) serveAsFound() {
	if r.locks == nil {
		return
	}
	if r.complete {
		r.locks.SetMode(slotlock.Filtered)
	} else {
		r.locks.SetMode(slotlock.Resolve)
	}
}

// bulk is one pass over the source while unmoved keys are served and created there. What it leaves,
// keys that were in use or came since, is for the passes of the tail phase. Losing a checkpoint
// costs a pass from the start, and never a key: a key that is met twice is seen to be gone.
func (r *runner) bulk(ctx context.Context) (*job.Event, error) {
	r.serveAsFound()
	r.mover.resumeServingScripts() // a job that was about to turn round had stopped
	cp, ok, err := r.m.store.LoadCheckpoint(ctx, r.job.ID)
	if err != nil {
		return nil, joberr.At(joberr.Store, err)
	}
	if s := &r.mover.stats; s.estimate.Load() == 0 {
		plan := []Plan{{Source: r.job.Source, Slots: r.job.Slots, Keys: -1}}
		r.m.estimateKeys(ctx, plan)
		s.estimate.Store(max(plan[0].Keys, 0))
	}
	from := position{}
	if ok {
		from = position{db: cp.DB, cursor: cp.Cursor, runID: cp.RunID}
	}
	var saved time.Time
	found, err := r.pass(ctx, from, func(p position) {
		from = p
		if time.Since(saved) >= r.m.cfg.CheckpointEvery {
			saved = time.Now()
			_ = r.saveCheckpoint(ctx, p)
		}
	})
	if err == nil {
		if err := r.m.store.DropCheckpoint(ctx, r.job.ID); err != nil {
			return nil, joberr.At(joberr.Store, err)
		}
		err = r.mover.moveWhole(ctx)
	}
	if errors.Is(err, errSliceOver) {
		return &job.Event{Kind: job.SliceEnd}, joberr.At(joberr.Store, r.saveCheckpoint(ctx, from))
	}
	if err != nil {
		return nil, err
	}
	return &job.Event{Kind: job.PassEnd, Found: found}, nil
}

// saveCheckpoint stores up to where all of the pass is done.
func (r *runner) saveCheckpoint(ctx context.Context, p position) error {
	s := &r.mover.stats
	keys, bytes := s.total()
	defer r.storing()()
	return r.m.store.SaveCheckpoint(ctx, topology.Checkpoint{Job: r.job.ID, Pass: int(s.pass.Load()), DB: p.db, Cursor: p.cursor,
		RunID: p.runID, KeysMoved: keys, BytesMoved: bytes, SavedAtMs: time.Now().UnixMilli()})
}

// pass is one pass, or what a slice lets it be: the next goes on with it.
func (r *runner) pass(ctx context.Context, from position, checkpoint func(position)) (found int64, err error) {
	if !r.cut {
		r.mover.stats.pass.Add(1)
	}
	found, err = r.mover.pass(ctx, from, checkpoint)
	r.cut = errors.Is(err, errSliceOver)
	return found, err
}

// tail makes one full pass, in as many slices as it takes, during which nothing new can
// appear at the source. One that finds no key is the proof.
//
// Why one empty pass proves it: resolve mode lets nobody run at the source but under a lock that
// first brings the key to the target. SCAN shows every key that is there from its begin to its
// end. So a key that is at the source after the pass was there all the while and was shown, or
// came there by a command that was let run at the source (a grant), or is one in doubt; and the
// two latter are counted.
func (r *runner) tail(ctx context.Context) (*job.Event, error) {
	r.locks.SetMode(slotlock.Resolve)
	p := &r.proof
	if !p.begun {
		if err := r.awaitHolds(ctx); err != nil {
			return nil, err
		}
		*p = proof{begun: true, grants: r.locks.Stats().Grants}
	}
	found, err := r.pass(ctx, p.at, func(at position) { p.at = at })
	p.found += found
	if errors.Is(err, errSliceOver) {
		return &job.Event{Kind: job.SliceEnd}, nil
	}
	whole := *p
	*p = proof{}
	if err != nil {
		return nil, err
	}
	if whole.found == 0 && (r.locks.Stats().Grants != whole.grants || len(r.mover.open.inDoubt()) > 0) {
		whole.found = 1 // somebody was let run at the source, or a key is in doubt: not a proof
	}
	return &job.Event{Kind: job.PassEnd, Found: whole.found}, nil
}

// awaitHolds waits until the commands that were sent to the source before the tail phase
// have been answered: one of them could still create a key behind the pass.
func (r *runner) awaitHolds(ctx context.Context) error {
	t := time.NewTicker(2 * time.Millisecond)
	defer t.Stop()
	for r.locks.Stats().Holds > 0 {
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// verify closes the move: from here on every key is served at the target, and what is
// stored next is the flip.
//
// From here until every loop has heard of the flip a client may create a key at the target that
// the lock table does not know. That does no harm: every key is the target's by then. But should
// the flip not be stored, the table is of no use to tell who has moved, and complete says so.
func (r *runner) verify(ctx context.Context) (*job.Event, error) {
	if r.mover.stats.pass.Load() == 0 {
		// A process that finds the job here has not seen the proof itself.
		return &job.Event{Kind: job.PassEnd}, nil
	}
	r.mover.stopServingScripts() // every key is at the target: scripts need not wait any more
	failpoint.Hit("job.flip.before")
	if err := r.mover.closeAccount(ctx); err != nil {
		return nil, err
	}
	r.complete = false // keys may be created at the target unknown to the lock table from now on
	r.locks.SetMode(slotlock.AllTarget)
	return &job.Event{Kind: job.Verified}, nil
}

// awaitRoom asks the target now and then whether it takes keys again.
func (r *runner) awaitRoom(ctx context.Context) *job.Event {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		c, cancel := context.WithTimeout(ctx, r.m.cfg.CallTimeout)
		l, err := r.mover.dialTarget(c)
		if err == nil {
			room := l.Info.RoomAgain(r.mover.gov.KeyCost())
			l.Close()
			if room {
				cancel()
				return &job.Event{Kind: job.Room}
			}
		}
		cancel()
	}
}

// finish waits until every loop has left the job's routes before its locks go away, since
// commands may still be parked there.
func (r *runner) finish(ctx context.Context) {
	if r.mover != nil {
		r.mover.stopServingScripts()
	}
	if r.awaitRoutes(ctx) != nil {
		return // the gateway stops
	}
	failpoint.Hit("job.flip.after")
	_ = r.m.store.DropCheckpoint(ctx, r.job.ID)
	r.dropMarks(ctx)
}

// awaitRoutes waits until every loop routes by what is stored.
func (r *runner) awaitRoutes(ctx context.Context) error {
	st, err := r.m.store.Load(ctx)
	if err != nil {
		return err
	}
	return r.m.control.AwaitEpoch(ctx, st.Epoch)
}

// shut stops the mover and lets go of the lock table, which can be large, while
// the numbers stay.
func (r *runner) shut() {
	if r.mover != nil {
		r.mover.close()
		defer func() {
			r.m.mu.Lock()
			r.locks, r.mover.locks, r.mover.env.Locks = nil, nil, nil
			r.m.mu.Unlock()
		}()
		if doubt := r.mover.open.inDoubt(); len(doubt) > 0 {
			r.m.log.Warn("stopped with keys in doubt; they stay fenced and are decided at the next start",
				zap.String("job", r.job.ID), zap.Strings("keys", doubt[:min(len(doubt), 20)]), zap.Int("count", len(doubt)))
		}
	}
}

// do sends an operator's event to the runner.
func (r *runner) do(ctx context.Context, ev job.Event, refusal error) error {
	c := command{ev, refusal, make(chan error, 1)}
	r.m.mu.Lock()
	id, phase := r.job.ID, r.job.Phase
	r.m.mu.Unlock()
	if phase.Ended() { // it may yet wait for the loops to leave its routes
		return fmt.Errorf("job %s is %s", id, phase)
	}
	select {
	case r.cmds <- c:
	case <-r.done:
		return fmt.Errorf("job %s is %s", r.job.ID, r.job.Phase)
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-c.reply:
		return err
	case <-ctx.Done():
		return fmt.Errorf("job %s was told, and has not answered in time: it may do it yet, which MIGRATION STATUS shows: %w", id, ctx.Err())
	}
}
