package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/migrator/job"
)

// watchEvery is how often watch looks at the jobs.
const watchEvery = 500 * time.Millisecond

// watch prints a line for each job, again and again, until all have ended.
func (r *remote) watch(cmd *cobra.Command, ids []string) error {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		jobs, err := r.jobs(ctx, ids)
		if err != nil {
			return err
		}
		if ended, failed := r.progress(cmd.OutOrStdout(), jobs); ended && failed {
			return errors.New("a job failed: see keyferry migration status <id>")
		} else if ended {
			return nil
		}
		if len(ids) == 0 { // from now on those that were open at first, to their end
			for _, j := range jobs {
				ids = append(ids, j.ID)
			}
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// jobs are those with the ids, or without ids all that are open.
func (r *remote) jobs(ctx context.Context, ids []string) (jobs []migrator.Status, err error) {
	v, err := r.ask(ctx, patience, "MIGRATION", "LIST", "JSON")
	if err != nil {
		return nil, err
	}
	text, _ := v.(string)
	var all []migrator.Status
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, err
	}
	for _, j := range all {
		if wanted(j, ids) {
			jobs = append(jobs, j)
		}
	}
	if len(ids) > 0 && len(jobs) < len(ids) {
		return nil, fmt.Errorf("no such job among %s", strings.Join(ids, ", "))
	}
	return jobs, nil
}

// progress prints the jobs. failed is true if one of them has failed, ended if none goes on.
func (r *remote) progress(out io.Writer, jobs []migrator.Status) (ended, failed bool) {
	ended = true
	for _, j := range jobs {
		ended = ended && (j.Phase.Ended() || j.Phase == topology.Failed)
		failed = failed || j.Phase == topology.Failed
		if r.json {
			_ = json.NewEncoder(out).Encode(j)
		} else {
			fmt.Fprintln(out, progressLine(j))
		}
	}
	return ended, failed
}

func wanted(j migrator.Status, ids []string) bool {
	if len(ids) == 0 {
		return !j.Phase.Ended()
	}
	for _, id := range ids {
		if id == j.ID {
			return true
		}
	}
	return false
}

// progressLine is one job in one line, with a bar.
func progressLine(j migrator.Status) string {
	share := 0.0
	switch {
	case j.Phase == topology.Done:
		share = 1
	case j.KeysLeft >= 0 && j.KeysMoved+j.KeysLeft > 0:
		share = min(float64(j.KeysMoved)/float64(j.KeysMoved+j.KeysLeft), 0.99)
	}
	const width = 24
	n := int(share * width)
	bar := strings.Repeat("█", n) + strings.Repeat("░", width-n)
	line := fmt.Sprintf("%-4s %s→%s %s %3.0f%%  %-9s %9d keys %7d/s", j.ID, j.Source, j.Target, bar, share*100, j.Phase, j.KeysMoved, j.RateNow)
	if j.EtaS > 0 {
		line += fmt.Sprintf("  eta %s", time.Duration(j.EtaS)*time.Second)
	}
	switch {
	case j.Reason == job.ReasonSlice:
		line += "  " + j.Throttle
	case j.Reason != "":
		line += "  " + j.Reason
	case j.Doing != "":
		line += "  " + j.Doing
	}
	if e := j.LastError; e != nil && !j.Phase.Ended() && j.Attempt > 0 {
		line += fmt.Sprintf("  attempt %d/%d: %s %s", j.Attempt, j.MaxAttempts, e.Origin, e.Text)
	}
	return line
}
