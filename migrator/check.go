package migrator

import (
	"context"
	"fmt"
	"time"

	"keyferry/internal/topology"
	"keyferry/migrator/job"
	"keyferry/migrator/joberr"
	"keyferry/migrator/preflight"
)

// Report is what the check of one plan has found. Nothing was changed but for a key of the
// gateway's own, which it removes again.
type Report struct {
	Plan
	OK       bool                `json:"ok"` // nothing that is fatal
	Findings []preflight.Finding `json:"findings"`
}

// checks is what all checks of this gateway have in common.
func (m *Manager) checks() *preflight.Env {
	return &preflight.Env{Databases: m.databases, Scheme: m.scheme, PageTime: m.cfg.LockHoldTarget, PageMost: int(m.cfg.ScanCount),
		Dial: m.dialChanger, HangUp: m.hangUp, Fence: m.fenceChangers, Stamp: m.checkStamp}
}

// checkTimeout bounds the check of one plan for an operator who waits for it.
const checkTimeout = 8 * time.Second

// Check looks at both ends of each plan and says what it finds. It changes nothing.
func (m *Manager) Check(ctx context.Context, plans []Plan, q MoveRequest) ([]Report, error) {
	m.Estimate(ctx, plans, q.Limits)
	st := m.control.State()
	out := []Report{}
	for i, p := range plans {
		source, _ := st.Group(p.Source)
		target, _ := st.Group(p.Target)
		j := topology.Job{ID: fmt.Sprintf("check%d", i), JobRequest: topology.JobRequest{Slots: p.Slots, Source: p.Source, Target: p.Target, Purge: q.Purge, PurgeKeys: q.PurgeKeys, Durability: q.Durability}}
		c := &preflight.Check{Env: m.checks(), Job: j, Bytes: p.Bytes}
		bounded, cancel := context.WithTimeout(ctx, checkTimeout)
		err := c.Run(bounded, source, target)
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			c.Fatal("bounded", joberr.Gateway, target, "ask again when both ends are quicker", fmt.Errorf("the check took longer than %v", checkTimeout))
		}
		if c.Found == nil {
			c.Found = []preflight.Finding{}
		}
		out = append(out, Report{Plan: p, OK: c.FirstFatal() == nil, Findings: c.Found})
	}
	return out, nil
}

// preflight is the check as the first action of a job.
func (r *runner) preflight(ctx context.Context) (*job.Event, error) {
	j := r.copyJob()
	source, target, err := r.m.ends(ctx, j)
	if err != nil {
		return nil, joberr.At(joberr.Store, err)
	}
	c := &preflight.Check{Env: r.m.checks(), Job: j, Act: true}
	if err := c.Run(ctx, source, target); err != nil {
		return nil, joberr.At(joberr.Gateway, err)
	}
	r.setFindings(c.Found)
	if err := c.FirstFatal(); err != nil {
		return nil, err
	}
	if c.Counted {
		return &job.Event{Kind: job.Counted}, nil
	}
	return &job.Event{Kind: job.Checked, RunID: c.Life, TargetID: c.TargetLife}, nil
}

// setFindings keeps what preflight has found, for the status: also what does not stop the job.
func (r *runner) setFindings(found []preflight.Finding) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.findings = found
}
