package migrator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/failpoint"
	"keyferry/internal/topology"
	"keyferry/migrator/job"
	"keyferry/migrator/joberr"
)

// step applies an event: the new job is stored first, and only then true here.
//
// The order in which a transition becomes true:
//
//	event ─► Step ─► stored (compare-and-set) ─► r.job ─► history, subscribers ─► next action
func (r *runner) step(ctx context.Context, ev job.Event) error {
	ev.AtMs = time.Now().UnixMilli()
	if r.mover != nil {
		ev.Moved, ev.Bytes = r.mover.stats.total()
	}
	var first *topology.JobError
	first, ev.Counts = r.errs.drain()
	if ev.Err != nil {
		ev.First = first
	}
	next, err := job.Step(r.job, ev)
	if err != nil {
		return err
	}
	if err := r.persist(ctx, next); err != nil {
		return err
	}
	failpoint.Hit("job." + string(next.Phase) + ".persist.after")
	if next.Phase != r.job.Phase {
		r.logPhase(next, ev)
	}
	r.noteProgress(ev)
	if ev.Kind != job.SliceEnd && ev.Kind != job.SliceBegin {
		r.proof = proof{} // something may appear at the source from here on
	}
	if ev.Kind != job.PassEnd && r.mover != nil {
		r.mover.slice.Anew()
	}
	from := r.job.Phase
	r.setJob(next)
	e := job.Record(from, next, ev)
	if ev.Kind == job.SliceEnd || ev.Kind == job.SliceBegin {
		e.Reason = fmt.Sprintf("slice %d", next.Slices)
		if !job.ToldSlice(next.Slices) {
			r.m.announce(e)
			return nil
		}
	}
	r.m.record(ctx, e)
	return nil
}

// noteProgress is for the watchdog.
func (r *runner) noteProgress(ev job.Event) {
	switch ev.Kind {
	case job.Failure, job.Due, job.SliceEnd:
	case job.SliceBegin:
		last := max(r.progressMs.Load(), r.mover.stats.lastProgress.Load())
		r.progressMs.Store(job.ProgressAfterRest(r.job, last, ev.AtMs))
	default:
		r.progressMs.Store(ev.AtMs)
	}
}

// storing notes that the store is at work, for the watchdog; done when it no longer is.
func (r *runner) storing() (done func()) {
	r.storingMs.Store(time.Now().UnixMilli())
	return func() { r.storingMs.Store(0) }
}

// persist stores the job, and the flip with it when it is done. While the store fails it
// tries again, but not for long while clients are held meanwhile: then it gives up when it is
// certain that nothing has been stored.
//
// What is not stored has not happened: the runner acts by nothing that a crash could take back.
// The other way round a crash may come between storing and acting, so that every action can be
// done again by a process that knows only what is stored.
func (r *runner) persist(ctx context.Context, next topology.Job) (err error) {
	defer r.storing()()
	failpoint.Hit("job." + string(next.Phase) + ".persist.before")
	begun := time.Now()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err = r.update(ctx, next)
		if err == nil || ctx.Err() != nil || errors.Is(err, errNotOwner) {
			return err
		}
		r.errs.add(joberr.At(joberr.Store, err))
		r.m.log.Error("job could not be stored; will try again", zap.String("job", r.job.ID), zap.Error(err))
		if (r.frozen || r.held) && time.Since(begun) > reversalPatience {
			if st, e := r.m.store.Load(ctx); e == nil {
				if j := st.Job(next.ID); j != nil && j.Phase == next.Phase && j.Back == next.Back {
					return nil
				}
				return joberr.At(joberr.Store, fmt.Errorf("the job's slots can't be held until the store works again, and it goes on as before: %w", err))
			}
		}
		sleep(ctx, pause)
	}
}

// update stores the job as it is to be next. With done comes the flip: both are one transaction, so
// that no State has a job that is done and slots that are not the target's.
func (r *runner) update(ctx context.Context, next topology.Job) error {
	if failpoint.Fails("store") || failpoint.Fails("store."+string(next.Phase)) || next.Back && !r.job.Back && failpoint.Fails("store.turn") {
		return errPlanted
	}
	_, err := topology.Update(ctx, r.m.store, func(s *topology.State) error {
		if j := s.Job(next.ID); j != nil && j.Owner != next.Owner {
			return errNotOwner
		}
		if err := s.PutJob(next); err != nil {
			return err
		}
		if next.Phase == topology.Done && r.job.Phase != topology.Done {
			return s.FlipJob(next.ID)
		}
		return nil
	})
	return err
}

// errNotOwner: another gateway has taken the job over, and this one has been taken out of the cluster.
var errNotOwner = errors.New("the job belongs to another gateway now")

var errPlanted = errors.New("planted: no space left on device")

// setJob makes true what has been stored. It is the only writer of the whole job; limit writes the
// ceilings beside an action.
func (r *runner) setJob(j topology.Job) {
	r.m.mu.Lock()
	r.job = j
	r.m.mu.Unlock()
}

// logPhase is the one line of the log that each transition gets. What is quiet for the sake of the
// log's readers is in the job's history all the same.
func (r *runner) logPhase(next topology.Job, ev job.Event) {
	f := []zap.Field{zap.String("job", next.ID), zap.String("from", string(r.job.Phase)), zap.String("to", string(next.Phase)),
		zap.String("on", ev.Kind.String()), zap.Int64("keys_moved", next.KeysMoved)}
	quiet := next.Phase == topology.Backoff || r.job.Phase == topology.Backoff
	if quiet { // with an end that is gone there are many of these
		ok, skipped := r.talk.may(time.Now())
		if !ok {
			return
		}
		f = append(f, zap.Int("lines_left_out", skipped))
	}
	if ev.Err != nil {
		f = append(f, zap.String("origin", ev.Err.Origin), zap.String("code", ev.Err.Code), zap.String("error", ev.Err.Text),
			zap.Int("attempt", next.Attempt), zap.Int("of", next.MaxAttempts))
		if ev.First != nil && ev.First.Text != ev.Err.Text {
			f = append(f, zap.String("first_origin", ev.First.Origin), zap.String("first_error", ev.First.Text))
		}
		r.m.log.Warn("job phase", f...)
		return
	}
	if ev.Kind == job.SliceEnd || ev.Kind == job.SliceBegin { // as planned, and often
		r.m.log.Debug("job phase", f...)
		return
	}
	r.m.log.Info("job phase", f...)
}
