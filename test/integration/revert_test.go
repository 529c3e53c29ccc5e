package integration

import (
	"context"
	"strings"
	"testing"

	"keyferry/bench"
	"keyferry/internal/testrig"
	"keyferry/internal/topology"
	"keyferry/migrator"
)

// awaitReverted waits until everything is back.
func (r *rig) awaitReverted() {
	r.t.Helper()
	r.await("the job to be reverted", func() bool {
		j := r.job()
		if j.Phase == topology.Failed {
			r.t.Fatalf("job failed: %+v", r.jobs())
		}
		return j.Phase == topology.Reverted
	})
}

// TestRevert: what has moved is brought back while clients of all kinds write, from a job
// that runs, that is paused, that is in its tail. Nothing is lost, and every key is where it
// was. The slots can be moved again afterwards.
func TestRevert(t *testing.T) {
	r := newRig(t, 2, "--set", "migration.batch-max-keys=32")
	_, finish := r.oracle(bench.OracleConfig{Keys: 4000, DBs: []int{0, 1}, Clients: 4, Pipeline: 3, Rate: 2000})
	for _, paused := range []bool{false, true} {
		id := r.proxy("MIGRATE", "0-8191", "TO", "g2", "RATE", "500").(string)
		r.awaitMoved(500)
		r.proxy("MIGRATION", "LIMIT", id, "RATE", "50") // neither way is at its end before what follows
		if paused {
			r.proxy("MIGRATION", "PAUSE", id)
		}
		r.proxy("MIGRATION", "CANCEL", id, "REVERT")
		r.proxy("MIGRATION", "CANCEL", id, "REVERT") // again: nothing happens
		r.proxy("MIGRATION", "LIMIT", id, "RATE", "0")
		r.awaitReverted()
		if v, err := r.proxyErr("MIGRATION", "CANCEL", id, "REVERT"); err == nil {
			t.Errorf("a job that has ended is reverted: %v", v)
		}
		if j := r.job(); j.Returned == 0 || j.Source != "g1" {
			t.Errorf("%d keys returned to %s", j.Returned, j.Source)
		}
	}
	r.proxy("MIGRATE", "0-8191", "TO", "g2")
	r.await("the last job to be done", func() bool { return r.job().Phase == topology.Done })
	finish()
	r.placesRight()
}

// TestRevertKilled kills the gateway at each stage of a revert; it finishes by itself.
// Keys go one by one, more than 200 there and as many back, so that the 350th is on its way back.
func TestRevertKilled(t *testing.T) {
	for _, point := range []string{"job.reverting.persist.before=kill@2", "job.turn.stored=kill", "move.restore.after=kill@350", "job.reverted.before=kill", "job.reverted.persist.after=kill"} {
		t.Run(point, func(t *testing.T) {
			r := newRig(t, 2, "--set", "migration.batch-max-keys=1")
			r.kill()
			r.start(point)
			_, finish := r.oracle(bench.OracleConfig{Keys: 1500, Clients: 4, Pipeline: 3, Rate: 2000})
			id := r.proxy("MIGRATE", "0-8191", "TO", "g2", "RATE", "120").(string)
			r.awaitMoved(200)
			_, _ = r.proxyErr("MIGRATION", "CANCEL", id, "REVERT") // it may die before it can answer
			_, _ = r.proxyErr("MIGRATION", "LIMIT", id, "RATE", "0")
			r.awaitDeath()
			r.start("")
			r.await("the job to be there", func() bool { return len(r.jobs()) == 1 })
			r.await("the order to be taken again, if it was not stored", func() bool {
				_, err := r.proxyErr("MIGRATION", "CANCEL", id, "REVERT")
				return err == nil || r.job().Phase.Ended() // it may have ended by now
			})
			r.unlimited()
			r.awaitReverted()
			finish()
			r.placesRight()
		})
	}
}

// TestRevertToFullSource: the source fills up while keys are brought back to it. The job waits
// for room and says of which end, by the names that the operator knows.
func TestRevertToFullSource(t *testing.T) {
	ctx := context.Background()
	const keys = 1000
	r := newRig(t, 2)
	r.fill(keys, 100)
	id := r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "100").(string)
	r.awaitMoved(200)
	source := r.servers[0].Client()
	if err := source.ConfigSet(ctx, "maxmemory", "500kb").Err(); err != nil { // less than an empty server takes
		t.Fatal(err)
	}
	r.proxy("MIGRATION", "CANCEL", id, "REVERT")
	r.proxy("MIGRATION", "LIMIT", id, "RATE", "0")
	var j migrator.Status
	r.await("the job to wait for room", func() bool { j = r.job(); return j.Phase == topology.Paused })
	if j.Reason != "source-oom" || j.FirstError == nil || j.FirstError.Origin != "source" || j.FirstError.Code != "OOM" || !strings.Contains(j.Advice, "the source's maxmemory") {
		t.Errorf("reason %q, error %+v, advice %q", j.Reason, j.FirstError, j.Advice)
	}
	for kind, n := range j.ErrorCounts {
		if kind == "target OOM" {
			t.Errorf("%d errors are counted as %s", n, kind)
		}
	}
	if err := source.ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	r.unlimited()
	r.awaitReverted()
	if n := testrig.KeysAt(t, r.servers[0]); n != keys {
		t.Errorf("%d keys are at the source, of %d", n, keys)
	}
	r.placesRight()
}
