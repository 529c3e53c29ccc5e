package migrator

import (
	"context"
	"time"

	"keyferry/internal/topology"
	"keyferry/slotlock"
)

// liveJob is all that this process has of one job. It is made when the job is first heard of,
// by whoever comes first: New, for what a former process has left; the control plane, when it
// builds a table; the runner, when it has published its job and the State has not come round
// yet. It goes when the State has forgotten the job.
//
//	          New / Follow          LocksOf / newMover            Routed
//	liveJob ──┬─ runner ─────────── (runs until the job ends; its numbers stay) ──► forgotten
//	          └─ moving ─────────── (while some loop may route by it) ─► nil
//
// Manager.mu protects all. recovered does not change once there is a runner or moving.
type liveJob struct {
	recovered bool    // it was published by another, or a former, process: what has moved is not known
	moving    *moving // nil: no loop routes by it
	runner    *runner // nil: the job had ended before this process began, or is not seen yet
}

// moving is what the data plane has of one job whose slots move. Manager.mu protects routed;
// the rest does not change.
type moving struct {
	locks   *slotlock.Table
	whole   *slotlock.Whole // the slots that are moved in one piece; nil: none
	routed  bool            // every loop routes by it
	drained chan struct{}   // closed when, besides, no command on them is unlocked, of any gateway
}

// live finds what there is of a job, or begins it. mu is held.
func (m *Manager) live(id string) *liveJob {
	lj := m.jobs[id]
	if lj == nil {
		lj = &liveJob{}
		m.jobs[id] = lj
	}
	return lj
}

// runner is who runs a job; nil: nobody. mu is held.
func (m *Manager) runner(id string) *runner {
	if lj := m.jobs[id]; lj != nil {
		return lj.runner
	}
	return nil
}

// moving finds what the data plane has of a move, or makes it. mu is held.
func (m *Manager) moving(mv topology.Move) *moving {
	lj := m.live(mv.Job)
	if lj.moving != nil {
		return lj.moving
	}
	if lj.runner == nil { // whoever has published it was not this process
		lj.recovered = true
	}
	o := m.lockOptions()
	o.Mode, o.Closed = slotlock.Filtered, true
	if lj.recovered {
		o.Mode = slotlock.Resolve // this table does not know what had moved before
	}
	lj.moving = &moving{locks: slotlock.New(o), whole: m.wholeSlots(mv, lj.recovered), drained: make(chan struct{})}
	return lj.moving
}

func (m *Manager) lockOptions() slotlock.Options {
	return slotlock.Options{ExpectedKeys: 1 << 15, MaxWaiting: m.cfg.MaxWaiting}
}

// published reports whether the job's slots may move, by what is stored or by what its
// runner, which is ahead of that, has stored since. Manager.mu is held.
func (lj *liveJob) published(stored *topology.Job) bool {
	return stored != nil && stored.Published || lj.runner != nil && lj.runner.job.Published
}

// record is the job as those who ask are to see it: as its runner has it, who knows more than
// the State; but of an end the runner knows before the slots have changed hands, and whoever
// plans by that would see the old owner. Manager.mu is held.
func (lj *liveJob) record(stored topology.Job) topology.Job {
	if lj == nil || lj.runner == nil || lj.runner.job.Phase.Ended() && !stored.Phase.Ended() {
		return stored
	}
	return lj.runner.job
}

// Follow implements control.Migrator: it runs the jobs that are new.
func (m *Manager) Follow(st topology.State) {
	m.stamps.follow(st)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range st.Jobs {
		lj := m.live(j.ID)
		if lj.runner != nil || j.Phase.Ended() || !m.control.Mine(j.Owner) {
			continue
		}
		r := &runner{m: m, live: lj, job: j, complete: !lj.recovered,
			cmds: make(chan command), relimited: make(chan struct{}, 1), done: make(chan struct{}), errs: &errorLog{}, talk: &talk{}}
		if lj.moving != nil {
			r.locks = lj.moving.locks
		}
		r.progressMs.Store(time.Now().UnixMilli())
		lj.runner = r
		ctx, stop := context.WithCancel(m.ctx)
		r.stop = stop
		m.wg.Go(func() { r.run(ctx) })
	}
}

// Routed implements control.Migrator: it opens the lock tables of new moves when they are
// drained, and drops what is kept of jobs that don't need it any more.
func (m *Manager) Routed(st topology.State, drained <-chan struct{}) (left <-chan struct{}) {
	left = m.leave(&st)
	m.mu.Lock()
	for _, mv := range st.Moves {
		lj := m.jobs[mv.Job]
		if drained == nil || mv.To != 0 || lj == nil || lj.moving == nil || lj.moving.routed {
			continue
		}
		x := lj.moving
		x.routed = true
		m.wg.Go(func() {
			select {
			case <-drained:
			case <-m.ctx.Done():
				return
			}
			if m.control.AwaitOthers(m.ctx, mv) == nil {
				x.locks.Open()
				close(x.drained)
			}
		})
	}
	var forgotten []string
	for id, lj := range m.jobs {
		j := st.Job(id)
		// The runner may have published its job already in a State newer than st.
		if !lj.published(j) {
			lj.moving = nil
		}
		if j == nil { // so old that the State has forgotten it
			if lj.runner != nil {
				forgotten = append(forgotten, id)
			}
			delete(m.jobs, id)
		}
	}
	m.mu.Unlock()
	for _, id := range forgotten {
		_ = m.store.DropEvents(m.ctx, id) // they cost room and nothing else
	}
	return left
}

// leave ends the runners of jobs that have been given to another gateway. Every loop has left their routes by
// now, so nobody is parked for their keys any more; the batches under way are finished. left is closed
// when all have ended, and has left no key in doubt: else it never is, and the new owner waits until this
// gateway is out, and fenced.
func (m *Manager) leave(st *topology.State) (left <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var leaving []*runner
	for _, j := range st.Jobs {
		if lj := m.jobs[j.ID]; lj != nil && lj.runner != nil && !j.Phase.Ended() && !m.control.Mine(j.Owner) {
			leaving = append(leaving, lj.runner)
			delete(m.jobs, j.ID) // should it come back, it is another's work that is gone on with
		}
	}
	if len(leaving) == 0 {
		return nil
	}
	done := make(chan struct{})
	m.wg.Go(func() {
		clean := true
		for _, r := range leaving {
			r.stop()
			<-r.done
			clean = clean && (r.mover == nil || len(r.mover.open.inDoubt()) == 0)
		}
		if clean {
			close(done)
		}
	})
	return done
}
