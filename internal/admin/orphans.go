package admin

import (
	"context"
	"time"

	"keyferry/migrator"
)

// lookTimeout bounds verbs that look at every key.
const lookTimeout = time.Hour

const checkUsage = "SLOT CHECK [FIX [DROP|ADOPT]]"

// orphans answers SLOT CHECK: keys that sit where they do not belong.
func (s *Server) orphans(args []string, asJ bool) any {
	fix := migrator.FixNothing
	switch {
	case len(args) == 0:
	case word(args, 0, "fix") && len(args) == 1:
		fix = migrator.FixTwins
	case word(args, 0, "fix") && word(args, 1, "drop") && len(args) == 2:
		fix = migrator.FixDrop
	case word(args, 0, "fix") && word(args, 1, "adopt") && len(args) == 2:
		fix = migrator.FixAdopt
	default:
		return usage(checkUsage)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	rows, err := s.Manager.FindOrphans(ctx, nil, nil, fix)
	return orphanRows(rows, err, asJ)
}

// verifyJob answers MIGRATION VERIFY.
func (s *Server) verifyJob(id string, asJ bool) any {
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	rows, err := s.Manager.VerifyJob(ctx, id)
	return orphanRows(rows, err, asJ)
}

func orphanRows(rows []migrator.Orphans, err error, asJ bool) any {
	if err != nil {
		return err
	}
	if asJ {
		return asJSON(rows)
	}
	out := []any{}
	for _, r := range rows {
		row := []any{"group", r.Group, "keys_scanned", r.Scanned, "twins", r.Twins, "alone", r.Alone, "removed", r.Removed, "adopted", r.Adopted}
		for _, k := range r.Sample {
			row = append(row, "key", k)
		}
		out = append(out, row)
	}
	return out
}
