package bolt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"keyferry/internal/topology"
	"keyferry/internal/topology/storetest"
)

func TestBolt(t *testing.T) {
	storetest.Contract(t, func(t *testing.T) func() topology.Store {
		dir := t.TempDir()
		return func() topology.Store { return openBolt(t, dir) }
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openBolt(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	must(t, err)
	return s
}

func TestBoltFiles(t *testing.T) {
	dir := t.TempDir()
	s := openBolt(t, dir)
	for _, name := range []string{"topology.db", "checkpoints.db"} {
		info, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		if info.Mode().Perm() != 0o600 { // the groups' passwords are in there
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	// kill -9 leaves the page cache, so that no test here would miss an fsync.
	if s.db.NoSync || s.points.NoSync {
		t.Error("commits are not synced")
	}
	must(t, s.Close())

	_, err := Open(filepath.Join(dir, "missing"))
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}

func TestBoltLocked(t *testing.T) {
	dir := t.TempDir()
	s := openBolt(t, dir)
	before := time.Now()
	_, err := Open(dir)
	if !errors.Is(err, topology.ErrLocked) {
		t.Fatalf("second open: %v", err)
	}
	if took := time.Since(before); took > lockWait+time.Minute { // it does not wait for ever, however slow the machine
		t.Errorf("refused after %v", took)
	}
	must(t, s.Close())
	must(t, openBolt(t, dir).Close())
}

func TestBoltDamage(t *testing.T) {
	dir := t.TempDir()
	s := openBolt(t, dir)
	st := storetest.Sample(t)
	must(t, topology.Create(t.Context(), s, st))
	must(t, s.SaveCheckpoint(t.Context(), topology.Checkpoint{Job: "m1"}))
	must(t, s.Close())

	noise := make([]byte, 64<<10)
	must(t, os.WriteFile(filepath.Join(dir, "checkpoints.db"), noise, 0o600))
	s = openBolt(t, dir) // checkpoints begin anew, and work
	if _, ok, err := s.LoadCheckpoint(t.Context(), "m1"); ok || err != nil {
		t.Errorf("checkpoint out of a damaged file: %v, %v", ok, err)
	}
	must(t, s.SaveCheckpoint(t.Context(), topology.Checkpoint{Job: "m1"}))
	if got, err := s.Load(t.Context()); err != nil || got.Epoch != 1 {
		t.Errorf("epoch %d, %v", got.Epoch, err)
	}
	must(t, s.Close())

	path := filepath.Join(dir, "topology.db")
	must(t, os.WriteFile(path, noise, 0o600))
	if _, err := Open(dir); err == nil {
		t.Error("a damaged topology.State was opened")
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(noise) {
		t.Errorf("a damaged topology.State was touched (%v)", err)
	}
}

const crashDir = "KEYFERRY_TOPOLOGY_CRASH_DIR"

// TestBoltCrashChild is the process that TestBoltCrash kills: it changes the State as
// fast as it can and prints each epoch once that is acknowledged.
func TestBoltCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("only run by TestBoltCrash")
	}
	s := openBolt(t, dir)
	for {
		st, err := topology.Update(t.Context(), s, func(st *topology.State) error { st.Admit(topology.Gateway{Name: "child"}); return nil })
		must(t, err)
		fmt.Printf("acked %d\n", st.Epoch)
		// What is saved tells of itself whether it came back whole.
		must(t, s.SaveCheckpoint(t.Context(), topology.Checkpoint{Job: "m1", Cursor: st.Epoch, KeysMoved: int64(st.Epoch), RunID: strconv.FormatUint(st.Epoch, 10)}))
	}
}

func TestBoltCrash(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	s := openBolt(t, dir)
	st := storetest.Sample(t)
	must(t, topology.Create(t.Context(), s, st))
	must(t, s.Close())

	var total uint64
	for round := range 8 {
		acked := crash(t, dir, 5+rng.IntN(60))
		s := openBolt(t, dir)
		st, err := s.Load(t.Context())
		must(t, err)
		if st.Epoch < acked {
			t.Fatalf("round %d: epoch %d was acknowledged, %d is stored", round, acked, st.Epoch)
		}
		if want := st.Epoch - 1; len(st.Gateways) != 1 || st.Gateways[0].Incarnation != want {
			t.Fatalf("round %d: epoch %d with gateways %v, want incarnation %d", round, st.Epoch, st.Gateways, want)
		}
		must(t, st.Validate())
		c, ok, err := s.LoadCheckpoint(t.Context(), "m1")
		must(t, err)
		if ok && (c.KeysMoved != int64(c.Cursor) || c.RunID != strconv.FormatUint(c.Cursor, 10) || c.Cursor > st.Epoch) {
			t.Fatalf("round %d: checkpoint %+v at epoch %d", round, c, st.Epoch)
		}
		must(t, s.Close())
		total = st.Epoch
	}
	t.Logf("epoch %d after 8 kills", total)
}

// crash runs the child, kills it when it has acknowledged some changes, in the middle of
// the next, and returns the last epoch that it printed.
func crash(t *testing.T, dir string, changes int) (acked uint64) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBoltCrashChild$", "-test.count=1")
	child.Env = append(os.Environ(), crashDir+"="+dir)
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); {
		var epoch uint64
		if _, err := fmt.Sscanf(lines.Text(), "acked %d", &epoch); err != nil {
			t.Errorf("the child says %q", lines.Text())
			continue
		}
		acked = epoch
		if n++; n == changes {
			must(t, child.Process.Kill()) // SIGKILL; what was printed before is still read
		}
	}
	_ = child.Wait()
	if child.ProcessState.Success() || acked == 0 {
		t.Fatalf("the child ended by itself (%v) at epoch %d", child.ProcessState, acked)
	}
	return acked
}

// TestFailedCommitIsToldAsItIs: a disk that fails before or after the page that makes a commit
// valid, once or for good.
func TestFailedCommitIsToldAsItIs(t *testing.T) {
	ctx := context.Background()
	for _, x := range []struct {
		name          string
		written       bool   // the commit that fails is valid all the same
		failures      int    // of commits in a row
		text          string // "": it succeeds in the end
		stored, heard bool
	}{
		{"before it is valid", false, 1, "nothing has been stored", false, false},
		{"when it is valid, once", true, 1, "", true, true},
		{"when it is valid, and again", true, 2, "takes effect with the next change", true, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := t.TempDir()
			s := openBolt(t, dir)
			t.Cleanup(func() { _ = s.Close() })
			must(t, topology.Create(ctx, s, topology.State{Topology: topology.Topology{ClusterID: "c", Scheme: "redis", SlotCount: 16384, Databases: 16}}))
			watch := s.Watch(ctx)
			<-watch
			failures := x.failures
			s.commit = func(f func(*bbolt.Tx) error) error {
				if failures == 0 {
					return s.db.Update(f)
				}
				failures--
				err := s.db.Update(func(tx *bbolt.Tx) error {
					if err := f(tx); err != nil || x.written {
						return err
					}
					return syscall.EIO
				})
				return errors.Join(err, syscall.EIO)
			}
			add := func(id string) error {
				_, err := topology.Update(ctx, s, func(st *topology.State) error {
					return st.AddGroup(topology.Group{ID: id, Endpoint: topology.Endpoint{Addr: "10.0.0.1:" + id, Secret: topology.NewSecret("p")}})
				})
				return err
			}
			err := add("1")
			if (err == nil) != (x.text == "") || err != nil && (!strings.Contains(err.Error(), x.text) || !errors.Is(err, syscall.EIO)) {
				t.Errorf("it answers %v, want %q", err, x.text)
			}
			st, err := s.Load(ctx)
			must(t, err)
			if _, ok := st.Group("1"); ok != x.stored {
				t.Errorf("stored: %v, want %v", ok, x.stored)
			}
			heard := false
			select {
			case st = <-watch:
				_, heard = st.Group("1")
			default:
			}
			if heard != x.heard {
				t.Errorf("the watcher has heard: %v, want %v", heard, x.heard)
			}
			must(t, add("2"))
			st = <-watch
			if _, ok := st.Group("1"); ok != x.stored {
				t.Errorf("with the next change it is in force: %v, want %v", ok, x.stored)
			}
		})
	}
}
