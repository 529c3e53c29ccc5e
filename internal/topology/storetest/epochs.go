package storetest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyferry/internal/topology"
)

// testEpochs: what a job does is a new revision; only what requests are routed by is a new
// epoch. A step of the job and what it does to routing are stored as one.
func testEpochs(t *testing.T, open func() topology.Store) {
	s, _ := created(t, open)
	ch := s.Watch(t.Context())
	receive(t, ch)
	var id string
	for i, c := range []struct {
		what   string
		change func(*topology.State) error
		epoch  uint64
	}{
		{"submit", func(st *topology.State) (err error) {
			id, err = st.AddJob(topology.Job{JobRequest: topology.JobRequest{Slots: []topology.Range{{First: 0, Last: 9}}, Source: "a", Target: "b"}, JobProgress: topology.JobProgress{Phase: topology.Queued}})
			return err
		}, 1},
		{"a phase", putJob(&id, topology.Job{JobProgress: topology.JobProgress{Phase: topology.Preflight}}), 1},
		{"an attempt", putJob(&id, topology.Job{JobProgress: topology.JobProgress{Phase: topology.Backoff, ResumeTo: topology.Preflight}, JobTrouble: topology.JobTrouble{Attempt: 1, LastError: &topology.JobError{Text: "x"}}}), 1},
		{"publish", putJob(&id, topology.Job{JobProgress: topology.JobProgress{Phase: topology.Preparing, Published: true}}), 2},
		{"a phase of a published job", putJob(&id, topology.Job{JobProgress: topology.JobProgress{Phase: topology.Bulk, Published: true}}), 2},
		{"revert", putJob(&id, topology.Job{JobProgress: topology.JobProgress{Phase: topology.Reverting, Published: true}}), 2},
		{"turn", putJob(&id, topology.Job{JobProgress: topology.JobProgress{Phase: topology.Reverting, Published: true, Back: true}}), 3},
		{"end", putJob(&id, topology.Job{JobProgress: topology.JobProgress{Phase: topology.Reverted, Back: true}}), 4},
		{"slots that are its own", func(st *topology.State) error { return st.AssignSlots(topology.Range{First: 0, Last: 3}, "a") }, 4},
		{"a group", func(st *topology.State) error {
			return st.AddGroup(topology.Group{ID: "c", Endpoint: topology.Endpoint{Addr: "127.0.0.1:7003"}})
		}, 5},
	} {
		got, err := topology.Update(t.Context(), s, c.change)
		must(t, err)
		if want := uint64(i + 2); got.Revision != want || got.Epoch != c.epoch {
			t.Errorf("%s: revision %d, epoch %d, want %d and %d", c.what, got.Revision, got.Epoch, want, c.epoch)
		}
		loaded, err := s.Load(t.Context())
		must(t, err)
		if d := cmp.Diff(got, loaded); d != "" {
			t.Errorf("%s: stored (-) and loaded (+):\n%s", c.what, d)
		}
		if seen, _ := receive(t, ch); seen.Revision != got.Revision {
			t.Errorf("%s: the watch has revision %d", c.what, seen.Revision)
		}
	}
}

// putJob makes the job as j says, but for what it was asked.
func putJob(id *string, j topology.Job) func(*topology.State) error {
	return func(st *topology.State) error {
		j.ID, j.Slots, j.Source, j.Target = *id, []topology.Range{{First: 0, Last: 9}}, "a", "b"
		return st.PutJob(j)
	}
}

// testManyJobs: jobs come back in the order of their creation, and those that are forgotten
// do not come back.
func testManyJobs(t *testing.T, open func() topology.Store) {
	s := open()
	must(t, topology.Create(t.Context(), s, Sample(t)))
	var want topology.State
	for range topology.MaxEndedJobs + 12 {
		var err error
		want, err = topology.Update(t.Context(), s, func(st *topology.State) error {
			id, err := st.AddJob(topology.Job{JobRequest: topology.JobRequest{Slots: []topology.Range{{First: 0, Last: 9}}, Source: "a", Target: "b"}, JobProgress: topology.JobProgress{Phase: topology.Queued}})
			if err != nil {
				return err
			}
			return putJob(&id, topology.Job{JobProgress: topology.JobProgress{Phase: topology.Cancelled}})(st)
		})
		must(t, err)
	}
	must(t, s.Close())
	got, err := opened(t, open).Load(t.Context())
	must(t, err)
	if d := cmp.Diff(want, got); d != "" || len(got.Jobs) != topology.MaxEndedJobs || got.Jobs[0].ID != "m13" {
		t.Errorf("%d jobs from %s on; stored (-) and loaded (+):\n%s", len(got.Jobs), got.Jobs[0].ID, d)
	}
}
