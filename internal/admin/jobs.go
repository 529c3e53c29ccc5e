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

func (s *Server) jobList(context.Context, noArgs) ([]migrator.Status, error) {
	return s.Manager.Jobs(), nil
}

func jobFields(j migrator.Status) []any {
	stalled := ""
	if j.Stalled != nil {
		stalled = j.Stalled.String()
	}
	row := []any{"id", j.ID, "phase", string(j.Phase), "source", j.Source, "target", j.Target,
		"slots", j.SlotsText, "keys_moved", j.KeysMoved, "reason", j.Reason, "stalled", stalled}
	if j.Slices > 0 {
		row = append(row, "slices", j.Slices)
	}
	return row
}

// jobStatus is of one job, or of the open ones, or of the last if none is open.
func (s *Server) jobStatus(_ context.Context, a jobArgs) (jobs []migrator.Status, err error) {
	if a.ID != "" {
		j, err := s.oneJob(a.ID)
		return []migrator.Status{j}, err
	}
	all := s.Manager.Jobs()
	for _, j := range all {
		if !j.Phase.Ended() {
			jobs = append(jobs, j)
		}
	}
	if len(jobs) == 0 && len(all) > 0 {
		jobs = all[len(all)-1:]
	}
	return jobs, nil
}

func (s *Server) oneJob(id string) (migrator.Status, error) {
	j, ok := s.Manager.JobStatus(id)
	if !ok {
		return j, fmt.Errorf("no such job %q", id)
	}
	return j, nil
}

// jobStatusShape is the job alone where one was asked for.
func jobStatusShape(a jobArgs, jobs []migrator.Status) any {
	if a.ID != "" {
		return statusFields(jobs[0])
	}
	return each[jobArgs](statusFields)(a, jobs)
}

// allJobs is the id that means every job.
func allJobs(id string) bool { return strings.EqualFold(id, "all") }

// toldJobs says which jobs have been told something. An error names the others.
func toldJobs(what string, ids []string, err error) (status, error) {
	switch {
	case err != nil && len(ids) > 0:
		return "", fmt.Errorf("%w (%s: %s)", err, what, strings.Join(ids, ", "))
	case err != nil:
		return "", err
	case len(ids) == 0:
		return status("OK no job was to be " + what), nil
	}
	return status("OK " + what + ": " + strings.Join(ids, ", ")), nil
}

func (s *Server) jobPause(ctx context.Context, a jobArgs) (status, error) {
	if allJobs(a.ID) {
		ids, err := s.Manager.PauseAll(ctx)
		return toldJobs("paused", ids, err)
	}
	return ok, s.Manager.Pause(ctx, a.ID)
}

type resumeArgs struct {
	ID      string `verb:"id"`
	Forward bool   `verb:"FORWARD"`
}

func (s *Server) jobResume(ctx context.Context, a resumeArgs) (status, error) {
	switch {
	case allJobs(a.ID) && a.Forward:
		return "", errors.New("FORWARD is for one job: name it")
	case allJobs(a.ID):
		ids, err := s.Manager.ResumeAll(ctx)
		return toldJobs("resumed", ids, err)
	case a.Forward:
		return ok, s.Manager.Forward(ctx, a.ID)
	}
	return ok, s.Manager.Resume(ctx, a.ID)
}

type limitArgs struct {
	ID string `verb:"id"`
	limitOptions
}

func (s *Server) jobLimit(ctx context.Context, a limitArgs) (status, error) {
	return ok, s.Manager.Limit(ctx, a.ID, a.limits())
}

// jobVerify looks for keys that an ended job has left behind.
func (s *Server) jobVerify(ctx context.Context, a jobArgs) ([]migrator.Orphans, error) {
	return s.Manager.VerifyJob(ctx, a.ID)
}

func statusFields(j migrator.Status) []any {
	f := []any{"id", j.ID, "phase", string(j.Phase), "reason", j.Reason, "source", j.Source, "target", j.Target,
		"slots", j.SlotsText, "slot_count", j.SlotCount, "keys_moved", j.KeysMoved, "keys_returned", j.Returned, "bytes_moved", j.BytesMoved,
		"keys_per_s", j.RateNow, "estimated_keys_left", j.KeysLeft, "eta_s", j.EtaS, "pass", j.Pass,
		"keys_scanned", j.Scanned, "keys_moved_on_touch", j.Touched, "keys_met_in_use", j.MetBusy,
		"keys_waited_for", j.Waiting, "stale_copies_dropped", j.StaleDropped,
		"lock_hold_p50_us", j.HoldP50us, "lock_hold_p99_us", j.HoldP99us, "lock_hold_max_us", j.HoldMaxUs,
		"batch_keys", j.BatchKeys, "big_keys", j.BigKeys}
	if j.Doing != "" {
		f = append(f, "doing", j.Doing)
	}
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
	return append(f, errorFields(j)...)
}

// errorFields are what went wrong: of the job, of this attempt, of earlier ones, and the
// keys of which nobody knows yet where they are.
func errorFields(j migrator.Status) []any {
	f := []any{"first_error", errText(j.FirstError), "last_error", errText(j.LastError),
		"attempt_first_error", errText(j.NowFirstErr), "attempt_last_error", errText(j.NowLastErr),
		"resolver_error", errText(j.ResolverErr)}
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
func (s *Server) jobLog(ctx context.Context, a jobArgs) ([]topology.JobEvent, error) {
	if _, err := s.oneJob(a.ID); err != nil {
		return nil, err
	}
	events, err := s.Manager.History(ctx, a.ID)
	return orEmpty(events), err
}

func jobLogShape(_ jobArgs, events []topology.JobEvent) any {
	out := []any{}
	for _, e := range events {
		out = append(out, eventLine(e))
	}
	return out
}

// eventLine tells an event in one line.
func eventLine(e topology.JobEvent) string {
	to := string(e.To)
	if e.From != "" && e.From != e.To {
		to = fmt.Sprintf("%s → %s", e.From, e.To)
	}
	line := fmt.Sprintf("%s %s: %s", time.UnixMilli(e.AtMs).UTC().Format("2006-01-02T15:04:05.000Z"), e.Event, to)
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
	return line
}

type cancelArgs struct {
	ID     string `verb:"id"`
	Stay   bool   `verb:"STAY"` // what is done anyway
	Revert bool   `verb:"REVERT"`
}

func (s *Server) jobCancel(ctx context.Context, a cancelArgs) (status, error) {
	warning, err := "", error(nil)
	if a.Revert {
		warning, err = s.Manager.Revert(ctx, a.ID)
	} else {
		err = s.Manager.Cancel(ctx, a.ID)
	}
	if err != nil {
		return "", err
	}
	j, _ := s.Manager.JobStatus(a.ID)
	switch {
	case j.Phase == topology.Cancelled:
		return "OK cancelled: nothing had moved", nil
	case a.Revert && warning != "":
		return status("OK reverting: what has moved is brought back. Warning: " + warning), nil
	case a.Revert:
		return "OK reverting: what has moved is brought back", nil
	}
	return status("OK paused: " + j.Reason), nil
}
