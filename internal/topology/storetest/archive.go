package storetest

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyferry/internal/topology"
)

// Archive checks that what is copied from a store into another one is all of it, as it was. Both are opened
// at new places.
func Archive(t *testing.T, from, to func() topology.Archive) {
	ctx := t.Context()
	a, b := opened(t, func() topology.Store { return from() }).(topology.Archive), opened(t, func() topology.Store { return to() }).(topology.Archive)
	_, err := a.Export(ctx)
	wantErr(t, "nothing to export", err, topology.ErrNotFound)

	must(t, topology.Create(ctx, a, Sample(t)))
	for i := range 70 { // more than one page of jobs
		_, err := topology.Update(ctx, a, func(st *topology.State) error {
			id, err := st.AddJob(topology.Job{JobRequest: topology.JobRequest{Slots: []topology.Range{{First: 0, Last: 9}}, Source: "a", Target: "b"}, JobProgress: topology.JobProgress{Phase: topology.Queued}})
			if err != nil || i == 69 {
				return err
			}
			return putJob(&id, topology.Job{JobProgress: topology.JobProgress{Phase: topology.Cancelled}})(st)
		})
		must(t, err)
	}
	for i := range 3 {
		must(t, a.SaveCheckpoint(ctx, topology.Checkpoint{Job: fmt.Sprint("m70/", i), Cursor: 1<<63 + uint64(i), Target: "{}"}))
	}
	for i := range topology.MaxJobEvents + 7 { // so that the numbers do not begin with 1
		must(t, a.AppendEvent(ctx, topology.JobEvent{Job: "m70", Event: fmt.Sprint(i)}))
	}
	must(t, a.AppendEvent(ctx, topology.JobEvent{Job: "m7", Event: "x"}))

	must(t, b.SaveCheckpoint(ctx, topology.Checkpoint{Job: "left"})) // by a copy that was broken off
	must(t, b.AppendEvent(ctx, topology.JobEvent{Job: "m70", Event: "left"}))
	c, err := a.Export(ctx)
	must(t, err)
	if len(c.State.Jobs) != 70 || c.State.Revision != 71 || len(c.Checkpoints) != 3 || len(c.Events) != topology.MaxJobEvents+1 {
		t.Fatalf("%d jobs at revision %d, %d checkpoints, %d events", len(c.State.Jobs), c.State.Revision, len(c.Checkpoints), len(c.Events))
	}
	must(t, b.Import(ctx, c))
	got, err := b.Export(ctx)
	must(t, err)
	if d := cmp.Diff(c, got); d != "" {
		t.Errorf("exported (-) and, imported, exported again (+):\n%s", d)
	}
	if st, _ := receive(t, b.Watch(ctx)); st.Revision != 71 {
		t.Errorf("the watch has revision %d", st.Revision)
	}
	wantErr(t, "a second time", b.Import(ctx, c), topology.ErrConflict)
	wantErr(t, "into itself", a.Import(ctx, c), topology.ErrConflict)
	c.State.Slots[0].Group = "nobody"
	wantErr(t, "invalid", b.Import(ctx, c), topology.ErrInvalid)

	// It goes on from where it was.
	must(t, b.AppendEvent(ctx, topology.JobEvent{Job: "m70", Event: "after"}))
	list, err := b.Events(ctx, "m70")
	must(t, err)
	if last := list[len(list)-1]; len(list) != topology.MaxJobEvents || last.Seq != topology.MaxJobEvents+8 || last.Event != "after" {
		t.Errorf("%d events, the last is %+v", len(list), last)
	}
	st, err := topology.Update(ctx, b, func(st *topology.State) error {
		return st.AddGroup(topology.Group{ID: "c", Endpoint: topology.Endpoint{Addr: "127.0.0.1:7003"}})
	})
	must(t, err)
	if st.Revision != 72 || st.Epoch != got.State.Epoch+1 {
		t.Errorf("after a change: revision %d, epoch %d, and %d before", st.Revision, st.Epoch, got.State.Epoch)
	}
}
