package lesson

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/topology"
	"keyferry/router"
)

// writeOn writes to a key again and again until stop is called, which gives the first error.
func (r *rig) writeOn(key string) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	c, ended := r.Client(), make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			if ctx.Err() != nil && n > 0 {
				ended <- nil
				return
			}
			if err := c.Set(context.Background(), key, n, 0).Err(); err != nil {
				ended <- err
				return
			}
		}
	}()
	r.T.Cleanup(cancel)
	return func() error { cancel(); return <-ended }
}

// TestCancelWithoutStore: to cancel a job that has moved nothing its slots are held while that
// is stored. When the store fails, clients are let go, and the operator is told.
func TestCancelWithoutStore(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2, append(quick, "locks.wait-deadline=5s", "migration.scan-count=100")...)
	pipe := r.Client().Pipeline()
	for i := range 20_000 { // two hundred pages, in which there is nothing of the slot that moves
		pipe.Set(ctx, fmt.Sprintf("{other}%d", i), "x", 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	r.Kill()
	r.Start("store.cancelled=fail:1000000")
	r.links[0].Set(faultproxy.ToClient, faultproxy.Fault{Delay: 40 * time.Millisecond}) // of each page
	id := r.Proxy("MIGRATE", router.Redis.Slot([]byte("tag")), "TO", "g2").(string)
	r.Await("the first pass", func() bool { return r.Job().Phase == topology.Bulk })
	said := make(chan error, 1)
	go func() { _, err := r.ProxyErr("MIGRATION", "CANCEL", id); said <- err }()
	r.said("job could not be stored")
	stop := r.writeOn("{tag}")
	if err := <-said; err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("CANCEL: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("a client of the slot: %v", err)
	}
	r.heal(0)
	r.AwaitDone()
	r.PlacesRight()
}

// TestTurnWithoutStore: a job that turns round holds its slots while that is stored. When the
// store fails it lets clients go, and turns when the store works again.
func TestTurnWithoutStore(t *testing.T) {
	const n, size, times = 300, 10, 12
	r := newRig(t, 2, append(quick, "locks.wait-deadline=3s", "migration.max-attempts=0")...)
	r.fill(n, size)
	r.Kill()
	r.Start(fmt.Sprint("store.turn=fail:", times))
	id := r.Proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "30").(string)
	r.AwaitMoved(50)
	stop := r.writeOn("other")
	r.Proxy("MIGRATION", "CANCEL", id, "REVERT")
	r.Unlimited()
	r.Await("the job to be reverted", func() bool { return r.Job().Phase == topology.Reverted })
	if err := stop(); err != nil {
		t.Errorf("a client of the slots: %v", err)
	}
	if j := r.Job(); j.ErrorCounts["store IO"] == 0 {
		t.Errorf("the store's errors are not told: %v", j.ErrorCounts)
	}
	r.allThere(n, size)
}
