package migrator

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"keyferry/internal/topology"
	"keyferry/migrator/job"
	"keyferry/migrator/joberr"
)

// answer is an error that a server sent.
type answer string

func (a answer) Error() string { return string(a) }
func (a answer) RedisError()   {}

// TestLesson: S1.6, a target that refuses connections for a minute, on a simulated clock.
// The pauses grow, with jitter, and the log is quiet: at most a line each second.
func TestLesson(t *testing.T) {
	t.Run("S1.6", func(t *testing.T) {
		const least, most = 100 * time.Millisecond, 10 * time.Second
		j := topology.Job{ID: "m1", JobRequest: topology.JobRequest{MaxAttempts: 100}, JobProgress: topology.JobProgress{Phase: topology.Bulk, Published: true}}
		start := time.UnixMilli(1_700_000_000_000)
		now := start
		var lines []time.Time
		log := &talk{}
		rnd := rand.New(rand.NewPCG(1, 2))
		var pauses []time.Duration
		say := func() {
			if ok, _ := log.may(now); ok {
				lines = append(lines, now)
			}
		}
		for now.Sub(start) < time.Minute {
			wait := job.BackoffPause(least, most, j.Attempt, rnd.Float64()).Truncate(time.Millisecond)
			j = mustStep(t, j, job.Event{Kind: job.Failure, AtMs: now.UnixMilli(), WaitMs: wait.Milliseconds(), Err: &topology.JobError{Origin: joberr.Target, Code: "IO"}})
			say()
			if j.Phase != topology.Backoff || j.NextTryAtMs != now.Add(wait).UnixMilli() {
				t.Fatalf("attempt %d: %s, next try at %d", j.Attempt, j.Phase, j.NextTryAtMs)
			}
			pauses = append(pauses, wait)
			now = now.Add(wait)
			j = mustStep(t, j, job.Event{Kind: job.Due, AtMs: now.UnixMilli()})
			say()
		}
		exact := 0
		for i, p := range pauses {
			full := min(most, least<<min(i, 20))
			if p < full/2-time.Millisecond || p > full {
				t.Errorf("pause %d is %v, want %v to %v", i, p, full/2, full)
			}
			if p == full {
				exact++
			}
		}
		if exact > len(pauses)/2 {
			t.Errorf("%d of %d pauses have no jitter", exact, len(pauses))
		}
		if len(pauses) < 8 || len(pauses) > 30 {
			t.Errorf("%d attempts in a minute", len(pauses))
		}
		for i := 1; i < len(lines); i++ {
			if d := lines[i].Sub(lines[i-1]); d < time.Second {
				t.Errorf("two lines of the log within %v", d)
			}
		}
		if len(lines) < 5 {
			t.Errorf("only %d lines in a minute", len(lines))
		}
	})
	t.Run("S1.3", func(t *testing.T) {
		const tries = 6
		j := topology.Job{ID: "m1", JobRequest: topology.JobRequest{MaxAttempts: tries}, JobProgress: topology.JobProgress{Phase: topology.Bulk, Published: true}}
		for i := 1; i < tries; i++ {
			j = mustStep(t, j, job.Event{Kind: job.Failure, AtMs: int64(i), Err: &topology.JobError{Origin: joberr.Target, Code: fmt.Sprint("LAST", i)},
				First: &topology.JobError{Origin: joberr.Source, Code: fmt.Sprint("FIRST", i)}, Counts: map[string]int64{"target READONLY": 2}})
			if j.Phase != topology.Backoff {
				t.Fatalf("after %d of %d tries the job is %s", i, tries, j.Phase)
			}
			j = mustStep(t, j, job.Event{Kind: job.Due})
		}
		for j.Phase != topology.Tail {
			j = mustStep(t, j, job.Event{Kind: job.PassEnd})
		}
		if len(j.Attempts) != tries-1 || j.ErrorCounts["target READONLY"] != 2*(tries-1) {
			t.Fatalf("%d attempts are listed, counts %v", len(j.Attempts), j.ErrorCounts)
		}
		for i, a := range j.Attempts {
			if a.N != i+1 || a.First.Code != fmt.Sprint("FIRST", i+1) || a.Last.Code != fmt.Sprint("LAST", i+1) || a.Phase != topology.Bulk {
				t.Errorf("attempt %d is listed as %+v", i+1, a)
			}
		}
		if j.FirstError.Code != "FIRST1" || j.LastError.Code != fmt.Sprint("LAST", tries-1) {
			t.Errorf("errors of the run: %+v, %+v", j.FirstError, j.LastError)
		}
	})
}

func mustStep(t *testing.T, j topology.Job, e job.Event) topology.Job {
	t.Helper()
	next, err := job.Step(j, e)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestJudge(t *testing.T) {
	for _, code := range []string{"READONLY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "BUSY", "CLUSTERDOWN", "TRYAGAIN", "WHATEVER"} {
		if k := judge(joberr.At(joberr.Target, answer(code+" some text")), true); k != job.Failure {
			t.Errorf("%s: %s", code, k)
		}
	}
	for err, want := range map[error]job.EventKind{
		answer("OOM command not allowed when used memory > 'maxmemory'."):             job.TargetFull,
		answer("NOPERM User default has no permissions to run the 'restore' command"): job.Hopeless,
		answer("WRONGPASS invalid username-password pair or user is disabled."):       job.Hopeless,
		answer("NOAUTH Authentication required."):                                     job.Hopeless,
		answer("ERR unknown command 'RESTORE', with args beginning with: "):           job.Hopeless,
		answer("ERR DUMP payload version or checksum are wrong"):                      job.Hopeless,
		errors.New("dial tcp 127.0.0.1:7000: connect: connection refused"):            job.Failure,
		io.EOF: job.Failure,
	} {
		if k := judge(joberr.At(joberr.Target, err), true); k != want {
			t.Errorf("%v: %s, want %s", err, k, want)
		}
	}
	if k := judge(joberr.At(joberr.Target, answer("OOM x")), false); k != job.Failure {
		t.Errorf("before the job is published a full target is %s: there is nothing to pause", k)
	}
}

// TestAdvice: what only an operator can mend comes with more than the advice to look at a log.
func TestAdvice(t *testing.T) {
	for _, text := range joberr.BeyondWaiting {
		if got := advise(joberr.FromError(joberr.At(joberr.Target, answer(text+" …")))); strings.Contains(got, "log") || !strings.Contains(got, "RESUME") {
			t.Errorf("%s: %q", text, got)
		}
	}
}

// TestErrorLog: the first error is not lost behind the ones that follow from it, each is
// counted once however often it is passed, and taking begins anew.
func TestErrorLog(t *testing.T) {
	var l errorLog
	oom := joberr.At(joberr.Target, fmt.Errorf("RESTORE %q: %w", "k", answer("OOM command not allowed")))
	l.add(oom)
	l.add(fmt.Errorf("wrapped: %w", oom))
	l.add(joberr.At(joberr.Target, io.ErrUnexpectedEOF))
	l.add(nil)
	first, counts := l.drain()
	if first == nil || first.Code != "OOM" || first.Origin != joberr.Target || counts["target OOM"] != 1 || counts["target IO"] != 1 {
		t.Errorf("first %+v, counts %v", first, counts)
	}
	l.add(joberr.At(joberr.Source, answer("LOADING x")))
	if first, counts := l.drain(); first.Code != "LOADING" || len(counts) != 1 {
		t.Errorf("then first %+v, counts %v", first, counts)
	}
}

// TestFeedDropsTheOldest: a reader that sleeps holds nobody up and has the newest.
func TestFeedDropsTheOldest(t *testing.T) {
	m := &Manager{}
	s := m.Subscribe(3)
	for i := range 10 {
		m.subscribers.send(Notice{Kind: fmt.Sprint(i)})
	}
	for want := 7; want < 10; want++ {
		if n := <-s.C(); n.Kind != fmt.Sprint(want) {
			t.Errorf("got notice %s, want %d", n.Kind, want)
		}
	}
	s.Close()
	s.Close()
	m.subscribers.send(Notice{})
	if _, ok := <-s.C(); ok {
		t.Error("a closed subscription goes on")
	}
}
