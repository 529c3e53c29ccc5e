package bolt

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyferry/internal/topology"
)

// served is a data directory with a cluster and a job in it, closed, and its State.
func served(t *testing.T) (dir string, st topology.State) {
	t.Helper()
	dir = t.TempDir()
	s := openBolt(t, dir)
	st = topology.NewState("redis", 16384, 16)
	must(t, topology.Create(t.Context(), s, st))
	st, err := topology.Update(t.Context(), s, func(st *topology.State) error {
		for i := range 40 {
			if err := st.AddGroup(topology.Group{ID: fmt.Sprintf("group%d", i), Endpoint: topology.Endpoint{Addr: fmt.Sprintf("10.0.0.%d:6379", i)}}); err != nil {
				return err
			}
			if err := st.AssignSlots(topology.Range{First: i * 400, Last: i*400 + 399}, fmt.Sprintf("group%d", i)); err != nil {
				return err
			}
		}
		_, err := st.AddJob(topology.Job{JobRequest: topology.JobRequest{Source: "group1", Target: "group2", Slots: []topology.Range{{First: 400, Last: 410}}},
			JobProgress: topology.JobProgress{Phase: topology.Queued}})
		return err
	})
	must(t, err)
	must(t, s.SaveCheckpoint(t.Context(), topology.Checkpoint{Job: "m1", Cursor: 7}))
	must(t, s.Close())
	return dir, st
}

// openAs opens a directory and reads its State, as a gateway that starts does.
func openAs(dir string) (st topology.State, err error) {
	s, err := Open(dir)
	if err != nil {
		return st, err
	}
	defer s.Close()
	if err := s.Lost(context.Background()); err != nil {
		return st, err
	}
	return s.Load(context.Background())
}

// TestLostState: a data directory that has lost its topology.db, or what was in it, is not taken for a new
// one, and the error says what to do.
func TestLostState(t *testing.T) {
	for name, lose := range map[string]func(path string) error{
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"missing": os.Remove,
		"made anew": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return makeFile(path, stateBucket, jobBucket)
		},
		"half": func(path string) error { return os.Truncate(path, 9000) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := served(t)
			must(t, lose(filepath.Join(dir, "topology.db")))
			if _, err := openAs(dir); err == nil || !strings.Contains(err.Error(), "topology.db") || !strings.Contains(err.Error(), "put the newest sound copy") {
				t.Errorf("%v", err)
			}
		})
	}
	dir := t.TempDir() // of a process that died at its first start
	must(t, os.WriteFile(filepath.Join(dir, "topology.db.new"), []byte("half"), 0o600))
	if _, err := openAs(dir); err != topology.ErrNotFound {
		t.Errorf("a new directory: %v", err)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 2 {
		t.Errorf("the directory has %q", names)
	}
}

// TestDamagedState: whatever is changed in the file, what is read is what was stored, or an error.
func TestDamagedState(t *testing.T) {
	dir, want := served(t)
	path := filepath.Join(dir, "topology.db")
	whole, err := os.ReadFile(path)
	must(t, err)
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	try := func(what string, b []byte) (taken bool) {
		t.Helper()
		must(t, os.WriteFile(path, b, 0o600))
		st, err := openAs(dir)
		if err == nil && !cmp.Equal(st, want) {
			t.Errorf("%s: another State is taken:\n%s", what, cmp.Diff(want, st))
		}
		return err == nil
	}
	// What is in the values: a group's name and address, owners of slots, the revision, a job.
	for _, x := range [][2]string{{`"10.0.0.7:6379"`, `"10.0.0.8:6379"`}, {`"first":400,`, `"first":401,`}, {`"last":799`, `"last":798`},
		{`"revision":2`, `"revision":3`}, {`"group":"group9"`, `"group":"group8"`}, {`"queued"`, `"paused"`}, {`"next_job":2`, `"next_job":1`}} {
		b := bytes.ReplaceAll(whole, []byte(x[0]), []byte(x[1]))
		if bytes.Equal(b, whole) {
			t.Fatalf("the file has no %s", x[0])
		}
		if try(fmt.Sprint(x), b) {
			t.Errorf("%s for %s is taken", x[1], x[0])
		}
	}
	for page := range 2 { // one of them is the newest head, and bbolt would take the other
		b := bytes.Clone(whole)
		clear(b[page*os.Getpagesize():][:80])
		try(fmt.Sprint("head page ", page), b)
	}
	refused := 0
	const tries = 150
	for i := range tries {
		b := bytes.Clone(whole)
		at := rng.IntN(len(b))
		for k := at; k < min(at+1<<rng.IntN(10), len(b)); k++ {
			b[k] = byte(rng.Uint32())
		}
		if !try(fmt.Sprintf("seed %d, damage %d at %d", seed, i, at), b) {
			refused++
		}
	}
	t.Logf("%d of %d damaged files are refused, the others are read as they were", refused, tries)
}

// TestOlderState: a copy of topology.db from before is refused, as long as there is the other file to tell.
func TestOlderState(t *testing.T) {
	dir, want := served(t)
	path := filepath.Join(dir, "topology.db")
	older, err := os.ReadFile(path)
	must(t, err)
	s := openBolt(t, dir)
	_, err = topology.Update(t.Context(), s, func(st *topology.State) error {
		return st.UnassignSlots([]topology.Range{{First: 800, Last: 900}})
	})
	must(t, err)
	must(t, s.Close())
	must(t, os.WriteFile(path, older, 0o600))
	if _, err := openAs(dir); err == nil || !strings.Contains(err.Error(), "older than what this gateway has served") || !strings.Contains(err.Error(), "remove checkpoints.db") {
		t.Errorf("%v", err)
	}
	must(t, os.Remove(filepath.Join(dir, "checkpoints.db"))) // as it says
	if st, err := openAs(dir); err != nil || !cmp.Equal(st, want) {
		t.Errorf("%v", err)
	}
}

// TestTruncatedCheckpoints: at any length the file is made anew, and the State is as it was.
func TestTruncatedCheckpoints(t *testing.T) {
	dir, want := served(t)
	path := filepath.Join(dir, "checkpoints.db")
	whole, err := os.ReadFile(path)
	must(t, err)
	for n := 0; n < len(whole); n += 1000 {
		must(t, os.WriteFile(path, whole[:n], 0o600))
		st, err := openAs(dir)
		if err != nil || !cmp.Equal(st, want) {
			t.Errorf("cut off at %d of %d: %v", n, len(whole), err)
		}
	}
}

// TestUnsummedState: what a version before checksums wrote is read, and has one from then on.
func TestUnsummedState(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/format1.json")
	must(t, err)
	writeRaw(t, dir, text)
	_, err = openAs(dir)
	must(t, err)
	whole, err := os.ReadFile(filepath.Join(dir, "topology.db"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "topology.db"), bytes.ReplaceAll(whole, []byte(`"sum":"`), []byte(`"sun":"`)), 0o600))
	before, err := openAs(dir)
	must(t, err)
	whole, err = os.ReadFile(filepath.Join(dir, "topology.db"))
	must(t, err)
	if !bytes.Contains(whole, []byte(`"sum":"`)) || before.Revision != 35 {
		t.Errorf("revision %d, and no checksum", before.Revision)
	}
}
