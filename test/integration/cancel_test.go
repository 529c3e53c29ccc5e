package integration

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/topology"
	"keyferry/router"
)

// TestCancelWhileClientsCreateKeys: a job that has moved nothing is cancelled, and while that
// is being stored clients block on keys that don't exist and create them. The job says that
// nothing has moved, so nothing may go to the target from then on: a key created there would
// be out of reach as soon as the slots are the source's again.
func TestCancelWhileClientsCreateKeys(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2, "--set", "locks.wait-deadline=1m")
	c := r.client()
	pipe := c.Pipeline()
	for i := range 20_000 { // a pass that takes a while and finds nothing of the slot that moves
		pipe.Set(ctx, fmt.Sprintf("{other}%d", i), "x", 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	r.kill()
	// The last is for a CANCEL that comes late: the job does not end before it.
	r.start("job.bulk.persist.before=sleep:300ms;job.cancelled.persist.before=sleep:700ms;job.tail.persist.before=sleep:20s")
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
	if p := r.job().Phase; p != topology.Cancelled {
		t.Fatalf("the job is %s", p)
	}
	for i := range 5 {
		if got, err := c.LRange(ctx, fmt.Sprintf("{tag}%d", i), 0, -1).Result(); err != nil || len(got) != 1 {
			t.Errorf("list %d: %q, %v", i, got, err)
		}
	}
	r.placesRight()
}

// TestScriptsAfterCancelThatStays: a job that has moved keys is cancelled and stays, paused.
// Scripts that come to its half moved slots then still find the keys that they do not name.
func TestScriptsAfterCancelThatStays(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	c := r.client()
	const queues, each = 6, 40
	r.fill(5000, 1)
	fill := c.Pipeline()
	for q := range queues {
		for i := range each {
			fill.Set(ctx, fmt.Sprintf("{queue%d}:%d", q, i), 1, 0)
		}
	}
	if _, err := fill.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "600")
	r.awaitMoved(1000)
	r.proxy("MIGRATION", "CANCEL", "m1", "STAY")
	if p := r.job().Phase; p != topology.Paused {
		t.Fatalf("the job is %s", p)
	}
	count := redis.NewScript(`
		local n = 0
		for i = 0, ARGV[1] - 1 do n = n + redis.call('EXISTS', KEYS[1] .. ':' .. i) end
		return n`)
	for q := range queues {
		key := fmt.Sprintf("{queue%d}", q)
		if n, err := count.Run(ctx, c, []string{key}, each).Int(); err != nil || n != each {
			t.Errorf("%s: a script finds %d of %d keys, %v", key, n, each, err)
		}
	}
	r.proxy("MIGRATION", "RESUME", "m1")
	r.unlimited()
	r.awaitDone()
	r.placesRight()
}
