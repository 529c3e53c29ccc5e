package bolt

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"keyferry/internal/topology"
)

// writeRaw makes a topology.db that holds just this text under the key "cluster", as
// versions before format 2 did.
func writeRaw(t *testing.T, dir string, text []byte) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "topology.db"), 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("state"))
		if err != nil {
			return err
		}
		return b.Put([]byte("cluster"), text)
	}))
	must(t, db.Close())
}

// TestConvert opens what the version before wrote: testdata/format1.json is its State with
// a job in each place that routing cares about.
func TestConvert(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/format1.json")
	must(t, err)
	writeRaw(t, dir, text)
	var first topology.State
	for range 2 { // the second time it is in the present form
		s := openBolt(t, dir)
		st, err := s.Load(t.Context())
		must(t, err)
		must(t, s.Close())
		must(t, st.Validate())
		if first.Revision > 0 {
			if d := cmp.Diff(first, st); d != "" {
				t.Fatalf("opened once more:\n%s", d)
			}
		}
		first = st
	}
	if first.Revision != 35 || first.Epoch != 35 || first.NextJob != 12 || len(first.Jobs) != 11 || first.Jobs[9].ID != "m10" {
		t.Errorf("revision %d, epoch %d, next job %d, %d jobs", first.Revision, first.Epoch, first.NextJob, len(first.Jobs))
	}
	move := func(job string, slot int, m topology.Move) topology.Move {
		m.Job, m.Slots, m.Source, m.Target = job, []topology.Range{{First: slot, Last: slot + 3}}, "a", "b"
		return m
	}
	want := []topology.Move{
		move("m1", 0, topology.Move{From: 13, To: 28}),
		move("m2", 10, topology.Move{From: 16, Back: true, TurnedAt: 30, To: 31}),
		move("m3", 20, topology.Move{From: 19, Back: true, TurnedAt: 33}),
		move("m4", 30, topology.Move{From: 22}),
		move("m10", 90, topology.Move{From: 25}),
	}
	if d := cmp.Diff(want, first.Moves); d != "" {
		t.Errorf("moves: want (-), got (+):\n%s", d)
	}
	j := first.Job("m3")
	if j.Phase != topology.Backoff || j.ResumeTo != topology.Reverting || !j.Back || j.Attempt != 1 || j.LastError.Text != "y" || j.RateKeysPerS != 100 {
		t.Errorf("m3: %+v", j)
	}
}

// TestConvertedGoesOn: what was converted takes changes.
func TestConvertedGoesOn(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/format1.json")
	must(t, err)
	writeRaw(t, dir, text)
	s := openBolt(t, dir)
	defer s.Close()
	st, err := topology.Update(context.Background(), s, func(st *topology.State) error {
		j := st.Job("m4").Clone()
		j.Phase, j.Published = topology.Done, false
		if err := st.PutJob(j); err != nil {
			return err
		}
		return st.FlipJob("m4")
	})
	must(t, err)
	if owner, _ := st.OwnerOf(30); owner != "b" || st.Epoch != 36 || st.Revision != 36 {
		t.Errorf("slot 30 at %s, epoch %d, revision %d", owner, st.Epoch, st.Revision)
	}
}

// TestNewerFormat: a file of a later version is not touched, and neither is one that an
// earlier version could not read either.
func TestNewerFormat(t *testing.T) {
	for text, want := range map[string]string{
		`{"format":3,"revision":9}`: "written by a newer keyferry",
		`{"epoch":"x"}`:             "stored state",
	} {
		dir := t.TempDir()
		writeRaw(t, dir, []byte(text))
		if s, err := Open(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", text, s, err)
		}
		db, err := bbolt.Open(filepath.Join(dir, "topology.db"), 0o600, nil)
		must(t, err)
		must(t, db.View(func(tx *bbolt.Tx) error {
			if got := string(tx.Bucket(stateBucket).Get(headKey)); got != text {
				t.Errorf("%s has become %s", text, got)
			}
			return nil
		}))
		must(t, db.Close())
	}
}
