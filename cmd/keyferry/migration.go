package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/migrator/job"
)

const (
	watchEvery = 500 * time.Millisecond // how often jobs that are followed are looked at
	checkEvery = 100 * time.Millisecond // … and those whose checks are awaited
)

// gonePatience is how long a gateway that has answered may be silent: it may be restarted, or be
// replaced by a newer one.
var gonePatience = 2 * time.Minute

// standing is where a job stands, for whoever waits for it.
type standing int

const (
	goesOn  standing = iota // by itself, sooner or later
	arrived                 // it has come to what it is waited for
	waits                   // paused, until an operator resumes it
	astray                  // it has failed, or has come to another end
)

// follower waits for jobs. It is one loop: ask, show, judge, wait.
type follower struct {
	r      *remote
	ids    []string // none: all that are open when it first looks
	every  time.Duration
	judge  func(migrator.Status) standing
	screen *screen // nil: nothing is shown

	answered time.Time // when the gateway did last
}

// follow returns when no job goes on, with the jobs.
func (f *follower) follow(ctx context.Context) ([]migrator.Status, error) {
	t := time.NewTicker(f.every)
	defer t.Stop()
	for {
		jobs, err := f.r.jobs(ctx, f.ids)
		var gone errGone
		switch {
		case err == nil:
			f.answered = time.Now()
			f.screen.show(jobs, f.answered)
			if !slices.ContainsFunc(jobs, func(j migrator.Status) bool { return f.judge(j) == goesOn }) {
				return jobs, nil
			}
			if len(f.ids) == 0 { // from now on those that were open at first, to their end
				f.ids = idsOf(jobs)
			}
		case errors.As(err, &gone) && time.Since(f.answered) < gonePatience && ctx.Err() == nil:
			f.screen.gone(err)
		default:
			return nil, err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func idsOf(jobs []migrator.Status) (ids []string) {
	for _, j := range jobs {
		ids = append(ids, j.ID)
	}
	return ids
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
		return nil, fmt.Errorf("the gateway's answer to MIGRATION LIST: %w", err)
	}
	for _, j := range all {
		if slices.Contains(ids, j.ID) || len(ids) == 0 && !j.Phase.Ended() {
			jobs = append(jobs, j)
		}
	}
	for _, id := range ids {
		if !slices.ContainsFunc(jobs, func(j migrator.Status) bool { return j.ID == id }) {
			return nil, fmt.Errorf("no such job %q", id)
		}
	}
	return jobs, nil
}

// toTheEnd judges jobs that are to come to one of the ends. A job without an end here is to be done, or
// to be reverted if it was on its way back when it was first judged.
func toTheEnd(ends ...topology.Phase) func(migrator.Status) standing {
	back := make(map[string]bool)
	return func(j migrator.Status) standing {
		goal := ends
		if len(ends) == 0 {
			if _, seen := back[j.ID]; !seen {
				back[j.ID] = j.Phase == topology.Reverting || j.Phase == topology.Reverted || j.ResumeTo == topology.Reverting
			}
			goal = []topology.Phase{topology.Done}
			if back[j.ID] {
				goal = []topology.Phase{topology.Reverted}
			}
		}
		switch {
		case slices.Contains(goal, j.Phase):
			return arrived
		case j.Phase.Ended(), j.Phase == topology.Failed:
			return astray
		case j.Phase == topology.Paused && !job.Resting(&j.Job) && !job.WaitsForRoom(&j.Job):
			return waits
		}
		return goesOn
	}
}

// watch follows jobs to their end, and says how they ended.
func (r *remote) watch(c *cobra.Command, ids []string, judge func(migrator.Status) standing) error {
	f := &follower{r: r, ids: ids, every: watchEvery, judge: judge, screen: newScreen(c.OutOrStdout(), c.ErrOrStderr(), r.json)}
	if len(ids) > 0 { // they are known: the gateway has answered
		f.answered = time.Now()
	}
	jobs, err := f.follow(contextOf(c))
	if err != nil {
		return err
	}
	if len(jobs) == 0 && !r.json {
		fmt.Fprintln(c.OutOrStdout(), "no job is open")
	}
	var texts []string
	paused := true
	for _, j := range jobs {
		switch judge(j) {
		case waits:
			texts = append(texts, fmt.Sprintf("job %s is paused (%s): keyferry migration resume %s goes on", j.ID, j.Reason, j.ID))
		case astray:
			paused = false
			writeFindings(c.ErrOrStderr(), j)
			texts = append(texts, fmt.Sprintf("job %s %s: see keyferry migration status %s", j.ID, endText(j), j.ID))
		}
	}
	switch {
	case texts == nil:
		return nil
	case paused:
		return errPaused{errors.New(strings.Join(texts, "\n"))}
	}
	return errors.New(strings.Join(texts, "\n"))
}

func endText(j migrator.Status) string {
	if j.Phase != topology.Failed {
		return "is " + string(j.Phase)
	}
	if j.LastError != nil {
		return "has failed: " + j.LastError.Text
	}
	return "has failed"
}

// checked judges jobs whose checks of both ends are awaited, which come before a key moves.
func checked(j migrator.Status) standing {
	switch {
	case j.Published:
		return arrived
	case j.Phase == topology.Queued, j.Phase == topology.Preflight:
		return goesOn
	case j.Phase == topology.Paused:
		return waits
	case j.Phase == topology.Done, j.Phase == topology.Reverted: // it was quick
		return arrived
	}
	return astray
}

// begun waits until jobs that have been submitted have begun to move keys, or can't. That is
// known a moment later, and a command that ended before would call success what is refused.
func (r *remote) begun(c *cobra.Command, ids []string) error {
	f := &follower{r: r, ids: ids, every: checkEvery, judge: checked, answered: time.Now()}
	jobs, err := f.follow(contextOf(c))
	if err != nil {
		return err
	}
	var texts []string
	for _, j := range jobs {
		writeFindings(c.ErrOrStderr(), j)
		if checked(j) != astray {
			continue
		}
		text := fmt.Sprintf("job %s is %s and has moved nothing", j.ID, j.Phase)
		if e := j.LastError; e != nil {
			text += ": " + e.Text
		}
		switch j.Phase {
		case topology.Failed:
			text += fmt.Sprintf("\nkeyferry migration resume %s tries again when that is mended; keyferry migration cancel %s ends it", j.ID, j.ID)
		case topology.Backoff:
			text += fmt.Sprintf("\nit tries again by itself; keyferry migration watch %s follows it; keyferry migration cancel %s ends it", j.ID, j.ID)
		}
		texts = append(texts, text)
	}
	if texts == nil {
		return nil
	}
	return errors.New(strings.Join(texts, "\n"))
}

// writeFindings shows what the checks of a job have found and somebody should know.
func writeFindings(w io.Writer, j migrator.Status) {
	for _, f := range j.Findings {
		if !f.Notable() {
			continue
		}
		fmt.Fprintf(w, "%s: %-8s %s, %s: %s\n", j.ID, f.Severity, f.What, f.Where, f.Text)
		if f.Advice != "" {
			fmt.Fprintf(w, "%s:          → %s\n", j.ID, f.Advice)
		}
	}
}

func contextOf(c *cobra.Command) context.Context {
	if ctx := c.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}
