package migrator

import (
	"strings"
	"testing"
	"time"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/joberr"
	"keyferry/migrator/keymove"
)

// TestAdviceAtOnce: an error of an attempt under way comes with what to do about it, until
// the job gets on again; one that it has ended with, for as long as it waits.
func TestAdviceAtOnce(t *testing.T) {
	r := &runner{errs: &errorLog{}, mover: &mover{}, job: topology.Job{JobProgress: topology.JobProgress{Phase: topology.Bulk}}}
	says := func(when, want string) {
		t.Helper()
		if got := r.advice(nil); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	says("nothing has happened", "")
	before := time.Now().UnixMilli()
	r.mover.stats.lastProgress.Store(before)
	r.errs.add(joberr.At(joberr.Source, upstream.ServerError("LOADING Redis is loading the dataset in memory")))
	r.errs.add(joberr.At(joberr.Target, upstream.ServerError("READONLY You can't write against a read only replica.")))
	says("two errors", "the target has become a replica")
	r.job.Phase = topology.Done
	says("it has ended", "")
	r.job.Phase = topology.Bulk
	r.mover.stats.lastProgress.Store(before + time.Hour.Milliseconds())
	says("it gets on", "")
	k := &keymove.Key{}
	r.mover.open = newUndecided()
	r.mover.open.add([]*keymove.Key{k})
	says("a key has just come to be in doubt", "")
	r.mover.stats.resolver.note(&topology.JobError{Origin: joberr.Target, Text: "ERR DUMP payload version or checksum are wrong"})
	says("keys are in doubt while others get on", "the target can't read")
	r.mover.open.decided(k)
	says("they are decided", "")
	r.job.Phase, r.job.FirstError = topology.Backoff, &topology.JobError{Origin: joberr.Source, Code: "LOADING"}
	says("it waits", "until the source has loaded")
}
