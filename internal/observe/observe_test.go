package observe

import (
	"testing"
	"time"

	"keyferry/internal/metrics"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator"
)

func TestReadInfo(t *testing.T) {
	g := said(upstream.ParseInfo("# Server\r\nredis_version:7.0.15\r\nrole:master\r\nused_memory:1024\r\nmaxmemory:4096\r\nconnected_clients:3\r\n" +
		"instantaneous_ops_per_sec:11\r\ntotal_commands_processed:99\r\nconnected_slaves:1\r\nslave0:ip=10.0.0.2,port=6380,state=online,offset=1,lag=0\r\n" +
		"# Keyspace\r\ndb0:keys=5,expires=0,avg_ttl=0\r\ndb12:keys=37,expires=1,avg_ttl=0\r\n"))
	if g.Version != "7.0.15" || g.Memory != 1024 || g.Limit != 4096 || g.Keys != 42 || g.Total != 99 || len(g.Replicas) != 1 || g.Replicas[0] != "10.0.0.2:6380 online" {
		t.Errorf("%+v", g)
	}
	g = said(upstream.ParseInfo("")) // a server that says nothing of itself
	if g.Keys != 0 || g.Version != "" || g.Replicas != nil {
		t.Errorf("%+v", g)
	}
	g = said(upstream.ParseInfo("valkey_version:8.0.1\nredis_version:7.2.4\ndb0:keys=x\nconnected_slaves:99999999\nslave0:nonsense\n"))
	if g.Version != "8.0.1" || len(g.Replicas) > 16 {
		t.Errorf("%+v", g)
	}
}

func TestHistoryRing(t *testing.T) {
	o := &Observer{}
	for i := range kept + 250 {
		o.history.add(Point{T: int64(i)})
	}
	got := o.History()
	if len(got) != kept || got[0].T != 250 || got[kept-1].T != kept+249 {
		t.Errorf("%d points from %d to %d", len(got), got[0].T, got[len(got)-1].T)
	}
}

// TestErrorsAreCountedOnce: a job's counts are those of its whole life; what the observer
// adds to the metric is what is new.
func TestErrorsAreCountedOnce(t *testing.T) {
	o := &Observer{jobs: make(map[string]*jobStory), errors: make(map[[2]string]uint64)}
	at := time.Now()
	step := func(phase topology.Phase, oom, moved int64) {
		at = at.Add(1500 * time.Millisecond)
		j := migrator.Status{Job: topology.Job{ID: "m1", JobProgress: topology.JobProgress{Phase: phase, KeysMoved: moved}, JobTrouble: topology.JobTrouble{ErrorCounts: map[string]int64{"target OOM": oom}}}}
		o.tell(&Snapshot{At: at, Jobs: []migrator.Status{j}})
	}
	step(topology.Bulk, 0, 0)
	step(topology.Backoff, 2, 300)
	step(topology.Backoff, 2, 300)
	step(topology.Bulk, 2, 300)
	step(topology.Backoff, 3, 600)
	step(topology.Paused, 3, 600)
	if n := o.errors[[2]string{"target", "OOM"}]; n != 3 {
		t.Errorf("%d errors, want 3", n)
	}
	if o.retries != 1 {
		t.Errorf("%d retries, want 1: a pause is none", o.retries)
	}
	points, ok := o.Story("m1")
	if !ok || len(points) != 5 || points[0].Keys != 200 {
		t.Errorf("%v %+v", ok, points)
	}
	o.tell(&Snapshot{At: at})
	if _, ok := o.Story("m1"); ok || o.errors[[2]string{"target", "OOM"}] != 3 {
		t.Error("the job is gone, and what was counted stays")
	}
}

func TestHistogramSince(t *testing.T) {
	var before, now metrics.Histogram
	for range 10 {
		before.Record(time.Millisecond)
	}
	now = before
	now.Record(time.Second)
	d := now.Since(&before)
	if d.Count != 1 || d.Quantile(0.5) < 900*time.Millisecond {
		t.Errorf("%d, %v", d.Count, d.Quantile(0.5))
	}
	var reset metrics.Histogram
	reset.Record(time.Microsecond)
	if d := reset.Since(&now); d.Count != 1 {
		t.Errorf("after a reset: %d", d.Count)
	}
}
