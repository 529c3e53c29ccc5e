package migrator

import (
	"context"
	"testing"
	"time"

	"keyferry/internal/topology"
	"keyferry/migrator/job"
)

// TestClockSetBack: a job was told when to go on by a clock that has been set back by an hour
// since, or by one of another machine. It waits no longer than it would have at most.
func TestClockSetBack(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m := &Manager{cfg: Config{BackoffMax: time.Millisecond}}
	far := time.Now().Add(time.Hour).UnixMilli()
	r := &runner{m: m, job: topology.Job{JobProgress: topology.JobProgress{Phase: topology.Backoff, ResumeTo: topology.Preflight, NextTryAtMs: far}}, errs: &errorLog{}}
	if ev := r.act(ctx); ev == nil || ev.Kind != job.Due {
		t.Errorf("in backoff: %+v", ev)
	}
}
