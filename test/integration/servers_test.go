package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/bench"
	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
	"keyferry/internal/topology"
	"keyferry/router"
)

// TestServerKilledMidJob kills the target, and in another run the source, in the middle
// of a job. The job backs off and resumes by itself.
func TestServerKilledMidJob(t *testing.T) {
	for name, victim := range map[string]int{"target": 1, "source": 0} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3, "--set", "migration.batch-max-keys=16")
			// The third group's clients must not notice anything.
			r.proxy("MIGRATE", "12000-16383", "TO", "g3")
			r.awaitDone()
			_, finish := r.oracle(bench.OracleConfig{Keys: 3000, Clients: 4, Pipeline: 3, Rate: 2000})
			r.proxy("MIGRATE", "0-6000", "TO", "g2", "RATE", "100")
			r.awaitMoved(100)
			if err := r.servers[victim].Kill(); err != nil {
				t.Fatal(err)
			}
			r.await("the job to back off", func() bool { return r.job().Phase == topology.Backoff || r.job().Attempt > 0 })
			c := r.client()
			for i := range 200 { // clients of keys that can be served are served
				key := fmt.Sprintf("third:%d", i)
				if router.Redis.Slot([]byte(key)) < 12000 {
					continue
				}
				if err := c.Set(context.Background(), key, "x", 0).Err(); err != nil {
					t.Errorf("a key of a healthy group: %v", err)
				}
			}
			if e := r.job().FirstError; e == nil || e.Origin != name {
				t.Errorf("first error %+v, want origin %s", e, name)
			}
			if err := r.servers[victim].Restart(); err != nil {
				t.Fatal(err)
			}
			r.unlimited()
			r.awaitDone()
			finish()
			r.placesRight()
		})
	}
}

// TestSourceFromOlderDump restarts the source from a dump in which keys are present that
// have left since: the target's word stands, for values and for deletes.
func TestSourceFromOlderDump(t *testing.T) {
	ctx := context.Background()
	servers := []*testredis.Server{testredis.StartT(t, "--appendonly", "no"), testredis.StartT(t)}
	r := wrap(testrig.With(t, servers, "--set", "migration.batch-max-keys=8"))
	c := r.client()
	const n = 2000
	set := func(i int, v string) {
		t.Helper()
		if err := c.Set(ctx, fmt.Sprintf("k%d", i), v, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		set(i, "old")
	}
	src := r.servers[0].Client()
	if err := src.Save(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "300")
	r.awaitMoved(n / 4)
	r.proxy("MIGRATION", "LIMIT", "m1", "RATE", "1") // it outlasts what follows
	dst := r.servers[1].Client()
	want := map[int]string{}
	for i := range n {
		want[i] = "old"
		if dst.Exists(ctx, fmt.Sprintf("k%d", i)).Val() == 0 {
			continue
		}
		switch i % 3 {
		case 0:
			set(i, "new")
			want[i] = "new"
		case 1:
			if err := c.Del(ctx, fmt.Sprintf("k%d", i)).Err(); err != nil {
				t.Fatal(err)
			}
			want[i] = ""
		}
	}
	if err := r.servers[0].Kill(); err != nil {
		t.Fatal(err)
	}
	if err := r.servers[0].Restart(); err != nil { // loads dump.rdb
		t.Fatal(err)
	}
	r.unlimited()
	r.awaitDone()
	for i := range n {
		got, err := c.Get(ctx, fmt.Sprintf("k%d", i)).Result()
		if err != nil && err != redis.Nil {
			t.Fatal(err)
		}
		if got != want[i] {
			t.Errorf("k%d holds %q, want %q", i, got, want[i])
		}
	}
	if r.job().StaleDropped == 0 {
		t.Error("no stale copy was met: the test did not test anything")
	}
	r.placesRight()
}

// TestCommandsInFlightOnADyingServer: each gets an error in Redis's form, none hangs, and
// the gateway comes back when the server does.
func TestCommandsInFlightOnADyingServer(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 1)
	c := r.client()
	if err := r.servers[0].Pause(); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 50)
	for i := range 50 {
		go func() { errs <- c.Set(ctx, fmt.Sprintf("k%d", i), "v", 0).Err() }()
	}
	r.await("the commands to be in flight", func() bool { return r.gatewayInfo("commands_in_flight") > 0 })
	if err := r.servers[0].Kill(); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		err := <-errs
		if _, ok := err.(redis.Error); !ok {
			t.Errorf("want an error reply, got %v", err)
		}
	}
	if err := r.servers[0].Restart(); err != nil {
		t.Fatal(err)
	}
	r.await("the server to be reached again", func() bool { return c.Set(ctx, "k", "v", time.Minute).Err() == nil })
}

// TestBackgroundSaves: BGSAVE and BGREWRITEAOF reach every group that serves slots, and LASTSAVE
// tells when all have saved.
func TestBackgroundSaves(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	c := r.client()
	r.proxy("MIGRATE", "0-8191", "TO", "g2")
	r.awaitDone()
	for i := range 100 {
		if err := c.Set(ctx, fmt.Sprintf("k%d", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	before := c.LastSave(ctx).Val()
	r.await("a second to pass", func() bool { return time.Now().Unix() > before })
	if text, err := c.BgSave(ctx).Result(); err != nil || text != "Background saving started" {
		t.Errorf("BGSAVE: %q, %v", text, err)
	}
	r.await("all to have saved", func() bool { return c.LastSave(ctx).Val() > before })
	for _, s := range r.servers {
		if info := s.Client().Info(ctx, "persistence").Val(); !strings.Contains(info, "rdb_changes_since_last_save:0\r\n") || !strings.Contains(info, "rdb_saves:1\r\n") {
			t.Errorf("%s has not saved: %s", s.Addr, info)
		}
	}
	if text, err := c.BgRewriteAOF(ctx).Result(); err != nil || text != "Background append only file rewriting started" {
		t.Errorf("BGREWRITEAOF: %q, %v", text, err)
	}
	for _, s := range r.servers {
		r.await("the file to be rewritten", func() bool {
			return strings.Contains(s.Client().Info(ctx, "persistence").Val(), "aof_rewrites:1\r\n")
		})
	}
}
