package job

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keyferry/internal/topology"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden transcripts; read the difference before you commit it")

// TestTranscripts replays testdata/*.txt: lines of events and, behind "→", the job that
// each must leave.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			j := topology.Job{ID: "m1", JobRequest: topology.JobRequest{Source: "a", Target: "b", MaxAttempts: 3}, JobProgress: topology.JobProgress{Phase: topology.Queued}}
			var out strings.Builder
			now := int64(0)
			for sc := bufio.NewScanner(f); sc.Scan(); {
				line := sc.Text()
				event, want, _ := strings.Cut(line, " → ")
				if strings.HasPrefix(line, "#") || line == "" {
					out.WriteString(line + "\n")
					continue
				}
				now += 1000
				ev := parseEvent(t, event)
				ev.AtMs = now
				next, err := Step(j, ev)
				got := describe(next)
				if err != nil {
					got = "error: " + err.Error()
				} else {
					j = next
				}
				if got != want && !*rewrite {
					t.Errorf("%s\n  got  %s\n  want %s", event, got, want)
				}
				out.WriteString(event + " → " + got + "\n")
			}
			if *rewrite {
				if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func parseEvent(t *testing.T, text string) Event {
	t.Helper()
	f := strings.Fields(text)
	ev := Event{Kind: 255}
	for k, name := range eventNames {
		if name == f[0] {
			ev.Kind = EventKind(k)
		}
	}
	if ev.Kind == 255 {
		t.Fatalf("no event %q", f[0])
	}
	for _, arg := range f[1:] {
		k, v, _ := strings.Cut(arg, "=")
		switch k {
		case "found":
			fmt.Sscan(v, &ev.Found)
		case "moved":
			fmt.Sscan(v, &ev.Moved)
		case "wait":
			fmt.Sscan(v, &ev.WaitMs)
		case "progress":
			ev.Progress = true
		case "clean":
			ev.Clean = true
		case "revert":
			ev.Revert = true
		case "forward":
			ev.Forward = true
		case "slice":
			s, err := topology.ParseSlice(v)
			if err != nil {
				t.Fatal(err)
			}
			ev.Limits = &Limits{Slice: &s}
		case "run":
			ev.RunID = v
		case "err":
			origin, code, _ := strings.Cut(v, ":")
			ev.Err = &topology.JobError{Origin: origin, Code: code, Text: code}
		default:
			t.Fatalf("no argument %q", k)
		}
	}
	return ev
}

func describe(j topology.Job) string {
	s := string(j.Phase)
	if j.Reason != "" {
		s += fmt.Sprintf("(%s)", j.Reason)
	}
	if j.ResumeTo != "" {
		s += " then " + string(j.ResumeTo)
	}
	if j.Published {
		s += " published"
	}
	if j.Purging {
		s += " purging"
	}
	if j.Back {
		s += " back"
	}
	if j.Onward {
		s += " onward"
	}
	if j.Slices > 0 {
		s += fmt.Sprintf(" slices %d", j.Slices)
	}
	if Resting(&j) {
		s += fmt.Sprintf(" next %d", j.NextTryAtMs)
	}
	if j.Attempt > 0 {
		s += fmt.Sprintf(" attempt %d/%d next %d first %s last %s", j.Attempt, j.MaxAttempts, j.NextTryAtMs, j.FirstError.Code, j.LastError.Code)
	}
	return s
}

// TestIllegalEventsPanic: what can't happen is a mistake in the program and not a state.
func TestIllegalEventsPanic(t *testing.T) {
	for _, c := range []struct {
		phase topology.Phase
		kind  EventKind
	}{{topology.Queued, Acked}, {topology.Bulk, Verified}, {topology.Done, Start}, {topology.Preflight, PassEnd}, {topology.Paused, Due},
		{topology.Paused, SliceBegin}, {topology.Verifying, SliceEnd}, {topology.Reverting, SliceEnd}, {topology.Backoff, SliceEnd}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s in %s did not panic", c.kind, c.phase)
				}
			}()
			_, _ = Step(topology.Job{JobProgress: topology.JobProgress{Phase: c.phase}}, Event{Kind: c.kind})
		}()
	}
}

// TestStepLeavesItsInputAlone: a job is a value.
func TestStepLeavesItsInputAlone(t *testing.T) {
	j := topology.Job{JobProgress: topology.JobProgress{Phase: topology.Bulk, Published: true}, JobTrouble: topology.JobTrouble{FirstError: &topology.JobError{Code: "x"}, LastError: &topology.JobError{Code: "x"}, Attempt: 1}}
	before := describe(j) + j.FirstError.Code
	if _, err := Step(j, Event{Kind: Failure, Err: &topology.JobError{Code: "y"}}); err != nil {
		t.Fatal(err)
	}
	if after := describe(j) + j.FirstError.Code; after != before {
		t.Errorf("%s became %s", before, after)
	}
}
