package control

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"keyferry/internal/topology"
	"keyferry/internal/topology/bolt"
	"keyferry/router"
	"keyferry/slotlock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeMigrator notes what it is asked and told.
type fakeMigrator struct {
	mu       sync.Mutex
	asked    []string // jobs whose lock table was asked for
	followed uint64   // revision
	routed   uint64   // revision
	drains   int      // calls of Routed with a channel
	refuse   error    // of CheckPrimary
	ctx      context.Context
	waited   bool
}

func (f *fakeMigrator) Begin(ctx context.Context) { f.ctx = ctx }

func (f *fakeMigrator) LocksOf(m topology.Move) (*slotlock.Table, *slotlock.Whole) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, m.Job)
	return slotlock.New(slotlock.Options{}), nil
}

func (f *fakeMigrator) Follow(st topology.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followed = st.Revision
}

func (f *fakeMigrator) Routed(st topology.State, drained <-chan struct{}) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.routed = st.Revision
	if drained != nil {
		f.drains++
	}
	return nil
}

func (f *fakeMigrator) CheckPrimary(context.Context, topology.Group, []topology.Group) error {
	return f.refuse
}

func (f *fakeMigrator) CheckOwner(context.Context, topology.Group) error { return f.refuse }

func (f *fakeMigrator) Claim(context.Context, topology.Group, bool) error { return f.refuse }

func (f *fakeMigrator) Disclaim(context.Context, topology.Group) {}

func (f *fakeMigrator) Unserved(context.Context, topology.Group) (string, error) { return "", f.refuse }

func (f *fakeMigrator) Wait() {
	<-f.ctx.Done() // whoever waits has ended it first
	f.waited = true
}

func (f *fakeMigrator) asks() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

// rig is a control plane that runs, with all tables that it has published.
type rig struct {
	*Control
	store    topology.Store
	migrator *fakeMigrator
	stop     func() error

	mu        sync.Mutex
	published []*router.Table
	fail      error // of the next publish
}

func (r *rig) publish(_ context.Context, t *router.Table) (<-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.published = append(r.published, t)
	return make(chan struct{}), r.fail
}

func (r *rig) epochs() (out []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.published {
		out = append(out, t.Epoch)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func begin(t *testing.T) *rig {
	t.Helper()
	store, err := bolt.Open(t.TempDir())
	must(t, err)
	ctl, err := Open(t.Context(), store, Member{Gateway: topology.Gateway{Name: "gw"}}, topology.NewState("codis", 1024, 16))
	must(t, err)
	r := &rig{Control: ctl, store: store, migrator: &fakeMigrator{}}
	table, err := ctl.Attach(r.migrator)
	must(t, err)
	if table.Epoch != 2 || ctl.Table() != table { // 1: created; 2: the gateway
		t.Fatalf("the first table has epoch %d", table.Epoch)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ctl.Run(ctx, r.publish) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		err := <-ended
		_ = store.Close()
		return err
	})
	t.Cleanup(func() { _ = r.stop() })
	must(t, ctl.AwaitEpoch(t.Context(), 2)) // or the first table could be that of the first change
	return r
}

// submit stores a job of ten slots and gives its id.
func (r *rig) submit(t *testing.T) (id string) {
	t.Helper()
	_, err := topology.Update(t.Context(), r.store, func(st *topology.State) (err error) {
		id, err = st.AddJob(topology.Job{JobRequest: topology.JobRequest{Source: "a", Target: "b", Slots: []topology.Range{{First: 0, Last: 9}}},
			JobProgress: topology.JobProgress{Phase: topology.Queued}})
		return err
	})
	must(t, err)
	return id
}

// step stores a phase of a job, and waits until the control plane has seen it.
func (r *rig) step(t *testing.T, id string, p topology.JobProgress) {
	t.Helper()
	st, err := topology.Update(t.Context(), r.store, func(st *topology.State) error {
		j := st.Job(id).Clone()
		j.JobProgress = p
		return st.PutJob(j)
	})
	must(t, err)
	must(t, r.Await(t.Context(), func() bool { return r.Revision() >= st.Revision }))
	must(t, r.AwaitEpoch(t.Context(), st.Epoch))
}

func groups(t *testing.T, r *rig) {
	t.Helper()
	must(t, r.AddGroup(t.Context(), topology.Group{ID: "a", Endpoint: topology.Endpoint{Addr: "h:1"}}, false, false))
	must(t, r.AddGroup(t.Context(), topology.Group{ID: "b", Endpoint: topology.Endpoint{Addr: "h:2"}}, false, false))
	must(t, r.AssignSlots(t.Context(), []topology.Range{{First: 0, Last: 99}, {First: 200, Last: 299}}, "a", false))
}

// TestOnlyRoutesArePublished: a change is over when the loops route by it, and what a job does
// between its beginning and its end is no table.
func TestOnlyRoutesArePublished(t *testing.T) {
	r := begin(t)
	groups(t, r)
	id := r.submit(t)
	r.step(t, id, topology.JobProgress{Phase: topology.Preflight})
	if got := r.epochs(); len(got) != 4 || got[3] != 5 || r.Epoch() != 5 { // the first, two groups, slots
		t.Fatalf("published %v, acknowledged %d", got, r.Epoch())
	}
	r.step(t, id, topology.JobProgress{Phase: topology.Preparing, Published: true})
	asked := r.migrator.asks()
	for range 10 {
		r.step(t, id, topology.JobProgress{Phase: topology.Backoff, ResumeTo: topology.Bulk, Published: true})
		r.step(t, id, topology.JobProgress{Phase: topology.Bulk, Published: true})
	}
	if got := r.epochs(); len(got) != 5 || got[4] != 6 || r.Epoch() != 6 || r.Revision() != 27+1 {
		t.Errorf("published %v, acknowledged %d, revision %d", got, r.Epoch(), r.Revision())
	}
	if x := r.Table().Slots[5]; x.Target < 0 || len(r.Table().Jobs) != 1 {
		t.Errorf("slot 5: %+v", x)
	}
	must(t, r.Await(t.Context(), func() bool {
		r.migrator.mu.Lock()
		defer r.migrator.mu.Unlock()
		return r.migrator.followed == r.Revision()
	}))
	if n := r.migrator.asks(); n != asked {
		t.Errorf("lock tables were asked for %d times without a new epoch", n-asked)
	}
	if err := r.stop(); !errors.Is(err, context.Canceled) || !r.migrator.waited {
		t.Errorf("Run: %v; waited for the migrator: %v", err, r.migrator.waited)
	}
	if f := r.migrator; f.routed != r.Revision() || f.drains != 5 {
		t.Errorf("the migrator was told of revision %d of %d, and %d times of a table", f.routed, r.Revision(), f.drains)
	}
}

// TestLookingMakesNothing: EXPLAIN of a slot whose job is published, but which this gateway
// has not heard of, gives what the loops do now, and makes no lock table for it: that would
// be another than the loops get.
func TestLookingMakesNothing(t *testing.T) {
	store, err := bolt.Open(t.TempDir())
	must(t, err)
	defer store.Close()
	ctl, err := Open(t.Context(), store, Member{Gateway: topology.Gateway{Name: "gw"}}, topology.NewState("codis", 1024, 16))
	must(t, err)
	f := &fakeMigrator{}
	_, err = ctl.Attach(f)
	must(t, err)
	_, err = topology.Update(t.Context(), store, func(st *topology.State) error {
		for id, addr := range map[string]string{"a": "h:1", "b": "h:2"} {
			if err := st.AddGroup(topology.Group{ID: id, Endpoint: topology.Endpoint{Addr: addr}}); err != nil {
				return err
			}
		}
		if err := st.AssignSlots(topology.Range{First: 0, Last: 1023}, "a"); err != nil {
			return err
		}
		id, err := st.AddJob(topology.Job{JobRequest: topology.JobRequest{Source: "a", Target: "b", Slots: []topology.Range{{First: 0, Last: 1023}}},
			JobProgress: topology.JobProgress{Phase: topology.Queued}})
		if err != nil {
			return err
		}
		j := st.Job(id).Clone()
		j.Phase, j.Published = topology.Preparing, true
		return st.PutJob(j)
	})
	must(t, err)
	// What Run has seen and not built yet is as far as anybody who looks can be ahead.
	st, err := store.Load(t.Context())
	must(t, err)
	ctl.tell(func() { ctl.state = st })
	for range 3 {
		if x := ctl.Table().Explain([][]byte{[]byte("GET"), []byte("k")}); x.Outcome != "unserved" {
			t.Errorf("explained as %s", x.Outcome)
		}
	}
	if len(f.asked) != 0 {
		t.Errorf("looking has lock tables made for %v", f.asked)
	}
	table, err := ctl.build(ctl.State().Topology)
	must(t, err)
	if len(f.asked) != 1 || len(table.Jobs) != 1 {
		t.Errorf("a table of one move asks for %v", f.asked)
	}
}

// TestSetGroup: an address is taken when its server says that it is a primary.
func TestSetGroup(t *testing.T) {
	r := begin(t)
	groups(t, r)
	addr, taken := "h:3", "h:2"
	r.migrator.refuse = errors.New("it is a replica")
	for want, id := range map[string]string{`no such group "x"`: "x", "group a was not changed: it is a replica": "a"} {
		if err := r.SetGroup(t.Context(), id, &addr, nil, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	r.migrator.refuse = nil
	if err := r.SetGroup(t.Context(), "a", &taken, nil, false); err == nil || !strings.Contains(err.Error(), "is that of group b") {
		t.Errorf("%v", err)
	}
	must(t, r.SetGroup(t.Context(), "a", &addr, nil, false))
	if g := r.Table().Groups[0]; g.Addr != addr {
		t.Errorf("routed to %s", g.Addr)
	}
	if _, err := r.DelGroup(t.Context(), "a", false); err == nil {
		t.Error("a group with slots was removed")
	}
	if err := r.AssignSlots(t.Context(), []topology.Range{{First: 500, Last: 501}, {First: 0, Last: 1}}, "b", false); err == nil {
		t.Error("slots of another group were assigned")
	}
	if st := r.State(); topology.CountSlots(st.SlotsOf("b")) != 0 {
		t.Errorf("b has %v", st.SlotsOf("b"))
	}
	_, err := r.DelGroup(t.Context(), "b", false)
	must(t, err)
}

// TestRunEndsWithPublish: a data plane that fails ends the control plane, and with it all that
// the migrator runs.
func TestRunEndsWithPublish(t *testing.T) {
	store, err := bolt.Open(t.TempDir())
	must(t, err)
	defer store.Close()
	ctl, err := Open(t.Context(), store, Member{Gateway: topology.Gateway{Name: "gw"}}, topology.NewState("codis", 1024, 16))
	must(t, err)
	r := &rig{Control: ctl, migrator: &fakeMigrator{}, fail: errors.New("no loop answers")}
	_, err = ctl.Attach(r.migrator)
	must(t, err)
	if err := ctl.Run(t.Context(), r.publish); !errors.Is(err, r.fail) || !r.migrator.waited || ctl.Epoch() != 0 {
		t.Errorf("Run: %v, epoch %d acknowledged", err, ctl.Epoch())
	}
}

// TestIncarnations: each start is a new one, of the same cluster.
func TestIncarnations(t *testing.T) {
	store, err := bolt.Open(t.TempDir())
	must(t, err)
	defer store.Close()
	id := ""
	for n := uint64(1); n <= 3; n++ {
		ctl, err := Open(t.Context(), store, Member{Gateway: topology.Gateway{Name: "gw"}}, topology.NewState("codis", 1024, 16))
		must(t, err)
		if st := ctl.State(); ctl.Incarnation() != n || id != "" && st.ClusterID != id {
			t.Errorf("incarnation %d of cluster %s, want %d of %s", ctl.Incarnation(), st.ClusterID, n, id)
		}
		id = ctl.State().ClusterID
	}
}
