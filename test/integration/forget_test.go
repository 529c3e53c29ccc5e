package integration

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
	"keyferry/internal/topology"
	"keyferry/migrator/preflight"
	"keyferry/router"
)

// forgetful is a rig whose second server keeps nothing on disk, and n keys at the first.
func forgetful(t *testing.T, n int, args ...string) (*rig, *redis.Client) {
	t.Helper()
	servers := []*testredis.Server{testredis.StartT(t), testredis.StartT(t)}
	r := wrap(testrig.With(t, servers, append([]string{"--set", "migration.batch-max-keys=8", "--set", "migration.backoff-min=10ms"}, args...)...))
	c := r.client()
	for i := range n {
		if err := c.Set(context.Background(), fmt.Sprintf("k%d", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	return r, c
}

// restart is kill -9 of a server and a new process.
func restart(t *testing.T, s *testredis.Server) {
	t.Helper()
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
}

// awaitForgotten waits until the only job waits for an operator, and gives how many keys it says had
// been given up and how many of them are lost.
func (r *rig) awaitForgotten(reason string) (given, lost int) {
	r.t.Helper()
	r.await("the job to pause", func() bool { j := r.job(); return j.Phase == topology.Paused || j.Phase.Ended() })
	j := r.job()
	if j.Phase != topology.Paused || j.Reason != reason || j.FirstError == nil || j.FirstError.Code != "FORGOT" {
		r.t.Fatalf("the job is %s (%q), %+v", j.Phase, j.Reason, j.FirstError)
	}
	m := regexp.MustCompile(`given up (\d+) keys of .*slots? .*; up to (\d+) of them, of .*slots? .*, are lost`).FindStringSubmatch(j.FirstError.Text)
	if m == nil || !strings.Contains(j.Advice, "MIGRATION RESUME") || !strings.Contains(j.Advice, "REVERT") {
		r.t.Fatalf("it says %q and advises %q", j.FirstError.Text, j.Advice)
	}
	given, _ = strconv.Atoi(m[1])
	lost, _ = strconv.Atoi(m[2])
	return given, lost
}

// keysAt counts the users' keys at a server.
func keysAt(t *testing.T, s *testredis.Server) int {
	t.Helper()
	keys, err := s.Client().Keys(context.Background(), "k*").Result()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, k := range keys {
		if _, err := strconv.Atoi(k[1:]); err == nil {
			n++
		}
	}
	return n
}

// TestTargetThatForgets: a target that lacks what it was given stops the job before its next key, and
// the job says what is lost; it goes on when an operator says so, and no other key is lost.
func TestTargetThatForgets(t *testing.T) {
	const n = 1500
	for name, forget := range map[string]func(t *testing.T, r *rig) (kept int){
		"restarted empty": func(t *testing.T, r *rig) int {
			restart(t, r.servers[1])
			return 0
		},
		"from an old snapshot": func(t *testing.T, r *rig) int {
			if err := r.servers[1].Client().Save(context.Background()).Err(); err != nil {
				t.Fatal(err)
			}
			moved := r.job().KeysMoved
			r.awaitMoved(moved + 100)
			restart(t, r.servers[1])
			return keysAt(t, r.servers[1])
		},
		"flushed past the gateway": func(t *testing.T, r *rig) int {
			if err := r.servers[1].Client().FlushAll(context.Background()).Err(); err != nil {
				t.Fatal(err)
			}
			return 0
		},
		"resynchronised": func(t *testing.T, r *rig) int { // as a replica of an empty server, for a while
			other := testredis.StartT(t, "--repl-diskless-sync-delay", "0")
			dst := r.servers[1].Client()
			if err := dst.ReplicaOf(context.Background(), "127.0.0.1", strconv.Itoa(other.Port)).Err(); err != nil {
				t.Fatal(err)
			}
			r.await("the replica to be in step", func() bool {
				return strings.Contains(dst.Info(context.Background(), "replication").Val(), "master_link_status:up")
			})
			if err := dst.ReplicaOf(context.Background(), "NO", "ONE").Err(); err != nil {
				t.Fatal(err)
			}
			return 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, c := forgetful(t, n)
			r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "300")
			r.awaitMoved(200)
			kept := forget(t, r)
			given, lost := r.awaitForgotten("target-forgot")
			src := keysAt(t, r.servers[0])
			if given+src != n {
				t.Errorf("%d keys are said to be given up, and %d are at the source: %d are %d", given, src, n, given+src)
			}
			if lost > given || lost < given-kept {
				t.Errorf("up to %d of %d keys are said to be lost, %d are there", lost, given, kept)
			}
			if again := keysAt(t, r.servers[0]); again != src {
				t.Errorf("the source has given up %d keys more", src-again)
			}
			r.unlimited()
			r.proxy("MIGRATION", "RESUME", "m1")
			r.awaitDone()
			if there := keysAt(t, r.servers[1]); there != src+kept {
				t.Errorf("%d keys are at the target in the end, want %d and the %d that it had kept", there, src, kept)
			}
			for i := range n {
				if v, err := c.Get(context.Background(), fmt.Sprintf("k%d", i)).Int(); err != redis.Nil && (err != nil || v != i) {
					t.Errorf("k%d is %d, %v", i, v, err)
				}
			}
			if names := r.servers[1].Client().Keys(context.Background(), router.ReservedPrefix+"*").Val(); len(slices.DeleteFunc(names, func(n string) bool { return n == router.StampKey })) > 0 {
				t.Errorf("of the gateway's own are left: %q", names)
			}
		})
	}
}

// TestForgettingAtTheWorstMoment restarts the target at places where nobody would look at it again:
// when the proof stands and only the flip is missing, with the reply to RESTORE in hand and before
// UNLINK, and while an operator has paused the job.
func TestForgettingAtTheWorstMoment(t *testing.T) {
	const n = 60
	t.Run("before the flip", func(t *testing.T) {
		g := newGate(t)
		r, _ := forgetful(t, n)
		r.kill()
		r.start(g.at("job.flip.before"))
		r.proxy("MIGRATE", "0-16383", "TO", "g2")
		r.await("the flip", func() bool { return strings.Contains(r.log.String(), "failpoint job.flip.before") })
		restart(t, r.servers[1])
		g.open()
		if given, lost := r.awaitForgotten("target-forgot"); given != n || lost != n {
			t.Errorf("%d given up, %d lost, want all %d", given, lost, n)
		}
	})
	t.Run("before UNLINK", func(t *testing.T) {
		g := newGate(t)
		r, c := forgetful(t, n)
		r.kill()
		r.start(g.at("move.unlink.before") + "@3")
		r.proxy("MIGRATE", "0-16383", "TO", "g2", "PARALLEL", "1")
		r.await("UNLINK", func() bool { return strings.Contains(r.log.String(), "failpoint move.unlink.before") })
		restart(t, r.servers[1])
		r.await("the restart to be noticed", func() bool { return strings.Contains(r.log.String(), "does not have all") })
		g.open()
		given, _ := r.awaitForgotten("target-forgot")
		if src := keysAt(t, r.servers[0]); given+src != n || given > 2*8 {
			t.Errorf("%d given up, %d at the source: the third batch was not to be given up", given, src)
		}
		for i := range n { // what the source has is served
			if v, err := c.Get(context.Background(), fmt.Sprintf("k%d", i)).Int(); err != redis.Nil && (err != nil || v != i) {
				t.Errorf("k%d is %d, %v", i, v, err)
			}
		}
	})
	t.Run("while paused", func(t *testing.T) {
		r, _ := forgetful(t, n)
		r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "20")
		r.awaitMoved(10)
		r.proxy("MIGRATION", "PAUSE", "m1")
		restart(t, r.servers[1])
		r.unlimited()
		r.proxy("MIGRATION", "RESUME", "m1")
		given, lost := r.awaitForgotten("target-forgot")
		if src := keysAt(t, r.servers[0]); given+src != n || lost != given {
			t.Errorf("%d given up, %d lost, %d at the source", given, lost, src)
		}
		r.proxy("MIGRATION", "CANCEL", "m1", "REVERT")
		r.await("the job to be reverted", func() bool { return r.job().Phase == topology.Reverted })
		if src := keysAt(t, r.servers[0]); given+src != n {
			t.Errorf("%d keys are at the source after the revert, %d were given up", src, given)
		}
	})
}

// TestForgettingWithoutTheGateway: target and gateway are gone at once. With all that it was given
// the job goes on by itself (TestTargetAwayAtRestart); without, it says so.
func TestForgettingWithoutTheGateway(t *testing.T) {
	const n = 200
	r, _ := forgetful(t, n, "--set", "migration.checkpoint-every=100ms")
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "60")
	r.awaitMoved(70)
	r.kill()
	restart(t, r.servers[1])
	r.start("")
	r.await("the job to pause", func() bool { j := r.job(); return j.Phase == topology.Paused || j.Phase.Ended() })
	if j := r.job(); j.Reason != "target-forgot" || !strings.Contains(j.FirstError.Text, "before the gateway started") {
		t.Errorf("the job is %s: %+v", j.Phase, j.FirstError)
	}
}

// TestSourceThatForgetsOnTheWayBack is the same in the other direction.
func TestSourceThatForgetsOnTheWayBack(t *testing.T) {
	const n = 400
	r, _ := forgetful(t, n)
	r.proxy("MIGRATE", "0-16383", "TO", "g2")
	r.await("much to have moved", func() bool { return r.job().KeysMoved > n/2 || r.job().Phase.Ended() })
	r.proxy("MIGRATION", "PAUSE", "m1")
	r.proxy("MIGRATION", "LIMIT", "m1", "RATE", "50")
	r.proxy("MIGRATION", "CANCEL", "m1", "REVERT")
	r.await("some keys to be back", func() bool { j := r.job(); return j.Back && j.KeysMoved > j.MovedForth+20 })
	restart(t, r.servers[0])
	r.awaitForgotten("source-forgot")
}

// TestOldSnapshotIsNotBelieved: what a target brings back from before the job is never taken for a key
// that the source still has.
func TestOldSnapshotIsNotBelieved(t *testing.T) {
	const n = 300
	ctx := context.Background()
	r, c := forgetful(t, n)
	dst := r.servers[1].Client()
	for i := range n { // another age
		if err := dst.Set(ctx, fmt.Sprintf("k%d", i), "old", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := dst.Save(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if err := dst.FlushAll(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "100")
	r.awaitMoved(40)
	restart(t, r.servers[1])
	given, _ := r.awaitForgotten("target-forgot")
	r.unlimited()
	r.proxy("MIGRATION", "RESUME", "m1")
	r.awaitDone()
	fresh := 0
	for i := range n {
		switch v := c.Get(ctx, fmt.Sprintf("k%d", i)).Val(); v {
		case strconv.Itoa(i):
			fresh++
		case "old":
		default:
			t.Errorf("k%d is %q", i, v)
		}
	}
	if fresh != n-given {
		t.Errorf("%d keys have the value that they had, want the %d that had not been given up", fresh, n-given)
	}
}

// TestDryrunTellsOfATargetThatWillForget: by what it keeps on disk.
func TestDryrunTellsOfATargetThatWillForget(t *testing.T) {
	r, _ := forgetful(t, 1)
	dst := r.servers[1].Client()
	for _, c := range []struct {
		setting, value string
		severity       preflight.Severity
		says           string
	}{
		{"save", "", preflight.Warning, "keeps nothing on disk"},
		{"save", "3600 1", preflight.Info, "snapshots only (save 3600 1)"},
		{"appendonly", "yes", "", ""},
	} {
		if err := dst.ConfigSet(context.Background(), c.setting, c.value).Err(); err != nil {
			t.Fatal(err)
		}
		var got preflight.Finding
		for _, f := range r.dryrun("0-16383", "TO", "g2")[0].Findings {
			if f.What == "persistence" {
				got = f
			}
		}
		if got.Severity != c.severity || !strings.Contains(got.Text, c.says) {
			t.Errorf("%s %q: %+v", c.setting, c.value, got)
		}
	}
}

// TestTargetThatLoadsItsData: a target that can't tell yet what it has is waited for, and not taken for one that
// has forgotten.
func TestTargetThatLoadsItsData(t *testing.T) {
	servers := []*testredis.Server{testredis.StartT(t), testredis.StartT(t, "--appendonly", "yes", "--appendfsync", "always")}
	way := newFault(t, servers[1].Addr)
	bare := testrig.Bare(t, "--set", "migration.batch-max-keys=8", "--set", "migration.backoff-min=10ms")
	bare.Servers = servers
	bare.Start("")
	bare.Proxy("GROUP", "ADD", "g1", servers[0].Addr)
	bare.Proxy("GROUP", "ADD", "g2", way.addr())
	bare.Proxy("SLOT", "ASSIGN", "0-16383", "g1")
	r := wrap(bare)
	r.fill(300, 10)
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "100")
	r.awaitMoved(50)
	if err := r.servers[1].Kill(); err != nil {
		t.Fatal(err)
	}
	way.set(func(f *fault) {
		f.onRequest = func(args []string) (string, bool) {
			if isCommand(args, "GET") {
				return "-LOADING Redis is loading the dataset in memory\r\n", false
			}
			return "", false
		}
	})
	if err := r.servers[1].Restart(); err != nil {
		t.Fatal(err)
	}
	r.await("the job to hear of it", func() bool {
		j := r.job()
		return j.Phase == topology.Paused || j.ErrorCounts["target LOADING"] > 0
	})
	way.set(func(f *fault) { f.onRequest = nil })
	r.unlimited()
	r.awaitDone()
	for _, e := range r.history("m1") {
		if e.Event == "target-forgot" {
			t.Errorf("%+v", e)
		}
	}
}
