// Package storetest checks that a store keeps what topology.Store promises. Each store's
// own tests call Contract.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyferry/internal/topology"
)

// Contract checks a store against topology.Store. fresh makes a new place to store into and
// returns what opens the store there; a place may be opened again after the Close of what
// opened it before.
func Contract(t *testing.T, fresh func(t *testing.T) (open func() topology.Store)) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, open func() topology.Store)
	}{
		{"empty", testEmpty},
		{"compare and set", testCompareAndSet},
		{"invalid", testInvalid},
		{"epochs", testEpochs},
		{"many jobs", testManyJobs},
		{"concurrent updates", testConcurrentUpdates},
		{"update", testUpdate},
		{"reopen", testReopen},
		{"watch", testWatch},
		{"watch coalesces", testWatchCoalesces},
		{"watch ends", testWatchEnds},
		{"watch under load", testWatchUnderLoad},
		{"checkpoints", testCheckpoints},
		{"history", testHistory},
		{"closed", testClosed},
		{"ended context", testEndedContext},
		{"values are the caller's own", testNoSharing},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // each has a place of its own
			c.test(t, fresh(t))
		})
	}
}

// opened opens a store for one test.
func opened(t *testing.T, open func() topology.Store) topology.Store {
	t.Helper()
	s := open()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// created opens a store and puts a small cluster into it, at revision 1 and epoch 1.
func created(t *testing.T, open func() topology.Store) (topology.Store, topology.State) {
	t.Helper()
	s := opened(t, open)
	must(t, topology.Create(t.Context(), s, Sample(t)))
	st, err := s.Load(t.Context())
	must(t, err)
	return s, st
}

// Sample is a cluster of two groups that own half of the slots each.
func Sample(t testing.TB) topology.State {
	t.Helper()
	st := topology.NewState("codis", 1024, 16)
	must(t, st.AddGroup(topology.Group{ID: "a", Endpoint: topology.Endpoint{Addr: "127.0.0.1:7001", Secret: topology.NewSecret("secret")}}))
	must(t, st.AddGroup(topology.Group{ID: "b", Endpoint: topology.Endpoint{Addr: "127.0.0.1:7002"}}))
	must(t, st.AssignSlots(topology.Range{First: 0, Last: 511}, "a"))
	must(t, st.AssignSlots(topology.Range{First: 512, Last: 1023}, "b"))
	return st
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got %v, want %v", what, err, want)
	}
}

// receive waits for one State; a test that hangs says where.
func receive(t *testing.T, ch <-chan topology.State) (topology.State, bool) {
	t.Helper()
	select {
	case s, ok := <-ch:
		return s, ok
	case <-time.After(time.Minute):
		t.Fatal("nothing came from the watch")
		return topology.State{}, false
	}
}

func testEmpty(t *testing.T, open func() topology.Store) {
	s := opened(t, open)
	_, err := s.Load(t.Context())
	wantErr(t, "Load", err, topology.ErrNotFound)
	_, err = topology.Update(t.Context(), s, func(*topology.State) error { return nil })
	wantErr(t, "Update", err, topology.ErrNotFound)
	first := Sample(t)
	old := first.Clone()
	old.Revision, old.Epoch = 7, 7
	wantErr(t, "a change of what is not there", s.CompareAndSet(t.Context(), old, withGateway(old)), topology.ErrConflict)

	ch := s.Watch(t.Context()) // says nothing until there is something
	must(t, topology.Create(t.Context(), s, first))
	if got, ok := receive(t, ch); !ok || got.Epoch != 1 || got.Revision != 1 {
		t.Fatalf("watch: epoch %d, %v", got.Epoch, ok)
	}
}

// withGateway is what follows st when a gateway starts: another revision and another epoch.
func withGateway(st topology.State) topology.State {
	next := st.Clone()
	next.Admit(topology.Gateway{Name: "gw"})
	next.Revision++
	next.Epoch++
	return next
}

func testCompareAndSet(t *testing.T, open func() topology.Store) {
	s, first := created(t, open)
	second := withGateway(first)
	wantErr(t, "create again", topology.Create(t.Context(), s, Sample(t)), topology.ErrConflict)
	must(t, s.CompareAndSet(t.Context(), first, second))
	wantErr(t, "old revision", s.CompareAndSet(t.Context(), first, second), topology.ErrConflict)
	got, err := s.Load(t.Context())
	must(t, err)
	if d := cmp.Diff(second, got); d != "" {
		t.Fatalf("stored (-) and loaded (+):\n%s", d)
	}
}

func testInvalid(t *testing.T, open func() topology.Store) {
	s, first := created(t, open)
	for name, spoil := range map[string]func(*topology.State){
		"the same revision":      func(st *topology.State) { st.Revision = 1 },
		"a revision left out":    func(st *topology.State) { st.Revision = 3 },
		"the same epoch":         func(st *topology.State) { st.Epoch = 1 },
		"an epoch left out":      func(st *topology.State) { st.Epoch = 3 },
		"another epoch, no news": func(st *topology.State) { st.Gateways = nil },
		"unknown group":          func(st *topology.State) { st.Slots[0].Group = "nobody" },
		"another cluster":        func(st *topology.State) { st.ClusterID = "another" },
	} {
		next := withGateway(first)
		spoil(&next)
		wantErr(t, name, s.CompareAndSet(t.Context(), first, next), topology.ErrInvalid)
	}
	got, err := s.Load(t.Context())
	must(t, err)
	if d := cmp.Diff(first, got); d != "" {
		t.Fatalf("a refused change left something:\n%s", d)
	}
}

// testConcurrentUpdates has 8 goroutines count in the State. A lost update would leave
// the count, or the epoch, behind the number of updates that returned without an error.
func testConcurrentUpdates(t *testing.T, open func() topology.Store) {
	const workers, each = 8, 25
	s, _ := created(t, open)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range each {
				if _, err := topology.Update(t.Context(), s, func(st *topology.State) error {
					st.Admit(topology.Gateway{Name: "counter"})
					st.Admit(topology.Gateway{Name: fmt.Sprintf("worker-%d", w)})
					return nil
				}); err != nil {
					t.Errorf("worker %d: %v", w, err)
					return
				}
			}
		})
	}
	wg.Wait()
	st, err := s.Load(t.Context())
	must(t, err)
	if st.Epoch != 1+workers*each {
		t.Errorf("epoch %d after 1 and %d updates", st.Epoch, workers*each)
	}
	for _, g := range st.Gateways {
		want := uint64(each)
		if g.Name == "counter" {
			want = workers * each
		}
		if g.Incarnation != want {
			t.Errorf("%s counted %d of %d", g.Name, g.Incarnation, want)
		}
	}
}

func testUpdate(t *testing.T, open func() topology.Store) {
	s, first := created(t, open)
	got, err := topology.Update(t.Context(), s, func(*topology.State) error { return fmt.Errorf("as it is: %w", topology.ErrUnchanged) })
	if err != nil || got.Epoch != 1 {
		t.Fatalf("unchanged: epoch %d, %v", got.Epoch, err)
	}
	mine := errors.New("mine")
	_, err = topology.Update(t.Context(), s, func(st *topology.State) error { st.Groups = nil; return mine })
	wantErr(t, "error of the change", err, mine)
	for name, change := range map[string]func(*topology.State){
		"id":     func(st *topology.State) { st.ClusterID = "another" },
		"scheme": func(st *topology.State) { *st = topology.NewState("redis", 16384, 16); st.ClusterID = first.ClusterID },
		"broken": func(st *topology.State) { st.Groups = nil },
	} {
		_, err = topology.Update(t.Context(), s, func(st *topology.State) error { change(st); return nil })
		wantErr(t, name, err, topology.ErrInvalid)
	}
	calls := 0
	got, err = topology.Update(t.Context(), s, func(st *topology.State) error {
		if calls++; calls == 1 { // somebody else is faster
			must(t, s.CompareAndSet(t.Context(), first, withGateway(first)))
		}
		st.Admit(topology.Gateway{Name: "mine"})
		return nil
	})
	must(t, err)
	if calls != 2 || got.Epoch != 3 || len(got.Gateways) != 2 {
		t.Fatalf("after a conflict: %d calls, epoch %d, gateways %v", calls, got.Epoch, got.Gateways)
	}
}

func testReopen(t *testing.T, open func() topology.Store) {
	s := open()
	st := Sample(t)
	_, err := st.AddJob(topology.Job{JobRequest: topology.JobRequest{Slots: []topology.Range{{First: 0, Last: 9}}, Source: "a", Target: "b"}, JobProgress: topology.JobProgress{Phase: topology.Queued}, JobTrouble: topology.JobTrouble{LastError: &topology.JobError{Text: "x"}}})
	must(t, err)
	must(t, topology.Create(t.Context(), s, st))
	must(t, s.SaveCheckpoint(t.Context(), topology.Checkpoint{Job: "m1", Cursor: 1 << 63}))
	must(t, s.Close())

	s = opened(t, open)
	got, err := s.Load(t.Context())
	must(t, err)
	st.Revision, st.Epoch, st.Past = 1, 1, got.Past
	if d := cmp.Diff(st, got); d != "" {
		t.Fatalf("stored (-) and loaded after reopening (+):\n%s", d)
	}
	if seen, ok := receive(t, s.Watch(t.Context())); !ok || seen.Epoch != 1 {
		t.Fatalf("watch after reopening: epoch %d, %v", seen.Epoch, ok)
	}
	c, ok, err := s.LoadCheckpoint(t.Context(), "m1")
	if err != nil || !ok || c.Cursor != 1<<63 {
		t.Fatalf("checkpoint after a clean close: %+v, %v, %v", c, ok, err)
	}
}

func testCheckpoints(t *testing.T, open func() topology.Store) {
	s := opened(t, open)
	ctx := t.Context()
	if c, ok, err := s.LoadCheckpoint(ctx, "m1"); ok || err != nil || c != (topology.Checkpoint{}) {
		t.Fatalf("none saved: %+v, %v, %v", c, ok, err)
	}
	must(t, s.DropCheckpoint(ctx, "m1"))
	one := topology.Checkpoint{Job: "m1", Pass: 2, DB: 3, Cursor: 1<<64 - 1, RunID: "r", KeysMoved: 4, BytesMoved: 5, SavedAtMs: 6}
	must(t, s.SaveCheckpoint(ctx, topology.Checkpoint{Job: "m1", Pass: 1}))
	must(t, s.SaveCheckpoint(ctx, one))
	must(t, s.SaveCheckpoint(ctx, topology.Checkpoint{Job: "m2"}))
	if c, ok, err := s.LoadCheckpoint(ctx, "m1"); !ok || err != nil || c != one {
		t.Fatalf("got %+v, %v, %v, want %+v", c, ok, err, one)
	}
	must(t, s.DropCheckpoint(ctx, "m1"))
	if _, ok, err := s.LoadCheckpoint(ctx, "m1"); ok || err != nil {
		t.Fatalf("dropped and still there (%v)", err)
	}
	if _, ok, err := s.LoadCheckpoint(ctx, "m2"); !ok || err != nil {
		t.Fatalf("another job's was dropped (%v)", err)
	}
	wantErr(t, "no job", s.SaveCheckpoint(ctx, topology.Checkpoint{}), topology.ErrInvalid)
	_, err := s.Load(ctx)
	wantErr(t, "checkpoints make no cluster", err, topology.ErrNotFound)
}

// calls is every call but Watch and Close.
func calls(s topology.Store, old, next topology.State) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Load":           func(ctx context.Context) error { _, err := s.Load(ctx); return err },
		"CompareAndSet":  func(ctx context.Context) error { return s.CompareAndSet(ctx, old, next) },
		"SaveCheckpoint": func(ctx context.Context) error { return s.SaveCheckpoint(ctx, topology.Checkpoint{Job: "m1"}) },
		"LoadCheckpoint": func(ctx context.Context) error { _, _, err := s.LoadCheckpoint(ctx, "m1"); return err },
		"AppendEvent":    func(ctx context.Context) error { return s.AppendEvent(ctx, topology.JobEvent{Job: "m1"}) },
		"DropEvents":     func(ctx context.Context) error { return s.DropEvents(ctx, "m1") },
		"Events": func(ctx context.Context) error {
			_, err := s.Events(ctx, "m1")
			return err
		},
		"DropCheckpoint": func(ctx context.Context) error { return s.DropCheckpoint(ctx, "m1") },
		"Update": func(ctx context.Context) error {
			_, err := topology.Update(ctx, s, func(*topology.State) error { return nil })
			return err
		},
	}
}

func testClosed(t *testing.T, open func() topology.Store) {
	s, old := created(t, open)
	next := withGateway(old)
	must(t, s.Close())
	for name, call := range calls(s, old, next) {
		wantErr(t, name, call(t.Context()), topology.ErrClosed)
	}
	must(t, s.Close())
}

func testEndedContext(t *testing.T, open func() topology.Store) {
	s, old := created(t, open)
	next := withGateway(old)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls(s, old, next) {
		wantErr(t, name, call(ctx), context.Canceled)
	}
	for range s.Watch(ctx) { // ends
	}
	if st, err := s.Load(t.Context()); err != nil || st.Epoch != 1 {
		t.Fatalf("epoch %d, %v: a change was stored after its context had ended", st.Epoch, err)
	}
}

// testNoSharing scribbles over everything that went in and came out.
func testNoSharing(t *testing.T, open func() topology.Store) {
	s, mine := created(t, open)
	want := mine.Clone()
	mine.Slots[0].Group = "scribble"
	for range 2 {
		for _, st := range []topology.State{
			func() topology.State { st, err := s.Load(t.Context()); must(t, err); return st }(),
			func() topology.State { st, _ := receive(t, s.Watch(t.Context())); return st }(),
		} {
			if d := cmp.Diff(want, st); d != "" {
				t.Fatalf("changed from outside:\n%s", d)
			}
			st.Slots[0].Group = "scribble"
		}
	}
}
