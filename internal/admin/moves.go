package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"keyferry/internal/topology"
	"keyferry/internal/verb"
	"keyferry/migrator"
	"keyferry/migrator/job"
)

// limitOptions are the limits that MIGRATE and MIGRATION LIMIT take.
type limitOptions struct {
	Rate     *float64        `verb:"RATE"`
	Bytes    *float64        `verb:"BYTES"`
	Parallel *int            `verb:"PARALLEL"`
	MaxP99   *verb.Bound     `verb:"MAXP99"`
	Slice    *topology.Slice `verb:"SLICE"`
}

func (o limitOptions) limits() job.Limits {
	l := job.Limits{KeysPerS: o.Rate, BytesPerS: o.Bytes, Parallel: o.Parallel, Slice: o.Slice}
	if b := o.MaxP99; b != nil {
		ms := b.Ms
		switch {
		case b.Auto:
			ms = job.MaxP99Auto
		case b.Off:
			ms = job.MaxP99Off
		}
		l.MaxP99Ms = &ms
	}
	return l
}

type migrateArgs struct {
	Slots verb.Slots `verb:"slots"`
	To    string     `verb:"TO"`
	limitOptions
	Durability string  `verb:"DURABILITY"`
	Verify     float64 `verb:"VERIFY"`
	Purge      *int    `verb:"PURGE"`
	DryRun     bool    `verb:"DRYRUN"`
}

// moves is what MIGRATE and REBALANCE answer: the ids of jobs, or before there are any
// their plans with what was found at both ends.
type moves struct {
	ids     []string
	reports []migrator.Report
	kind    moveKind
}

type moveKind int

const (
	started moveKind = iota
	checked
)

func (m moves) MarshalJSON() ([]byte, error) {
	if m.kind == checked {
		return json.Marshal(m.reports)
	}
	return json.Marshal(m.ids)
}

// all is always a list.
func (m moves) all() any {
	out := []any{}
	for _, id := range m.ids {
		out = append(out, id)
	}
	for _, r := range m.reports {
		out = append(out, reportFields(r))
	}
	return out
}

// one is the id alone where there is one job, which is what scripts of old expect.
func (m moves) one() any {
	if len(m.ids) == 1 {
		return m.ids[0]
	}
	return m.all()
}

func (s *Server) migrate(ctx context.Context, a migrateArgs) (m moves, err error) {
	st := s.Control.State()
	q := migrator.MoveRequest{Target: a.To, Limits: a.limits(), VerifyShare: a.Verify}
	if q.Slots, err = a.Slots.In(st.SlotCount); err != nil {
		return m, err
	}
	if a.Purge != nil {
		q.Purge, q.PurgeKeys = true, int64(*a.Purge)
	}
	if a.Durability != "auto" { // which is what a job does that was told nothing
		q.Durability = a.Durability
	}
	plans, err := migrator.PlanMove(st, q)
	if err != nil {
		return m, err
	}
	if a.DryRun {
		m.kind = checked
		m.reports, err = s.Manager.Check(ctx, plans, q)
		return m, err
	}
	m.ids, err = s.Manager.Submit(ctx, plans, q)
	return m, err
}

type rebalanceArgs struct {
	By      string             `verb:"BY"`
	Weights map[string]float64 `verb:"WEIGHT"`
	DryRun  bool               `verb:"DRYRUN"`
}

func (s *Server) rebalance(ctx context.Context, a rebalanceArgs) (m moves, err error) {
	by := migrator.Measure(cmp.Or(a.By, string(migrator.BySlots)))
	plans, err := s.Manager.PlanRebalance(ctx, by, a.Weights)
	if err != nil {
		return m, err
	}
	if a.DryRun {
		m.kind = checked
		m.reports, err = s.Manager.Check(ctx, plans, migrator.MoveRequest{})
		return m, err
	}
	m.ids, err = s.Manager.Submit(ctx, plans, migrator.MoveRequest{})
	return m, err
}

func planFields(p migrator.Plan) []any {
	return []any{"source", p.Source, "target", p.Target, "slots", topology.FormatRanges(p.Slots),
		"slot_count", topology.CountSlots(p.Slots), "estimated_keys", p.Keys, "estimated_bytes", p.Bytes, "estimated_s", p.Seconds}
}

// reportFields are a plan and what was found at its ends.
func reportFields(r migrator.Report) []any {
	row := append(planFields(r.Plan), "ok", map[bool]string{true: "yes", false: "no"}[r.OK])
	for _, f := range r.Findings {
		text := fmt.Sprintf("%s, %s: %s", f.What, f.Where, f.Text)
		if f.Advice != "" {
			text += " — " + f.Advice
		}
		row = append(row, string(f.Severity), text)
	}
	return row
}
