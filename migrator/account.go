package migrator

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/job"
	"keyferry/migrator/joberr"
	"keyferry/migrator/keymove"
	"keyferry/migrator/link"
	"keyferry/router"
)

// A target that forgets: it restarts empty or from an old snapshot, or somebody flushes it, while the
// source gives up key after key. keymove.Ledger finds out; what is done about it is here.
//
//	worker, pass, pinger ─► Ledger.Meet, Look, numbered ─► ForgotError ─► paused(target-forgot)
//	RESUME, CANCEL … REVERT ─► Ledger.Accept ─► the job goes on with what the target has
//
// The ledger is stored beside the checkpoints, under names of its own, so that a gateway that is
// started anew knows what the target has to show.

// accountOf is the name under which the account of a job with its target is stored. On the way back
// of a revert the target is another.
func accountOf(job string, back bool) string {
	if back {
		return job + "/back"
	}
	return job + "/forth"
}

// newMark names a key that nobody has at any server yet.
func newMark(job string) string {
	return fmt.Sprintf("%s%s:%016x", router.ReservedPrefix, job, rand.Uint64())
}

// newLedger goes on with the account of the gateway's former self, if there is one.
func (m *Manager) newLedger(j topology.Job, recovered bool) *keymove.Ledger {
	slot := func(name []byte) int { return m.scheme.Slot(name) }
	a, ok := m.loadAccount(context.Background(), accountOf(j.ID, j.Back))
	if !ok {
		a = keymove.Account{Life: j.TargetRunID, Mark: newMark(j.ID)}
	}
	return keymove.NewLedger(slot, a, recovered && !ok)
}

func (m *Manager) loadAccount(ctx context.Context, name string) (a keymove.Account, ok bool) {
	cp, ok, err := m.store.LoadCheckpoint(ctx, name)
	return a, ok && err == nil && json.Unmarshal([]byte(cp.Target), &a) == nil
}

// beginAccount begins anew for a job that has turned round. Its keys may have gone this way before: what
// the target was given then has left it since.
func (m *Manager) beginAccount(ctx context.Context, j topology.Job) {
	name := accountOf(j.ID, j.Back)
	a := keymove.Account{Life: j.TargetRunID, Mark: newMark(j.ID)}
	if old, ok := m.loadAccount(ctx, name); ok {
		a.Former = old.Marks()
	}
	if err := m.saveAccount(ctx, name, a); err != nil {
		m.log.Warn("the account of what the target was given could not be stored; the job goes on, and after a restart of the gateway less can be told of keys that the target loses", zap.String("job", j.ID), zap.Error(err))
	}
}

// saveAccount stores the account when it has changed since saved.
func (m *mover) saveAccount(ctx context.Context, saved *int64) {
	a, changes := m.ledger.Account()
	if changes == *saved {
		return
	}
	if m.keep(ctx, a) == nil { // else it is tried again: an old account proves less, and nothing wrong
		*saved = changes
	}
}

func (m *Manager) saveAccount(ctx context.Context, name string, a keymove.Account) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return m.store.SaveCheckpoint(ctx, topology.Checkpoint{Job: name, Target: string(text), SavedAtMs: time.Now().UnixMilli()})
}

// markOver reads marks over a connection.
func markOver(l *link.Link) func(context.Context, string, int) (int64, error) {
	return func(ctx context.Context, name string, db int) (int64, error) {
		if err := l.Use(ctx, db); err != nil {
			return 0, err
		}
		text, err := l.Conn.Get(ctx, name).Result()
		if err != nil {
			return 0, link.NoMark(err)
		}
		n, _ := strconv.ParseInt(text, 10, 64)
		return n, nil
	}
}

// lookAtTarget compares what the target has with what it was given, over a connection that was just
// made or that has just answered. It goes through the gate: FLUSHALL through the gateway removes the
// mark while the gate is shut, and before it is opened the ledger has a new one.
func (m *mover) lookAtTarget(ctx context.Context, l *link.Link) error {
	if err := enterGate(ctx, m.gate); err != nil {
		return err
	}
	defer m.gate.Leave()
	if err := m.ledger.Look(ctx, l.Info, markOver(l)); err != nil {
		return joberr.At(joberr.Target, err)
	}
	return m.ledger.Forgot()
}

// checkTarget makes sure that the target has all that it was given. It comes before anything is
// concluded from what the source does not have.
func (m *mover) checkTarget(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.CallTimeout)
	defer cancel()
	l, err := m.dialTarget(ctx)
	if err != nil {
		return joberr.At(joberr.Target, err)
	}
	defer l.Close()
	return m.lookAtTarget(ctx, l)
}

// closeAccount is checkTarget when nothing more is to be given up. The mark is removed, so that a
// server of which a job is done has its keys and no other.
func (m *mover) closeAccount(ctx context.Context) error {
	if err := m.checkTarget(ctx); err != nil {
		return err
	}
	a, _ := m.ledger.Account()
	m.ledger.Renew(newMark(m.job)) // should the job's end not be stored, it goes on
	return joberr.At(joberr.Target, dropMarks(ctx, m.dialer, m.target, a, m.databases, m.cfg.CallTimeout))
}

// stopFor ends the pass under way, if there is one, because the target has forgotten.
func (m *mover) stopFor(err error) {
	m.workers.mu.Lock()
	p := m.workers.p
	m.workers.mu.Unlock()
	if p != nil {
		p.fail(err)
	}
}

// accept lets a job go on that had stopped because its target had forgotten. One that can't be asked
// now is judged when it is back, as if nobody had said anything.
func (r *runner) accept(ctx context.Context) {
	m := r.mover
	if m == nil || m.ledger.Forgot() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.CallTimeout)
	defer cancel()
	l, err := m.dialTarget(ctx)
	if err == nil {
		defer l.Close()
		err = m.ledger.Accept(ctx, l.Info, markOver(l), newMark(m.job))
	}
	if err != nil {
		m.log.Warn("the target can't be looked at before the job goes on", zap.String("job", m.job), zap.Error(err))
		return
	}
	if m.ledger.Doubtful() {
		m.log.Warn("the job goes on without the keys that its target has lost; what the target has of keys that the source still has is removed when they are met", zap.String("job", m.job))
	} else {
		m.log.Info("the target has all that it was given again", zap.String("job", m.job))
	}
}

// dropMarks removes what a job that has ended has left at its servers.
func (r *runner) dropMarks(ctx context.Context) {
	st := r.m.control.State()
	for _, back := range []bool{false, true} {
		name := accountOf(r.job.ID, back)
		a, ok := r.m.loadAccount(ctx, name)
		if !ok {
			continue
		}
		id := r.job.Target
		if back {
			id = r.job.Source
		}
		if g, ok := st.Group(id); ok {
			if err := dropMarks(ctx, r.m.dialer, g, a, r.m.databases, r.m.cfg.CallTimeout); err != nil {
				r.m.log.Warn("keys of the gateway's own may be left at a server; they do no harm, and can be removed there with UNLINK", zap.String("group", id), zap.Strings("keys", a.Marks()), zap.Error(err))
			}
		}
		_ = r.m.store.DropCheckpoint(ctx, name)
	}
}

// dropMarks removes all marks of an account from a group.
func dropMarks(ctx context.Context, d *upstream.Dialer, g topology.Group, a keymove.Account, databases int, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	l, err := link.Dial(ctx, d, g, timeout)
	if err != nil {
		return err
	}
	defer l.Close()
	p := l.Conn.Pipeline() // one way there and back, however far that is
	for db := range databases {
		p.Select(ctx, db)
		p.Unlink(ctx, a.Marks()...)
	}
	_, err = p.Exec(ctx)
	return err
}

// renewMarks gives every mover a new mark, because the old ones may be gone with the keys that
// somebody was let in to remove.
func (m *Manager) renewMarks() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, lj := range m.jobs {
		if r := lj.runner; r != nil && r.mover != nil {
			r.mover.ledger.Renew(newMark(r.mover.job))
		}
	}
}

// accepts reports that an operator's word lets a job go on that had stopped because its target had
// forgotten.
func accepts(j *topology.Job, ev job.Event) bool {
	return job.Forgotten(j) && (ev.Kind == job.ResumeBy || ev.Kind == job.CancelBy && ev.Revert)
}
