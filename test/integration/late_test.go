package integration

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
)

// late keeps back the first request of a name about a filled key until it is let go; those of
// other connections pass meanwhile.
type late struct {
	r    *rig
	held chan struct{} // closed when there is one
	let  chan struct{} // closed to let it go
	at   *testredis.Server
	once sync.Once
}

func (r *rig) hold(f *fault, at *testredis.Server, command string) *late {
	l := &late{r: r, held: make(chan struct{}), let: make(chan struct{}), at: at}
	var one atomic.Bool
	f.set(func(f *fault) {
		f.onRequest = func(args []string) (string, bool) {
			if isCommand(args, command) && len(args) > 1 && strings.HasPrefix(args[1], "fill:") {
				if one.CompareAndSwap(false, true) {
					close(l.held)
					<-l.let
				}
			}
			return "", false
		}
	})
	r.t.Cleanup(l.release)
	return l
}

func (l *late) await() {
	l.r.t.Helper()
	l.r.await("the request that is to be late", func() bool {
		select {
		case <-l.held:
			return true
		default:
			return false
		}
	})
}

func (l *late) release() { l.once.Do(func() { close(l.let) }) }

// arrive lets it go, and waits until its connection has ended: it has been executed, or never
// will be. It is one of those that gatewayConns gave when it had been held.
func (l *late) arrive(before map[string]bool) {
	l.r.t.Helper()
	l.release()
	l.r.await("its connection to end", func() bool {
		for id := range gatewayConns(l.r.t, l.at) {
			if before[id] {
				return false
			}
		}
		return true
	})
}

// ofMigrator finds the migrator's connections by their names; see migrator/link.
var ofMigrator = regexp.MustCompile(` name=keyferry:[^: ]+:\d+:[mc]\d+ `)

// gatewayConns are the ids of the migrator's connections at a server that have looked at keys
// last.
func gatewayConns(t *testing.T, s *testredis.Server) map[string]bool {
	t.Helper()
	text, err := s.Client().ClientList(context.Background()).Result()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for line := range strings.Lines(text) {
		if ofMigrator.MatchString(line) && (strings.Contains(line, " cmd=scan ") || strings.Contains(line, " cmd=exists ") || strings.Contains(line, " cmd=dump ")) {
			out[strings.Fields(line)[0]] = true
		}
	}
	return out
}

// TestLateDeletions: an UNLINK of PURGE, or of SLOT CHECK FIX, gets no answer and arrives at its
// server much later, when a job has brought keys of these names there. It deletes nothing.
func TestLateDeletions(t *testing.T) {
	ctx := context.Background()
	const keys = 50
	for _, what := range []string{"purge", "fix"} {
		t.Run(what, func(t *testing.T) {
			r, faults := newFaultyRig(t, 2, "--set", "migration.call-timeout=1s", "--set", "migration.max-attempts=0", "--set", "migration.backoff-max=300ms")
			r.fill(keys, 10)
			for i := range keys {
				if err := r.servers[1].Client().Set(ctx, fmt.Sprintf("fill:%d", i), "garbage", 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			l := r.hold(faults[1], r.servers[1], "unlink")
			if what == "fix" {
				for held := false; !held; { // a busy machine may have it fail before that
					if _, err := r.proxyErr("SLOT", "CHECK", "FIX"); err == nil {
						t.Fatal("an UNLINK without an answer is no error")
					}
					select {
					case <-l.held:
						held = true
					default:
					}
				}
			} else {
				r.proxy("MIGRATE", "0-16383", "TO", "g2", "PURGE", keys)
			}
			l.await()
			before := gatewayConns(t, r.servers[1])
			if what == "fix" {
				r.proxy("MIGRATE", "0-16383", "TO", "g2", "PURGE", keys)
			}
			r.awaitDone()
			l.arrive(before)
			c := r.client()
			for i := range keys {
				if v, err := c.Get(ctx, fmt.Sprintf("fill:%d", i)).Result(); err != nil || v != strings.Repeat("x", 10) {
					t.Errorf("fill:%d: %q, %v", i, v, err)
				}
			}
		})
	}
}

// TestRestartUnderAnotherName: a RESTORE of a gateway that was killed arrives when the gateway
// runs again, under another name, as one does whose name is that of its container. It does not
// bring back what has been deleted since.
func TestRestartUnderAnotherName(t *testing.T) {
	ctx := context.Background()
	r, faults := newFaultyRig(t, 2, "--set", "migration.call-timeout=60s", "--set", "migration.batch-max-keys=1", "--set", "migration.parallel=1", "--name", "first")
	r.fill(1, 10)
	l := r.hold(faults[1], r.servers[1], "restore")
	r.proxy("MIGRATE", "0-16383", "TO", "g2")
	l.await()
	before := map[string]bool{}
	text := r.servers[1].Client().ClientList(ctx).Val()
	for line := range strings.Lines(text) {
		if strings.Contains(line, " name=keyferry:first:") {
			before[strings.Fields(line)[0]] = true
		}
	}
	r.kill()
	r.Args = append(r.Args, "--name", "second")
	r.start("")
	r.awaitDone()
	c := r.client()
	if n, err := c.Del(ctx, "fill:0").Result(); n != 1 || err != nil {
		t.Fatalf("DEL: %d, %v", n, err)
	}
	l.release()
	r.await("the connections of the first gateway to end", func() bool {
		for line := range strings.Lines(r.servers[1].Client().ClientList(ctx).Val()) {
			if before[strings.Fields(line)[0]] {
				return false
			}
		}
		return true
	})
	if n := c.Exists(ctx, "fill:0").Val(); n != 0 {
		t.Error("a deleted key is back")
	}
}

// TestOrphansOfOneServer: two groups that are one server, by two addresses, or a primary and
// its replica. SLOT CHECK FIX would take every key for an orphan with a twin.
func TestOrphansOfOneServer(t *testing.T) {
	ctx := context.Background()
	const keys = 20
	a := testredis.StartT(t)
	r := wrap(testrig.With(t, []*testredis.Server{a}))
	r.fill(keys, 10)
	refused := func(why string) {
		t.Helper()
		for _, fix := range [][]any{{}, {"FIX"}, {"FIX", "DROP"}, {"FIX", "ADOPT"}} {
			if _, err := r.proxyErr(append([]any{"SLOT", "CHECK"}, fix...)...); err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("SLOT CHECK %v: %v, want %q", fix, err, why)
			}
		}
		if n := testrig.KeysAt(t, a); n != keys {
			t.Fatalf("%d keys are left of %d", n, keys)
		}
	}
	r.proxy("GROUP", "ADD", "alias", newFault(t, a.Addr).addr(), "UNCHECKED")
	refused("are the same server")
	r.proxy("GROUP", "DEL", "alias")
	replica := testredis.StartT(t, "--replica-read-only", "no")
	if err := replica.Client().Do(ctx, "REPLICAOF", "127.0.0.1", a.Port).Err(); err != nil {
		t.Fatal(err)
	}
	r.await("the replica", func() bool { return testrig.KeysAt(t, replica) == keys })
	r.proxy("GROUP", "ADD", "copy", replica.Addr, "UNCHECKED")
	refused("must be its primary")
	if n := testrig.KeysAt(t, replica); n != keys {
		t.Errorf("%d keys are left of %d at the replica", n, keys)
	}
}

// TestAdoptedKeysExpire: an orphan that expires while it is being adopted is not adopted for good.
func TestAdoptedKeysExpire(t *testing.T) {
	ctx := context.Background()
	r, faults := newFaultyRig(t, 2)
	orphan := r.servers[1].Client()
	if err := orphan.Set(ctx, "orphan", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := orphan.PExpire(ctx, "orphan", 1000e9).Err(); err != nil {
		t.Fatal(err)
	}
	asked := 0
	faults[1].set(func(f *fault) {
		f.onRequest = func(args []string) (string, bool) {
			if isCommand(args, "dump") || isCommand(args, "pexpiretime") {
				if asked++; asked == 2 { // between the two it expires
					if err := orphan.Del(ctx, "orphan").Err(); err != nil {
						t.Error(err)
					}
				}
			}
			return "", false
		}
	})
	r.proxy("SLOT", "CHECK", "FIX", "ADOPT")
	if asked < 2 {
		t.Fatalf("asked %d times about the orphan", asked)
	}
	for i, s := range r.servers {
		if n := s.Client().Exists(ctx, "orphan").Val(); n != 0 {
			t.Errorf("g%d has the key, for %v", i+1, s.Client().PTTL(ctx, "orphan").Val())
		}
	}
}
