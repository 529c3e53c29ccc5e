package migrator

import (
	"context"
	"fmt"
	"strings"

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
//
// warning is what an operator should know who reverts it all the same; "": nothing.
func (m *Manager) refuseRevert(ctx context.Context, id string) (warning string, err error) {
	j, known := m.JobStatus(id)
	if !known || !j.Published || j.Back || j.Phase.Ended() {
		return "", nil
	}
	st := m.control.State()
	source, _ := st.Group(j.Source)
	target, _ := st.Group(j.Target)
	found, err := m.tryWay(ctx, j.Job, target, source)
	if !joberr.IsHopeless(err) {
		return warningsOf(found), nil
	}
	return "", fmt.Errorf("job %s can't be reverted, and goes on as it was: %w", id, err)
}

// warningsOf are findings in one text.
func warningsOf(found []preflight.Finding) string {
	var all []string
	for _, f := range found {
		if f.Severity == preflight.Warning {
			all = append(all, f.What+", "+f.Where+": "+f.Text+" — "+f.Advice)
		}
	}
	return strings.Join(all, "; ")
}

// tryTurn tries the way that keys go when the job has turned round.
func (r *runner) tryTurn(ctx context.Context) error {
	j := r.copyJob()
	j.KeysMoved, _ = r.mover.stats.total()
	found, err := r.m.tryWay(ctx, j, r.mover.target, r.mover.source)
	if err == nil {
		r.setFindings(found)
	}
	return err
}

// tryWay is an error if keys can't go from one group to another, as far as that can be seen. Its
// origin is that of a mover which goes the other way, where such an error is told.
func (m *Manager) tryWay(ctx context.Context, j topology.Job, from, to topology.Group) ([]preflight.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	c := &preflight.Check{Env: m.checks(), Job: j, Moved: j.KeysMoved}
	err := c.TryWay(ctx, from, to)
	return c.Found, err
}
