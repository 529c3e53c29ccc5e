package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/testrig"
	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/migrator/preflight"
)

func (r *rig) dryrun(args ...any) (reports []migrator.Report) {
	r.t.Helper()
	v := r.proxy(append(append([]any{"MIGRATE"}, args...), "DRYRUN", "JSON")...)
	if err := json.Unmarshal([]byte(v.(string)), &reports); err != nil {
		r.t.Fatal(err)
	}
	return reports
}

// lessonBrokenTargets: each way in which a target can be unfit has its own message, said
// by the check as by the job; the job is not published and neither server is changed.
func lessonBrokenTargets(t *testing.T) {
	ctx := context.Background()
	do := func(args ...any) func(*redis.Client, *fault) error {
		return func(c *redis.Client, _ *fault) error { return c.Do(ctx, args...).Err() }
	}
	answers := func(command, reply string) func(*redis.Client, *fault) error {
		return func(_ *redis.Client, f *fault) error {
			f.set(func(f *fault) {
				f.onRequest = func(args []string) (string, bool) {
					if isCommand(args, command) {
						return reply, false
					}
					return "", false
				}
			})
			return nil
		}
	}
	for _, c := range []struct {
		name, what, says string
		mends            bool // waiting may: the job tries again
		breakIt          func(target *redis.Client, way *fault) error
	}{
		{"wrong password", "auth", "NOAUTH", false, do("CONFIG", "SET", "requirepass", "secret")},
		{"ACL without RESTORE", "acl", "restore", false, do("ACL", "SETUSER", "default", "-restore")},
		{"older version", "version", "can't read the source's payloads", false, answers("RESTORE", "-ERR DUMP payload version or checksum are wrong\r\n")},
		{"no memory", "memory", "maxmemory", true, do("CONFIG", "SET", "maxmemory", "100000")},
		{"foreign keys", "target-free", `holds 1 keys of these slots already (one is key "foreign" of slot`, false, do("SET", "foreign", "1")},
		{"replica", "role", "is a slave", false, do("REPLICAOF", "127.0.0.1", "1")},
		{"loading", "loading", "LOADING", true, answers("INFO", "-LOADING Redis is loading the dataset in memory\r\n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, faults := newFaultyRig(t, 2, "--set", "migration.backoff-min=100ms")
			r.t = t
			r.fill(200, 10)
			dst := r.servers[1].Client()
			if reports := r.dryrun("0-16383", "TO", "g2"); !reports[0].OK {
				t.Fatalf("a sound target is refused: %+v", reports[0].Findings)
			}
			if err := c.breakIt(dst, faults[1]); err != nil {
				t.Fatal(err)
			}
			report := r.dryrun("0-16383", "TO", "g2")[0]
			var fatal []preflight.Finding
			for _, f := range report.Findings {
				if f.Severity == preflight.Fatal {
					fatal = append(fatal, f)
				}
			}
			if report.OK || len(fatal) == 0 || fatal[0].What != c.what || !strings.Contains(fatal[0].Text, c.says) || !strings.Contains(fatal[0].Where, "g2") || fatal[0].Advice == "" {
				t.Errorf("the check found %+v", report.Findings)
			}
			id := r.proxy("MIGRATE", "0-16383", "TO", "g2").(string)
			want := topology.Failed
			if c.mends {
				want = topology.Backoff
			}
			r.await("the job to be refused", func() bool { j := r.job(); return j.Phase == want || c.mends && j.Attempt > 1 })
			j := r.job()
			if j.Published || j.LastError == nil || j.LastError.Origin != "target" || !strings.Contains(j.LastError.Text, c.says) {
				t.Errorf("the job is %s, published %v, last error %+v", j.Phase, j.Published, j.LastError)
			}
			r.proxy("MIGRATION", "CANCEL", id)
			if n := testrig.KeysAt(t, r.servers[0]); n != 200 {
				t.Errorf("the source has %d keys of 200", n)
			}
			if n, err := dst.DBSize(ctx).Result(); err == nil && n > 2 { // the stamp and, of one case, a key of its own
				t.Errorf("the target has %d keys", n)
			}
		})
	}
}

// TestRebalanceChecks: the dry run of a rebalance looks at both ends as a migration's does, for each
// of its jobs; and a group of weight 0 is empty in the end, and can be removed.
func TestRebalanceChecks(t *testing.T) {
	r := newRig(t, 3)
	r.fill(200, 10)
	foreign := keyInSlots(0, 8191) // which g3 is to get
	r.servers[2].Client().Set(context.Background(), foreign, "1", 0)
	dry := func() (reports []migrator.Report) {
		v := r.proxy("REBALANCE", "WEIGHT", "g1", "0", "DRYRUN", "JSON")
		if err := json.Unmarshal([]byte(v.(string)), &reports); err != nil {
			t.Fatal(err)
		}
		return reports
	}
	reports := dry()
	if len(reports) != 2 {
		t.Fatalf("the dry run says %+v", reports)
	}
	for _, report := range reports {
		inWay := slices.ContainsFunc(report.Findings, func(f preflight.Finding) bool { return f.What == "target-free" && f.Severity == preflight.Fatal })
		if has := report.Target == "g3"; report.OK == has || inWay != has || report.Keys <= 0 {
			t.Errorf("the dry run says %+v", report)
		}
	}
	r.servers[2].Client().Del(context.Background(), foreign)
	for _, report := range dry() {
		if !report.OK {
			t.Errorf("after it was mended: %+v", report)
		}
	}
	r.proxy("REBALANCE", "WEIGHT", "g1", "0")
	r.await("both jobs to be done", func() bool {
		jobs := r.jobs()
		return len(jobs) == 2 && jobs[0].Phase == topology.Done && jobs[1].Phase == topology.Done
	})
	r.placesRight()
	r.proxy("GROUP", "DEL", "g1")
}

// TestCheckFindings: what is no obstacle but worth to know is said, with advice; a library
// of functions is brought; PURGE removes what is in the way.
func TestCheckFindings(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	r.fill(300, 1000)
	src, dst := r.servers[0].Client(), r.servers[1].Client()
	c := r.client()
	c.LPush(ctx, "list", "a")
	c.XAdd(ctx, &redis.XAddArgs{Stream: "stream", Values: []string{"a", "b"}})
	for _, cmd := range [][]any{{"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"}, {"CONFIG", "SET", "maxmemory", "100000000"}, {"CONFIG", "SET", "appendonly", "no"}, {"CONFIG", "SET", "proto-max-bulk-len", "1mb"},
		{"SET", "foreign", "1"}, {"SET", "fill:1", "other"}} {
		if err := dst.Do(ctx, cmd...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := src.FunctionLoad(ctx, "#!lua name=lib\nredis.register_function{function_name='f', callback=function() return 7 end, flags={'no-writes'}}").Err(); err != nil {
		t.Fatal(err)
	}
	report := r.dryrun("0-16383", "TO", "g2", "PURGE", "2")[0]
	found, strangers := map[string]preflight.Severity{}, ""
	for _, f := range report.Findings {
		found[f.What] = f.Severity
		if f.What == "clients" {
			strangers += f.Where
		}
	}
	if !strings.Contains(strangers, "g1") || !strings.Contains(strangers, "g2") { // this test's own
		t.Errorf("clients past the gateway at %q", strangers)
	}
	want := map[string]preflight.Severity{"limits": preflight.Warning, "eviction": preflight.Info, "persistence": preflight.Warning, "clients": preflight.Warning, "functions": preflight.Info, "target-free": preflight.Warning}
	for what, s := range want {
		if _, ok := found[what]; !ok {
			t.Errorf("no finding %s (%s): %+v", what, s, report.Findings)
		}
	}
	if !report.OK || report.Keys <= 0 {
		t.Errorf("ok %v, %d keys", report.OK, report.Keys)
	}
	if n := testrig.KeysAt(t, r.servers[1]); n != 2 {
		t.Errorf("the dry run left %d keys at the target", n)
	}
	if text := fmt.Sprint(r.proxy("MIGRATE", "0-16383", "TO", "g2", "DRYRUN")); !strings.Contains(text, "ok no") || !strings.Contains(text, "PURGE") {
		t.Errorf("without PURGE: %s", text)
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "PURGE", "2")
	r.awaitDone()
	if v := dst.Do(ctx, "FCALL", "f", "0").Val(); v != int64(7) {
		t.Errorf("the function at the target answers %v", v)
	}
	if v := c.Get(ctx, "fill:1").Val(); len(v) != 1000 {
		t.Errorf("fill:1 has %d bytes: the target's foreign value has won", len(v))
	}
	if c.Exists(ctx, "foreign").Val() != 0 {
		t.Error("a foreign key has survived PURGE")
	}
	r.placesRight()
}
