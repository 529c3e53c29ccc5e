package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/migrator/job"
)

func inPhase(id string, p topology.Phase, keys int64) (j migrator.Status) {
	j.ID, j.Phase, j.KeysMoved, j.KeysLeft, j.Published = id, p, keys, -1, true
	return j
}

// TestScreenRedraws: on a terminal a frame takes the last one's place, and never has more lines than
// the terminal; what has ended stays above.
func TestScreenRedraws(t *testing.T) {
	var out, errs bytes.Buffer
	s := newScreen(&out, &errs, false)
	s.rows = 6
	now := time.Now()
	next := func(jobs ...migrator.Status) string { out.Reset(); s.show(jobs, now); return out.String() }
	if got := next(inPhase("m1", topology.Bulk, 1), inPhase("m2", topology.Bulk, 1)); strings.Count(got, "\n") != 2 || strings.Contains(got, "A") {
		t.Errorf("the first frame: %q", got)
	}
	if got := next(inPhase("m1", topology.Done, 9), inPhase("m2", topology.Bulk, 2)); !strings.HasPrefix(got, "\x1b[2A\r\x1b[J") || strings.Count(got, "\n") != 2 {
		t.Errorf("the second frame: %q", got)
	}
	if got := next(inPhase("m1", topology.Done, 9), inPhase("m2", topology.Bulk, 3)); !strings.HasPrefix(got, "\x1b[1A") || strings.Contains(got, "m1") {
		t.Errorf("m1 has been told of: %q", got)
	}
	var many []migrator.Status
	for i := range 50 {
		many = append(many, inPhase(fmt.Sprint("x", i), topology.Bulk, 1))
	}
	if got := next(many...); strings.Count(got, "\n") != 4 || !strings.Contains(got, "and 47 more") {
		t.Errorf("fifty jobs on six rows: %q", got)
	}
	s.gone(errors.New("no answer"))
	s.gone(errors.New("no answer"))
	if got := errs.String(); strings.Count(got, "no answer") != 1 {
		t.Errorf("said of a gateway that is gone: %q", got)
	}
	if got := next(inPhase("x1", topology.Bulk, 2)); strings.HasPrefix(got, "\x1b[4A") {
		t.Errorf("a frame would overwrite what was said: %q", got)
	}
}

// TestScreenSaysWhatChanges: where there is no terminal, hours of a paused job are one line.
func TestScreenSaysWhatChanges(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		s := newScreen(&out, &out, asJSON)
		at := time.Now()
		lines := func(j migrator.Status, after time.Duration) int {
			out.Reset()
			at = at.Add(after)
			s.show([]migrator.Status{j}, at)
			return strings.Count(out.String(), "\n")
		}
		again := 0
		if asJSON {
			again = 1
		}
		resting := inPhase("m1", topology.Paused, 3)
		resting.Reason, resting.ResumeTo = job.ReasonSlice, topology.Bulk
		for i, x := range []struct {
			j     migrator.Status
			after time.Duration
			want  int
		}{
			{inPhase("m1", topology.Bulk, 1), 0, 1}, {inPhase("m1", topology.Bulk, 1), time.Hour, 0}, {inPhase("m1", topology.Bulk, 2), 0, 1},
			{inPhase("m1", topology.Bulk, 3), time.Second, again}, {resting, time.Second, 0},
			{inPhase("m1", topology.Paused, 3), 0, 1}, {inPhase("m1", topology.Paused, 3), time.Hour, 0}, {inPhase("m1", topology.Done, 3), 0, 1},
		} {
			if got := lines(x.j, x.after); got != x.want {
				t.Errorf("JSON %v, step %d: %d lines, want %d", asJSON, i, got, x.want)
			}
		}
	}
}

// TestStanding: who is waited for, and what counts as the end.
func TestStanding(t *testing.T) {
	of := func(p topology.Phase, reason string, to topology.Phase) migrator.Status {
		j := inPhase("m1", p, 1)
		j.Reason, j.ResumeTo = reason, to
		return j
	}
	for _, x := range []struct {
		jobs []migrator.Status // as they are seen one after the other
		ends []topology.Phase
		want standing
	}{
		{[]migrator.Status{of(topology.Bulk, "", "")}, nil, goesOn},
		{[]migrator.Status{of(topology.Bulk, "", ""), of(topology.Done, "", "")}, nil, arrived},
		{[]migrator.Status{of(topology.Bulk, "", ""), of(topology.Reverted, "", "")}, nil, astray},
		{[]migrator.Status{of(topology.Reverting, "", ""), of(topology.Reverted, "", "")}, nil, arrived},
		{[]migrator.Status{of(topology.Backoff, "", topology.Reverting), of(topology.Reverted, "", "")}, nil, arrived},
		{[]migrator.Status{of(topology.Cancelled, "", "")}, nil, astray},
		{[]migrator.Status{of(topology.Cancelled, "", "")}, []topology.Phase{topology.Cancelled}, arrived},
		{[]migrator.Status{of(topology.Done, "", "")}, []topology.Phase{topology.Cancelled}, astray},
		{[]migrator.Status{of(topology.Failed, "", topology.Bulk)}, nil, astray},
		{[]migrator.Status{of(topology.Backoff, "", topology.Bulk)}, nil, goesOn},
		{[]migrator.Status{of(topology.Paused, job.ReasonSlice, topology.Bulk)}, nil, goesOn},
		{[]migrator.Status{of(topology.Paused, job.ReasonTargetOOM, topology.Bulk)}, nil, goesOn},
		{[]migrator.Status{of(topology.Paused, job.ReasonOperator, topology.Bulk)}, nil, waits},
		{[]migrator.Status{of(topology.Paused, "cancelled by operator after 3 keys had moved", topology.Bulk)}, nil, waits},
	} {
		judge := toTheEnd(x.ends...)
		var got standing
		for _, j := range x.jobs {
			got = judge(j)
		}
		if got != x.want {
			t.Errorf("%v to %v: %d, want %d", x.jobs, x.ends, got, x.want)
		}
	}
	for _, x := range []struct {
		phase     topology.Phase
		published bool
		want      standing
	}{{topology.Queued, false, goesOn}, {topology.Preflight, false, goesOn}, {topology.Failed, false, astray}, {topology.Backoff, false, astray},
		{topology.Cancelled, false, astray}, {topology.Paused, false, waits}, {topology.Preparing, true, arrived}, {topology.Backoff, true, arrived},
		{topology.Done, false, arrived}, {topology.Reverted, false, arrived}} {
		j := inPhase("m1", x.phase, 0)
		if j.Published = x.published; checked(j) != x.want {
			t.Errorf("the checks of a job that is %s: %d, want %d", x.phase, checked(j), x.want)
		}
	}
}
