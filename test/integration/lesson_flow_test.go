package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/router"
)

// traffic is clients that read and overwrite filled keys with values of the same size; the
// returned function stops them and says how many commands went well and which errors came.
func (r *rig) traffic(clients, keys, size int, mine func(slot int) bool) func() (int64, []string) {
	r.t.Helper()
	var names []string
	for i := range keys {
		if k := fmt.Sprintf("fill:%d", i); mine(router.Redis.Slot([]byte(k))) {
			names = append(names, k)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var ok atomic.Int64
	var mu sync.Mutex
	var errs []string
	for n := range clients {
		c := r.client()
		wg.Go(func() {
			for i := n; ctx.Err() == nil; i += clients {
				time.Sleep(500 * time.Microsecond) // the processor is the servers' as well
				k := names[i%len(names)]
				err := c.Set(context.Background(), k, strings.Repeat("y", size), 0).Err()
				if err == nil {
					err = c.Get(context.Background(), k).Err()
				}
				if err == nil {
					ok.Add(2)
					continue
				}
				mu.Lock()
				errs = append(errs, err.Error())
				mu.Unlock()
			}
		})
	}
	r.t.Cleanup(cancel)
	return func() (int64, []string) {
		cancel()
		wg.Wait()
		return ok.Load(), errs
	}
}

// lessonStarvedTarget: the target gets a tenth of its time. The mover all but stops, says
// why, and stays within its memory; clients of another group have no errors; the job is
// never failed, and when the target is well the mover is at full speed again.
func lessonStarvedTarget(t *testing.T) {
	const keys = 40_000
	r := newRig(t, 3)
	r.fill(keys, 100)
	r.proxy("MIGRATE", "12000-16383", "TO", "g3")
	r.awaitDone()
	stop := r.traffic(4, keys, 100, func(slot int) bool { return slot >= 12000 })
	id := r.proxy("MIGRATE", "0-11999", "TO", "g2", "RATE", "2500").(string)
	r.await("keys to move at full speed", func() bool { j := r.job(); return j.KeysMoved > 1000 && j.Flow.Share == 1 })
	over := func() {
		t.Helper()
		if f := r.job().Flow; f.Bytes > f.BytesMax && f.Keys > 1 {
			t.Errorf("%d bytes in flight, at most %d are allowed", f.Bytes, f.BytesMax)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	starved := make(chan error, 1)
	began := time.Now()
	go func() {
		for {
			if err := r.servers[1].Pause(); err != nil {
				starved <- err
				return
			}
			time.Sleep(450 * time.Millisecond)
			if err := r.servers[1].Continue(); err != nil || ctx.Err() != nil {
				starved <- err
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	r.await("the mover to yield", func() bool {
		over()
		j := r.job()
		return j.Flow.Share < 0.05 && strings.Contains(j.Throttle, "target")
	})
	t.Logf("the mover had yielded after %v: %s", time.Since(began), r.job().Throttle)
	before := r.job().KeysMoved
	time.Sleep(2 * time.Second)
	t.Logf("%d keys in 2 s of a starved target, at a ceiling of 2500 a second", r.job().KeysMoved-before)
	over()
	cancel()
	if err := <-starved; err != nil {
		t.Fatal(err)
	}
	r.await("full speed again", func() bool { j := r.job(); return j.Flow.Share == 1 || j.Phase == topology.Done })
	r.unlimited()
	r.awaitDone()
	n, errs := stop()
	if len(errs) > 0 || n == 0 {
		t.Errorf("clients of the third group: %d commands, %d errors, first %q", n, len(errs), errs[:min(1, len(errs))])
	}
	r.never(id, topology.Failed)
	r.placesRight()
}

// lessonFullTarget: the target has room for part of the keys only. The job pauses itself,
// clients go on without errors, and when there is room it finishes by itself.
func lessonFullTarget(t *testing.T) {
	const keys, size = 6000, 1000
	ctx := context.Background()
	r := newRig(t, 2)
	r.fill(keys, size)
	dst := r.servers[1].Client()
	used := usedMemory(t, dst)
	if err := dst.ConfigSet(ctx, "maxmemory", fmt.Sprint(used+3<<20)).Err(); err != nil {
		t.Fatal(err)
	}
	stop := r.traffic(4, keys, size, func(int) bool { return true })
	id := r.proxy("MIGRATE", "0-16383", "TO", "g2").(string)
	var j migrator.Status
	r.await("the job to pause", func() bool { j = r.job(); return j.Phase == topology.Paused && j.Reason == "target-oom" })
	if j.KeysMoved == 0 || j.KeysMoved >= keys {
		t.Errorf("%d of %d keys had moved when it paused", j.KeysMoved, keys)
	}
	if j.FirstError == nil || j.FirstError.Origin != "target" || j.FirstError.Code != "OOM" {
		t.Errorf("first error %+v", j.FirstError)
	}
	time.Sleep(2 * time.Second) // clients go on meanwhile
	if n, errs := stop(); len(errs) > 0 || n == 0 {
		t.Errorf("clients: %d commands, %d errors, first %q", n, len(errs), errs[:min(1, len(errs))])
	}
	if err := dst.ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	r.awaitDone()
	r.never(id, topology.Failed)
	r.placesRight()
}

func usedMemory(t *testing.T, c *redis.Client) (n int) {
	t.Helper()
	text, err := c.Info(context.Background(), "memory").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, "used_memory:"); ok {
			fmt.Sscan(v, &n)
		}
	}
	return n
}

// TestLimits: ceilings of a running job change at once, are stored, and survive the
// gateway; what makes no sense is refused.
func TestLimits(t *testing.T) {
	r := newRig(t, 2)
	r.fill(20_000, 100)
	id := r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "20", "PARALLEL", "1").(string)
	r.awaitMoved(0)
	for _, bad := range [][]any{{"RATE", "-1"}, {"RATE", "x"}, {"BYTES", "NaN"}, {"PARALLEL", "65"}, {"MAXP99", "1.5"}, {"SPEED", "1"}, {"RATE"}, {},
		{"SLICE", "5"}, {"SLICE", "50ms"}, {"SLICE", "1s/"}, {"SLICE", "0/4s"}, {"SLICE"}} {
		if v, err := r.proxyErr(append([]any{"MIGRATION", "LIMIT", id}, bad...)...); err == nil {
			t.Errorf("LIMIT %v: %v", bad, v)
		}
	}
	r.proxy("MIGRATION", "LIMIT", id, "RATE", "200", "BYTES", "64kb", "PARALLEL", "3", "MAXP99", "1000", "SLICE", "1m/2s")
	check := func() {
		t.Helper()
		if j := r.job(); j.RateKeysPerS != 200 || j.RateBytesPerS != 64<<10 || j.Parallel != 3 || j.MaxP99Ms != 1000 || j.Slice != (topology.Slice{Work: time.Minute, Rest: 2 * time.Second}) {
			t.Errorf("limits of the job: %+v", j.Job)
		}
	}
	check()
	stop := r.traffic(2, 1000, 100, func(int) bool { return true })
	r.await("the clients' p99 to be looked at", func() bool { return r.job().Flow.ClientP99us > 0 })
	if n, errs := stop(); n == 0 || len(errs) > 0 {
		t.Errorf("clients: %d commands, errors %v", n, errs)
	}
	r.kill()
	r.start("")
	r.await("the job to be there", func() bool { return len(r.jobs()) == 1 })
	check()
	r.proxy("MIGRATION", "LIMIT", id, "RATE", "0", "BYTES", "0", "PARALLEL", "0", "MAXP99", "0", "SLICE", "0")
	r.awaitDone()
	if _, err := r.proxyErr("MIGRATION", "LIMIT", id, "RATE", "1"); err == nil {
		t.Error("a job that is done takes limits")
	}
	r.placesRight()
}
