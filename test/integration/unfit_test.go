package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
	"keyferry/internal/topology"
)

// unfit is what a dry run finds that is fatal.
func (r *rig) unfit() string {
	r.t.Helper()
	var out []string
	for _, f := range r.dryrun("0-16383", "TO", "g2")[0].Findings {
		if f.Severity == "error" {
			out = append(out, fmt.Sprintf("%s of %s: %s — %s", f.What, f.Where, f.Text, f.Advice))
		}
	}
	return strings.Join(out, "; ")
}

// TestUnfitServersAreNamed: a server in cluster mode is no matter of rights, and a command that was
// renamed none of passwords.
func TestUnfitServersAreNamed(t *testing.T) {
	source := testredis.StartT(t)
	for _, c := range []struct {
		name, what, says, advice string
		atAdd                    string // what GROUP ADD says; "": it does not ask for that
		args                     []string
	}{
		{"cluster mode", "cluster", "cluster-enabled yes", "cluster-enabled no", "runs in cluster mode", []string{"--cluster-enabled", "yes"}},
		{"CLIENT renamed", "commands", "unknown command", "rename-command", "rename-command", []string{"--rename-command", "CLIENT", "secretclient"}},
		{"SELECT renamed", "commands", "unknown command", "rename-command", "rename-command", []string{"--rename-command", "SELECT", ""}},
		{"RESTORE renamed", "commands", "unknown command", "rename-command", "", []string{"--rename-command", "RESTORE", "secretrestore"}},
		{"a user without CLIENT", "acl", "NOPERM", "ACL SETUSER", "is no server that a group can have", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			target, err := testredis.Start(testredis.Options{Args: c.args})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = target.Stop() })
			if c.args == nil {
				if err := target.Client().Do(context.Background(), "ACL", "SETUSER", "default", "-client").Err(); err != nil {
					t.Fatal(err)
				}
			}
			source.Client().Del(context.Background(), topology.StampKey) // of the gateway before
			r := wrap(testrig.With(t, []*testredis.Server{source}))
			_, err = r.proxyErr("GROUP", "ADD", "g2", target.Addr)
			switch {
			case c.atAdd == "" && err == nil:
				r.proxy("GROUP", "DEL", "g2")
			case c.atAdd == "" || err == nil || !strings.Contains(err.Error(), c.atAdd) || strings.Contains(err.Error(), "password"):
				t.Errorf("GROUP ADD: %v", err)
			}
			r.proxy("GROUP", "ADD", "g2", target.Addr, "UNCHECKED")
			found := r.unfit()
			if !strings.HasPrefix(found, c.what+" of g2") || !strings.Contains(found, c.says) || !strings.Contains(found, c.advice) || strings.Contains(found, "password") {
				t.Errorf("the dry run: %s", found)
			}
		})
	}
}

// TestDrainOfAFullDisk: a source that can't write its disk refuses a job's UNLINK as every write. The
// finding says how its keys can be moved away all the same, and the job goes on by itself then.
func TestDrainOfAFullDisk(t *testing.T) {
	ctx := context.Background()
	r := wrap(testrig.With(t, []*testredis.Server{testredis.StartT(t, "--enable-protected-configs", "yes"), testredis.StartT(t)}, "--set", "migration.backoff-min=50ms", "--set", "migration.backoff-max=200ms"))
	const keys = 200
	r.fill(keys, 10)
	source := r.servers[0].Client()
	full := filepath.Join(t.TempDir(), "full") // a snapshot can't be renamed to a directory
	if err := os.MkdirAll(filepath.Join(full, "dump.rdb", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range [][]any{{"CONFIG", "SET", "dir", full}, {"CONFIG", "SET", "save", "3600 1"}, {"BGSAVE"}} {
		if err := source.Do(ctx, cmd...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	r.await("the source to refuse writes", func() bool {
		return strings.HasPrefix(fmt.Sprint(source.Set(ctx, "x", "y", time.Minute).Err()), "MISCONF")
	})
	if found := r.unfit(); !strings.HasPrefix(found, "disk of g1") || !strings.Contains(found, "MISCONF") || !strings.Contains(found, "stop-writes-on-bgsave-error no") || strings.Contains(found, "ACL") {
		t.Errorf("the dry run: %s", found)
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g2")
	r.await("the job to wait", func() bool { return r.job().Attempt > 1 })
	if j := r.job(); j.Phase == topology.Failed || !strings.Contains(j.Advice, "stop-writes-on-bgsave-error no") {
		t.Errorf("the job is %s, its advice %q", j.Phase, j.Advice)
	}
	if err := source.ConfigSet(ctx, "stop-writes-on-bgsave-error", "no").Err(); err != nil {
		t.Fatal(err)
	}
	r.awaitDone()
	if n := testrig.KeysAt(t, r.servers[1]); n < keys {
		t.Errorf("%d keys are at the target, of %d", n, keys)
	}
}
