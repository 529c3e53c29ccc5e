package admin

import (
	"context"
	"fmt"

	"keyferry/internal/topology"
	"keyferry/migrator"
)

// check answers MIGRATE … DRYRUN: the plans, and what stands against them.
func (s *Server) check(ctx context.Context, plans []migrator.Plan, q migrator.MoveRequest, asJ bool) any {
	reports, err := s.Manager.Check(ctx, plans, q)
	if err != nil {
		return err
	}
	if asJ {
		return asJSON(reports)
	}
	out := []any{}
	for _, r := range reports {
		row := append(planFields(r.Plan), "ok", map[bool]string{true: "yes", false: "no"}[r.OK])
		for _, f := range r.Findings {
			text := fmt.Sprintf("%s, %s: %s", f.What, f.Where, f.Text)
			if f.Advice != "" {
				text += " — " + f.Advice
			}
			row = append(row, string(f.Severity), text)
		}
		out = append(out, row)
	}
	return out
}

func planFields(p migrator.Plan) []any {
	return []any{"source", p.Source, "target", p.Target, "slots", topology.FormatRanges(p.Slots),
		"slot_count", topology.CountSlots(p.Slots), "estimated_keys", p.Keys, "estimated_bytes", p.Bytes, "estimated_s", p.Seconds}
}
