package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
	"keyferry/internal/topology"
)

// TestDurability: with DURABILITY replica nothing is given up at the source that a replica
// of the target does not have; without a replica that is refused; auto says what it can do.
func TestDurability(t *testing.T) {
	ctx := context.Background()
	const keys = 2000
	r := newRig(t, 2, "--set", "migration.call-timeout=1s", "--set", "migration.backoff-max=300ms")
	r.fill(keys, 100)
	for _, mode := range []string{"replica", "aof"} { // 7.0 has no WAITAOF; newer ones have no AOF here
		if mode == "aof" && r.servers[1].Client().ConfigSet(ctx, "appendonly", "no").Err() != nil {
			t.Fatal("CONFIG SET appendonly")
		}
		id := r.proxy("MIGRATE", "0-16383", "TO", "g2", "DURABILITY", mode).(string)
		r.await("the job to be refused", func() bool { return r.job().Phase == topology.Failed })
		if j := r.job(); j.Published || !strings.Contains(j.Reason, "DURABILITY "+mode) {
			t.Errorf("%s: published %v, reason %s", mode, j.Published, j.Reason)
		}
		r.proxy("MIGRATION", "CANCEL", id)
	}
	if _, err := r.proxyErr("MIGRATE", "0-16383", "TO", "g2", "DURABILITY", "full"); err == nil {
		t.Error("DURABILITY full is taken")
	}
	r.proxy("MIGRATE", "0-8191", "TO", "g2", "RATE", "100")
	r.await("the status to say what is had", func() bool { return strings.Contains(r.job().DurableNow, "no replica") })
	r.unlimited()
	r.awaitOpenJobs()

	replica := testredis.StartT(t)
	if err := replica.Client().Do(ctx, "REPLICAOF", "127.0.0.1", fmt.Sprint(r.servers[1].Port)).Err(); err != nil {
		t.Fatal(err)
	}
	r.await("the replica", func() bool {
		return strings.Contains(r.servers[1].Client().Info(ctx, "replication").Val(), "state=online")
	})
	id := r.proxy("MIGRATE", "8192-16383", "TO", "g2", "RATE", "100", "DURABILITY", "replica").(string)
	r.await("some keys to move", func() bool { j := r.job(); return j.KeysMoved > 50 && j.DurableNow == "replica" })
	if err := replica.Pause(); err != nil {
		t.Fatal(err)
	}
	r.await("the job to notice", func() bool { return r.job().ErrorCounts["target NOREPLICAS"] > 0 })
	if err := replica.Continue(); err != nil {
		t.Fatal(err)
	}
	r.unlimited()
	r.awaitOpenJobs()
	r.never(id, topology.Failed)
	if n := testrig.KeysAt(t, replica); n != keys {
		t.Errorf("the replica has %d keys of %d", n, keys)
	}
	r.placesRight()
}

// awaitOpenJobs waits until the last job is done.
func (r *rig) awaitOpenJobs() {
	r.t.Helper()
	r.await("the job to be done", func() bool { return r.job().Phase == topology.Done })
}
