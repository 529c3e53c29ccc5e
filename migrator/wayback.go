package migrator

import (
	"context"
	"fmt"

	"keyferry/internal/topology"
	"keyferry/migrator/joberr"
	"keyferry/migrator/preflight"
)

// Before a job turns round it is tried whether the keys can go the way that they would then have to:
// a server of an older version does not take what a newer one gives, however often it is asked.
//
//	REVERT ─► refuseRevert ─► stored as the job's intent ─► tryTurn ─► sweep, turn
//	          answers the operator, and the job goes on      fails the job, before anything turns

// refuseRevert says why a revert would come to no end; nil: nothing is known to stand against it.
// Of an end that does not answer nothing is known.
func (m *Manager) refuseRevert(ctx context.Context, id string) error {
	j, known := m.control.Job(id)
	if !known || !j.Published || j.Back || j.Phase.Ended() {
		return nil
	}
	st := m.control.State()
	source, _ := st.Group(j.Source)
	target, _ := st.Group(j.Target)
	err := m.tryWay(ctx, j, target, source)
	if !joberr.IsHopeless(err) {
		return nil
	}
	return fmt.Errorf("job %s can't be reverted, and goes on as it was: %w", id, err)
}

// tryTurn tries the way that keys go when the job has turned round.
func (r *runner) tryTurn(ctx context.Context) error {
	return r.m.tryWay(ctx, r.copyJob(), r.mover.target, r.mover.source)
}

// tryWay is an error if keys can't go from one group to another, as far as that can be seen. Its
// origin is that of a mover which goes the other way, where such an error is told.
func (m *Manager) tryWay(ctx context.Context, j topology.Job, from, to topology.Group) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	c := &preflight.Check{Env: m.checks(), Job: j}
	return c.TryWay(ctx, from, to)
}
