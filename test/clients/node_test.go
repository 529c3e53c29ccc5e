package clients

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testrig"
)

// TestIORedis: the Redis and the Cluster of ioredis.
func TestIORedis(t *testing.T) { nodeTest(t, "ioredis.js") }

// TestBullMQ: queues of jobs, with all that BullMQ has. Their names have a hash tag, as in
// a cluster, since its scripts use all keys of a queue.
func TestBullMQ(t *testing.T) { nodeTest(t, "bullmq.js") }

// nodeTest runs a script of node/ while slots move.
func nodeTest(t *testing.T, script string) {
	dir := nodeDir(t)
	r := newRig(t)
	ballast(t, r, 5000)
	stop := r.KeepMoving()
	t.Logf("%s", runScript(t, r, dir, "node", script))
	t.Logf("%d migrations", stop())
	r.PlacesRight()
}

// runScript runs a script that is told host, port and seconds. It says on its output what
// it did, and complains otherwise.
func runScript(t *testing.T, r *testrig.Rig, dir string, argv ...string) string {
	t.Helper()
	host, port, _ := strings.Cut(r.Listen, ":")
	cmd := exec.Command(argv[0], append(argv[1:], host, port, fmt.Sprint(runFor.Seconds()))...)
	cmd.Dir = dir
	var out, errs testrig.Log
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hung := time.AfterFunc(*runFor+2*cliBound, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	hung.Stop()
	if err != nil {
		t.Errorf("%v: %v\n%s", argv, err, testrig.Tail(errs.String(), 6000))
	} else if errs.String() != "" {
		t.Errorf("%v complains:\n%s", argv, testrig.Tail(errs.String(), 6000))
	}
	return out.String()
}

// nodeDir is a directory with the scripts and the modules of package-lock.json. The modules
// are installed once for each lock file, into the user's cache.
func nodeDir(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			notTested(t, "%v", err)
		}
	}
	lock, err := os.ReadFile("node/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(lock)
	modules := filepath.Join(cache, "keyferry", "node-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(modules); err != nil {
		if err := install(modules); err != nil {
			notTested(t, "%v", err)
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("node")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(modules, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	var versions struct{ Dependencies map[string]string }
	text, err := os.ReadFile("node/package.json")
	if err == nil {
		err = json.Unmarshal(text, &versions)
	}
	t.Logf("%v, %v", versions.Dependencies, err)
	return dir
}

// install makes the directory with its modules appear at once, so that one which is there
// is whole.
func install(modules string) error {
	if err := os.MkdirAll(filepath.Dir(modules), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(modules), "install-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join("node", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(tmp, name), text, 0o644)
		}
		if err != nil {
			return err
		}
	}
	// As npm ci, this takes the versions of the lock file and checks its digests. npm ci also
	// wants there what is optional, native code for each platform, and not every registry has
	// that.
	cmd := exec.Command("npm", "install", "--no-save", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm install: %w\n%s", err, testrig.Tail(string(out), 2000))
	}
	return os.Rename(tmp, modules)
}
