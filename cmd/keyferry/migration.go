package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/migrator/job"
)

// watch prints a line for each job until all have ended.
func (r *remote) watch(cmd *cobra.Command, ids []string) error {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	out := cmd.OutOrStdout()
	for {
		v, err := r.ask(ctx, patience, "MIGRATION", "LIST", "JSON")
		if err != nil {
			return err
		}
		text, _ := v.(string)
		var all, jobs []migrator.Status
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			return err
		}
		for _, j := range all {
			if wanted(j, ids) {
				jobs = append(jobs, j)
			}
		}
		if len(ids) > 0 && len(jobs) < len(ids) {
			return fmt.Errorf("no such job among %s", strings.Join(ids, ", "))
		}
		ended, failed := true, false
		for _, j := range jobs {
			ended = ended && (j.Phase.Ended() || j.Phase == topology.Failed)
			failed = failed || j.Phase == topology.Failed
			if r.json {
				_ = json.NewEncoder(out).Encode(j)
			} else {
				fmt.Fprintln(out, progressLine(j))
			}
		}
		if ended {
			if failed {
				return errors.New("a job failed: see keyferry migration status <id>")
			}
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
	}
	if e := j.LastError; e != nil && !j.Phase.Ended() && j.Attempt > 0 {
		line += fmt.Sprintf("  attempt %d/%d: %s %s", j.Attempt, j.MaxAttempts, e.Origin, e.Text)
	}
	return line
}
