package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
)

// TestDatabasesOfTheServers: the servers have more databases than the cluster. What would go to
// one of those is refused as a server with fewer refuses it: there nobody could read it, and no
// job would move it. Also while the keys of a slot are brought to the target as they are touched.
func TestDatabasesOfTheServers(t *testing.T) {
	ctx := context.Background()
	var servers []*testredis.Server
	for range 2 {
		servers = append(servers, testredis.StartT(t, "--databases", "32"))
	}
	r := wrap(testrig.With(t, servers, "--set", "migration.batch-max-keys=1", "--set", "locks.wait-deadline=30s"))
	r.fill(300, 10)
	c := r.client()
	if err := c.Set(ctx, "{t}a", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	const want = "ERR DB index is out of range"
	check := func(when string) {
		t.Helper()
		for _, cmd := range []string{"COPY {t}a {t}b DB 20", "COPY {t}a {t}b REPLACE DB 16", "MOVE {t}a 31", "MOVE {t}a 9999"} {
			var args []any
			for _, a := range strings.Fields(cmd) {
				args = append(args, a)
			}
			if v, err := c.Do(ctx, args...).Result(); err == nil || err.Error() != want {
				t.Errorf("%s: %s: %v, %v", when, cmd, v, err)
			}
			p := c.TxPipeline()
			p.Do(ctx, args...)
			p.Select(ctx, 20)
			p.Set(ctx, "{t}c", "y", 0)
			cmds, _ := p.Exec(ctx)
			for i, got := range cmds {
				if err := got.Err(); i < 2 && (err == nil || err.Error() != want) || i == 2 && err != nil {
					t.Errorf("%s: in MULTI, %v", when, got)
				}
			}
		}
		if v, err := c.Get(ctx, "{t}c").Result(); v != "y" {
			t.Errorf("%s: what was written behind a SELECT that failed is %q, %v", when, v, err)
		}
		for i, s := range servers {
			if text := s.Client().Info(ctx, "keyspace").Val(); strings.Contains(text, "db16:") || strings.Contains(text, "db20:") || strings.Contains(text, "db31:") {
				t.Errorf("%s: g%d: %s", when, i+1, text)
			}
		}
	}
	check("at rest")
	id := r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "20").(string)
	r.awaitMoved(5)
	r.proxy("MIGRATION", "PAUSE", id)
	r.kill()
	r.start("") // what has moved is not known now: every key is moved when it is touched
	began := time.Now()
	check("while keys are moved as they are touched")
	t.Logf("took %v", time.Since(began))
	r.proxy("MIGRATION", "RESUME", id)
	r.unlimited()
	r.awaitDone()
	r.placesRight()
}
