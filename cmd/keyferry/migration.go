package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/migrator/job"
)

func migrationCommand() *cobra.Command {
	r := &remote{}
	c := &cobra.Command{Use: "migration", Short: "Follow and steer migration jobs"}
	r.flags(c)
	c.AddCommand(&cobra.Command{Use: "list", Short: "Every job that is remembered", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var jobs []migrator.Status
			if done, err := r.rows(cmd, &jobs, "MIGRATION", "LIST"); done || err != nil {
				return err
			}
			var rows [][]string
			for _, j := range jobs {
				rows = append(rows, []string{j.ID, string(j.Phase), j.Source, j.Target, strconv.Itoa(j.SlotCount),
					strconv.FormatInt(j.KeysMoved, 10), j.Reason})
			}
			return table(cmd.OutOrStdout(), "JOB\tPHASE\tFROM\tTO\tSLOTS\tKEYS MOVED\tREASON", rows)
		}})
	for _, verb := range []struct{ name, short string }{{"pause", "Stop moving keys; clients go on"}, {"resume", "Go on with a paused or failed job"}} {
		c.AddCommand(&cobra.Command{Use: verb.name + " <id>", Short: verb.short, Args: exactly(1),
			RunE: func(cmd *cobra.Command, a []string) error {
				return r.say(cmd, "MIGRATION", strings.ToUpper(verb.name), a[0])
			}})
	}
	c.AddCommand(&cobra.Command{Use: "status <id>", Short: "Everything about one job", Args: exactly(1),
		RunE: func(cmd *cobra.Command, a []string) error {
			if r.json {
				_, err := r.rows(cmd, nil, "MIGRATION", "STATUS", a[0])
				return err
			}
			v, err := r.ask(cmd.Context(), "MIGRATION", "STATUS", a[0])
			if err != nil {
				return err
			}
			return printFields(cmd.OutOrStdout(), v, false)
		}}, &cobra.Command{Use: "verify <id>", Short: "Look for keys that an ended job has left behind", Args: exactly(1),
		RunE: func(cmd *cobra.Command, a []string) error { return r.orphans(cmd, "MIGRATION", "VERIFY", a[0]) }}, cancelCommand(r), logCommand(r), limitCommand(r), watchCommand(r))
	return c
}

func cancelCommand(r *remote) *cobra.Command {
	var revert bool
	c := &cobra.Command{Use: "cancel <id>", Short: "End a job that has moved nothing; leave another paused as it is, or bring back what has moved", Args: exactly(1),
		RunE: func(cmd *cobra.Command, a []string) error {
			what := "STAY"
			if revert {
				what = "REVERT"
			}
			return r.say(cmd, "MIGRATION", "CANCEL", a[0], what)
		}}
	c.Flags().BoolVar(&revert, "revert", false, "bring back what has moved, while clients go on")
	return c
}

// limitFlags are the ceilings of a job.
type limitFlags struct{ rate, bytes, parallel, maxP99, slice string }

func (l *limitFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&l.rate, "rate", "", "ceiling, keys per second (0: none)")
	c.Flags().StringVar(&l.bytes, "bytes", "", "ceiling, bytes per second, as 20mb (0: none)")
	c.Flags().StringVar(&l.parallel, "parallel", "", "workers (0: as configured)")
	c.Flags().StringVar(&l.maxP99, "max-p99", "", "yield while the clients' p99 is above so many milliseconds; auto: 1.3 times what it is without the job; off: don't look")
	c.Flags().StringVar(&l.slice, "slice", "", "work and rest by turns, as 1s/4s; 500ms: end a slice so often and go on; off: work until it is done")
}

// args are the words of PROXY for the flags that were given.
func (l *limitFlags) args(cmd *cobra.Command) (words []string) {
	for _, f := range []struct{ flag, word, value string }{{"rate", "RATE", l.rate}, {"bytes", "BYTES", l.bytes},
		{"parallel", "PARALLEL", l.parallel}, {"max-p99", "MAXP99", l.maxP99}, {"slice", "SLICE", l.slice}} {
		if cmd.Flags().Changed(f.flag) {
			words = append(words, f.word, f.value)
		}
	}
	return words
}

func limitCommand(r *remote) *cobra.Command {
	var l limitFlags
	c := &cobra.Command{Use: "limit <id>", Short: "Change the limits of a job that runs", Args: exactly(1),
		RunE: func(cmd *cobra.Command, a []string) error {
			words := l.args(cmd)
			if len(words) == 0 {
				return errUsage{errors.New("which limit? --rate, --bytes, --parallel, --max-p99 or --slice")}
			}
			return r.say(cmd, append([]string{"MIGRATION", "LIMIT", a[0]}, words...)...)
		}}
	l.flags(c)
	return c
}

func logCommand(r *remote) *cobra.Command {
	return &cobra.Command{Use: "log <id>", Short: "Everything that happened to a job", Args: exactly(1),
		RunE: func(cmd *cobra.Command, a []string) error {
			if r.json {
				_, err := r.rows(cmd, nil, "MIGRATION", "LOG", a[0])
				return err
			}
			v, err := r.ask(cmd.Context(), "MIGRATION", "LOG", a[0])
			if err != nil {
				return err
			}
			lines, _ := v.([]any)
			for _, line := range lines {
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			return nil
		}}
}

func watchCommand(r *remote) *cobra.Command {
	return &cobra.Command{Use: "watch [<id> ...]", Short: "Follow jobs until they end: progress, rate, time left. Exit code 1 if one fails",
		RunE: func(cmd *cobra.Command, ids []string) error {
			ctx := cmd.Context()
			if ctx == nil {
				ctx = context.Background()
			}
			return r.watch(ctx, cmd, ids)
		}}
}

func (r *remote) watch(ctx context.Context, cmd *cobra.Command, ids []string) error {
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	out := cmd.OutOrStdout()
	for {
		v, err := r.ask(ctx, "MIGRATION", "LIST", "JSON")
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
