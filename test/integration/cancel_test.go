package integration

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"keyferry/internal/topology"
	"keyferry/router"
)

// TestCancelWhileClientsCreateKeys: a job that has moved nothing is cancelled, and while that
// is being stored clients block on keys that don't exist and create them. The job says that
// nothing has moved, so nothing may go to the target from then on: a key created there would
// be out of reach as soon as the slots are the source's again.
func TestCancelWhileClientsCreateKeys(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2, "--set", "locks.wait-deadline=10s")
	c := r.client()
	pipe := c.Pipeline()
	for i := range 20_000 { // a pass that takes a while and finds nothing of the slot that moves
		pipe.Set(ctx, fmt.Sprintf("{other}%d", i), "x", 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	r.kill()
	r.start("job.bulk.persist.before=sleep:300ms;job.cancelled.persist.before=sleep:700ms")
	id := r.proxy("MIGRATE", strconv.Itoa(router.Redis.Slot([]byte("tag"))), "TO", "g2").(string)
	r.await("the loops to route the slot as moving", func() bool { return strings.Contains(r.log.String(), "failpoint job.bulk.persist.before") })
	said := make(chan string, 1)
	go func() { said <- fmt.Sprint(r.proxyErr("MIGRATION", "CANCEL", id)) }()
	r.await("the cancellation to be stored", func() bool { return strings.Contains(r.log.String(), "failpoint job.cancelled.persist.before") })
	for i := range 5 {
		key := fmt.Sprintf("{tag}%d", i)
		_ = c.Do(ctx, "BLPOP", key, "0.01").Err()
		if n, err := c.RPush(ctx, key, "element").Result(); err != nil || n != 1 {
			t.Fatalf("RPUSH %s: %d, %v", key, n, err)
		}
	}
	t.Log(<-said)
	if p := last(r).Phase; p != topology.Cancelled {
		t.Fatalf("the job is %s", p)
	}
	for i := range 5 {
		if got, err := c.LRange(ctx, fmt.Sprintf("{tag}%d", i), 0, -1).Result(); err != nil || len(got) != 1 {
			t.Errorf("list %d: %q, %v", i, got, err)
		}
	}
	r.placesRight()
}
