package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/migrator/job"
)

const migrationUsage = "MIGRATION LIST | STATUS [<id>] | PAUSE <id> | RESUME <id> | CANCEL <id> [STAY|REVERT] | LOG <id> | VERIFY <id> | LIMIT <id> " + limitsUsage

func (s *Server) migration(ctx context.Context, args []string) any {
	args, asJ := wantsJSON(args)
	verb := ""
	if len(args) > 0 {
		verb = strings.ToLower(args[0])
	}
	switch {
	case verb == "list" && len(args) == 1:
		jobs := s.Manager.Jobs()
		if asJ {
			return asJSON(jobs)
		}
		out := []any{}
		for _, j := range jobs {
			stalled := ""
			if j.Stalled != nil {
				stalled = j.Stalled.String()
			}
			row := []any{"id", j.ID, "phase", string(j.Phase), "source", j.Source, "target", j.Target,
				"slots", j.SlotsText, "keys_moved", j.KeysMoved, "reason", j.Reason, "stalled", stalled}
			if j.Slices > 0 {
				row = append(row, "slices", j.Slices)
			}
			out = append(out, row)
		}
		return out
	case verb == "status" && len(args) <= 2:
		return s.jobStatus(args[1:], asJ)
	case verb == "pause" && len(args) == 2:
		return done(s.Manager.Pause(ctx, args[1]))
	case verb == "resume" && len(args) == 2:
		return done(s.Manager.Resume(ctx, args[1]))
	case verb == "cancel" && len(args) == 2:
		return s.cancel(ctx, args[1])
	case verb == "cancel" && len(args) == 3 && word(args, 2, "stay"):
		return s.cancel(ctx, args[1])
	case verb == "cancel" && len(args) == 3 && word(args, 2, "revert"):
		return s.revert(ctx, args[1])
	case verb == "log" && len(args) == 2:
		return s.jobLog(ctx, args[1], asJ)
	case verb == "verify" && len(args) == 2:
		return s.verifyJob(args[1], asJ)
	case verb == "limit" && len(args) > 2:
		l, ok, err := limits(args[2:])
		if err != nil {
			return err
		}
		if ok {
			return done(s.Manager.Limit(ctx, args[1], l))
		}
	case verb == "help":
		return []any{status("PROXY " + migrationUsage)}
	}
	return usage(migrationUsage)
}

// jobStatus is of one job, or of the open ones, or of the last if none is open.
func (s *Server) jobStatus(ids []string, asJ bool) any {
	var jobs []migrator.Status
	if len(ids) == 1 {
		j, ok := s.Manager.JobStatus(ids[0])
		if !ok {
			return fmt.Errorf("no such job %q", ids[0])
		}
		jobs = append(jobs, j)
	} else {
		all := s.Manager.Jobs()
		for _, j := range all {
			if !j.Phase.Ended() {
				jobs = append(jobs, j)
			}
		}
		if len(jobs) == 0 && len(all) > 0 {
			jobs = all[len(all)-1:]
		}
	}
	if asJ {
		return asJSON(jobs)
	}
	out := []any{}
	for _, j := range jobs {
		out = append(out, statusFields(j))
	}
	if len(ids) == 1 {
		return out[0]
	}
	return out
}

func statusFields(j migrator.Status) []any {
	f := []any{"id", j.ID, "phase", string(j.Phase), "reason", j.Reason, "source", j.Source, "target", j.Target,
		"slots", j.SlotsText, "slot_count", j.SlotCount, "keys_moved", j.KeysMoved, "keys_returned", j.Returned, "bytes_moved", j.BytesMoved,
		"keys_per_s", j.RateNow, "estimated_keys_left", j.KeysLeft, "eta_s", j.EtaS, "pass", j.Pass,
		"keys_scanned", j.Scanned, "keys_moved_on_touch", j.Touched, "keys_met_in_use", j.MetBusy,
		"keys_waited_for", j.Waiting, "stale_copies_dropped", j.StaleDropped,
		"lock_hold_p50_us", j.HoldP50us, "lock_hold_p99_us", j.HoldP99us, "lock_hold_max_us", j.HoldMaxUs,
		"batch_keys", j.BatchKeys, "big_keys", j.BigKeys}
	f = append(f, flowFields(j)...)
	f = append(f, "durability", cmp.Or(j.Durability, "auto"), "durability_now", j.DurableNow,
		"verify_share", fmt.Sprintf("%g", j.VerifyShare), "keys_verified", j.Verified, "keys_differing", j.Differing)
	if j.Stalled != nil {
		f = append(f, "stalled", j.Stalled.String())
	}
	if j.Advice != "" {
		f = append(f, "advice", j.Advice)
	}
	for _, b := range j.BigKeyList {
		f = append(f, "big_key", fmt.Sprintf("db %d %q %d bytes", b.DB, b.Key, b.Bytes))
	}
	f = append(f, "attempt", fmt.Sprintf("%d/%d", j.Attempt, j.MaxAttempts))
	if j.NextTryAtMs > 0 {
		name := "next_try_in_ms"
		if j.Reason == job.ReasonSlice {
			name = "rests_for_ms"
		}
		f = append(f, name, max(0, time.Until(time.UnixMilli(j.NextTryAtMs)).Milliseconds()))
	}
	f = append(f, "first_error", errText(j.FirstError), "last_error", errText(j.LastError),
		"attempt_first_error", errText(j.NowFirstErr), "attempt_last_error", errText(j.NowLastErr),
		"resolver_error", errText(j.ResolverErr))
	for _, kind := range slices.Sorted(maps.Keys(j.ErrorCounts)) {
		f = append(f, "errors "+kind, j.ErrorCounts[kind])
	}
	for _, a := range j.Attempts {
		f = append(f, fmt.Sprintf("failed_attempt_%d", a.N), fmt.Sprintf("in %s: first %s; last %s", a.Phase, errText(a.First), errText(a.Last)))
	}
	f = append(f, "keys_in_doubt", len(j.InDoubt))
	for _, k := range j.InDoubt[:min(len(j.InDoubt), 20)] {
		f = append(f, "in_doubt", fmt.Sprintf("%q", k))
	}
	return f
}

// flowFields tell what the mover is held back by.
func flowFields(j migrator.Status) []any {
	x := j.Flow
	probe := func(now, base int64) string { return fmt.Sprintf("%d us, baseline %d us", now, base) }
	f := []any{"limits", fmt.Sprintf("rate %g keys/s, %g bytes/s, parallel %d (0: none, or as configured), MAXP99 %s, SLICE %v", j.RateKeysPerS, j.RateBytesPerS, j.Parallel, job.MaxP99Text(j.MaxP99Ms), j.Slice)}
	if j.Slice.Work > 0 || j.Slices > 0 {
		f = append(f, "slices", j.Slices)
	}
	if !j.Live {
		return f
	}
	f = append(f, "throttle", j.Throttle, "share_of_full_speed", fmt.Sprintf("%.3f", x.Share),
		"in_flight", fmt.Sprintf("%d of %d keys, about %d of %d bytes", x.Keys, x.KeysMax, x.Bytes, x.BytesMax),
		"source_probe", probe(x.SourceUs, x.SourceBase), "target_probe", probe(x.TargetUs, x.TargetBase), "restore_of_a_small_key", probe(x.RestoreUs, x.RestoreBase))
	if x.ClientP99us > 0 {
		f = append(f, "client_p99_us", x.ClientP99us, "client_p99_bound_us", x.ClientBound)
	}
	return f
}

func errText(e *topology.JobError) string {
	if e == nil {
		return ""
	}
	return fmt.Sprintf("%s %s %s: %s", time.UnixMilli(e.AtMs).UTC().Format(time.RFC3339), e.Origin, e.Code, e.Text)
}

// jobLog is the history of a job.
func (s *Server) jobLog(ctx context.Context, id string, asJ bool) any {
	if _, ok := s.Manager.JobStatus(id); !ok {
		return fmt.Errorf("no such job %q", id)
	}
	events, err := s.Manager.History(ctx, id)
	if err != nil {
		return err
	}
	if asJ {
		if events == nil {
			events = []topology.JobEvent{}
		}
		return asJSON(events)
	}
	out := []any{}
	for _, e := range events {
		line := fmt.Sprintf("%s %s: %s", time.UnixMilli(e.AtMs).UTC().Format("2006-01-02T15:04:05.000Z"), e.Event, e.To)
		if e.From != "" && e.From != e.To {
			line = fmt.Sprintf("%s %s: %s → %s", time.UnixMilli(e.AtMs).UTC().Format("2006-01-02T15:04:05.000Z"), e.Event, e.From, e.To)
		}
		if e.Reason != "" {
			line += " (" + e.Reason + ")"
		}
		line += fmt.Sprintf(", %d keys moved", e.KeysMoved)
		if e.Attempt > 0 {
			line += fmt.Sprintf(", attempt %d", e.Attempt)
		}
		if e.Error != nil {
			line += ", first error " + errText(e.First) + ", last error " + errText(e.Error)
		}
		out = append(out, line)
	}
	return out
}

func (s *Server) cancel(ctx context.Context, id string) any {
	if err := s.Manager.Cancel(ctx, id); err != nil {
		return err
	}
	j, _ := s.Manager.JobStatus(id)
	if j.Phase == topology.Cancelled {
		return status("OK cancelled: nothing had moved")
	}
	return status("OK paused: " + j.Reason)
}

func (s *Server) revert(ctx context.Context, id string) any {
	if err := s.Manager.Revert(ctx, id); err != nil {
		return err
	}
	if j, _ := s.Manager.JobStatus(id); j.Phase == topology.Cancelled {
		return status("OK cancelled: nothing had moved")
	}
	return status("OK reverting: what has moved is brought back")
}

// cluster answers the migration verbs of Redis 8.4 and Valkey 9. A gateway is not a node,
// so IMPORT needs to be told the group: … TO <group>.
func (s *Server) cluster(ctx context.Context, args []string) any {
	if len(args) == 0 {
		return errors.New("wrong number of arguments for 'cluster' command")
	}
	rest := args[1:]
	switch strings.ToUpper(args[0]) {
	case "MIGRATION":
		return s.clusterMigration(ctx, rest)
	case "MIGRATESLOTS":
		return s.migrateSlots(ctx, rest)
	case "GETSLOTMIGRATIONS":
		return s.migration(ctx, []string{"LIST"})
	case "CANCELSLOTMIGRATIONS":
		return s.cancelAll(ctx)
	case "HELP":
		return []any{status("CLUSTER MIGRATION IMPORT <first> <last> [<first> <last> ...] TO <group> | STATUS [ID <id>|ALL] | CANCEL ID <id>|ALL"),
			status("CLUSTER MIGRATESLOTS SLOTSRANGE <first> <last> [<first> <last> ...] NODE <group>"),
			status("CLUSTER GETSLOTMIGRATIONS"), status("CLUSTER CANCELSLOTMIGRATIONS")}
	}
	//lint:ignore ST1005 Redis ends it so
	return fmt.Errorf("unknown subcommand '%.128s'. Try CLUSTER HELP.", args[0])
}

func (s *Server) clusterMigration(ctx context.Context, args []string) any {
	switch {
	case word(args, 0, "import") && len(args) >= 5 && word(args, len(args)-2, "to"):
		ranges, err := pairs(args[1 : len(args)-2])
		if err != nil {
			return err
		}
		return s.migrate(ctx, []string{ranges, "TO", args[len(args)-1]})
	case word(args, 0, "status") && (len(args) == 1 || len(args) == 2 && word(args, 1, "all")):
		return s.migration(ctx, []string{"LIST"})
	case word(args, 0, "status") && len(args) == 3 && word(args, 1, "id"):
		return s.migration(ctx, []string{"STATUS", args[2]})
	case word(args, 0, "cancel") && len(args) == 2 && word(args, 1, "all"):
		return s.cancelAll(ctx)
	case word(args, 0, "cancel") && len(args) == 3 && word(args, 1, "id"):
		return s.cancel(ctx, args[2])
	}
	return errors.New("usage: CLUSTER MIGRATION IMPORT <first> <last> [...] TO <group> | STATUS [ID <id>|ALL] | CANCEL ID <id>|ALL")
}

func (s *Server) migrateSlots(ctx context.Context, args []string) any {
	n := len(args)
	if n < 5 || !word(args, 0, "slotsrange") || !word(args, n-2, "node") {
		return errors.New("usage: CLUSTER MIGRATESLOTS SLOTSRANGE <first> <last> [<first> <last> ...] NODE <group>")
	}
	ranges, err := pairs(args[1 : n-2])
	if err != nil {
		return err
	}
	if r := s.migrate(ctx, []string{ranges, "TO", args[n-1]}); isError(r) {
		return r
	}
	return status("OK")
}

func isError(v any) bool { _, ok := v.(error); return ok }

// pairs makes "0 5 10 12" into "0-5,10-12".
func pairs(args []string) (string, error) {
	if len(args) == 0 || len(args)%2 != 0 {
		return "", errors.New("slot ranges come as pairs: <first> <last>")
	}
	var b strings.Builder
	for i := 0; i < len(args); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(args[i] + "-" + args[i+1])
	}
	return b.String(), nil
}

// cancelAll cancels what is open and says how many were.
func (s *Server) cancelAll(ctx context.Context) any {
	n := 0
	for _, j := range s.Manager.Jobs() {
		if j.Phase.Ended() {
			continue
		}
		if err := s.Manager.Cancel(ctx, j.ID); err != nil {
			return err
		}
		n++
	}
	return n
}
