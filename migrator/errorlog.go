package migrator

import (
	"sync"
	"time"

	"keyferry/internal/topology"
	"keyferry/migrator/job"
	"keyferry/migrator/joberr"
)

// errorLog collects every error that a job meets, wherever it comes from: workers of a
// pass, resolvers, the runner. The error that ends an attempt is seldom the one that tells
// why ("broken pipe", where the one before was "OOM"), so the first one is kept too.
type errorLog struct {
	mu     sync.Mutex // protects all below, and originError.noted
	first  *topology.JobError
	last   *topology.JobError
	counts map[string]int64 // by origin and code, since the last drain
	back   bool             // the mover brings keys back: its source is the job's target
}

// reverse says which way the mover goes from here on.
func (l *errorLog) reverse(back bool) {
	l.mu.Lock()
	l.back = back
	l.mu.Unlock()
}

// tell describes an error as one of the job's ends.
func (l *errorLog) tell(err error) *topology.JobError {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.describe(err)
}

// describe is tell with mu held.
func (l *errorLog) describe(err error) *topology.JobError {
	e := joberr.FromError(err)
	if l.back {
		e.Origin = otherEnd(e.Origin)
	}
	return e
}

// otherEnd is the target of a source, and the other way about.
func otherEnd(origin string) string {
	switch origin {
	case joberr.Source:
		return joberr.Target
	case joberr.Target:
		return joberr.Source
	}
	return origin
}

// add notes an error, once however often it is passed.
func (l *errorLog) add(err error) {
	if err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := joberr.Of(err); o != nil {
		if o.Noted {
			return
		}
		o.Noted = true
	}
	e := l.describe(err)
	if l.first == nil {
		l.first = e
	}
	l.last = e
	l.counts = job.AddCounts(l.counts, map[string]int64{e.Origin + " " + e.Code: 1})
}

// drain gives what was collected since the last time: the end of an attempt.
func (l *errorLog) drain() (first *topology.JobError, counts map[string]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first, counts = l.first, l.counts
	l.first, l.last, l.counts = nil, nil, nil
	return first, counts
}

// peek is what an attempt under way has met so far.
func (l *errorLog) peek() (first, last *topology.JobError, counts map[string]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first, l.last, job.AddCounts(nil, l.counts)
}

// A job with an end that is gone fails several times a second, by each of its workers. All of it
// is counted, and told by the job's status; the log gets a line a second and says how many it
// was spared.

// talk thins out lines of the log that would otherwise come with every try.
type talk struct {
	mu      sync.Mutex // protects all below
	last    time.Time
	skipped int
}

// talkEvery is how often one job may complain.
const talkEvery = time.Second

// may reports whether a line may be written at this time, and how many were not since the
// last one.
func (t *talk) may(now time.Time) (ok bool, skipped int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.last.IsZero() && now.Sub(t.last) < talkEvery {
		t.skipped++
		return false, 0
	}
	skipped, t.last, t.skipped = t.skipped, now, 0
	return true, skipped
}
