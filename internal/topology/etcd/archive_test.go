package etcd

import (
	"testing"

	"keyferry/internal/topology"
	"keyferry/internal/topology/bolt"
	"keyferry/internal/topology/storetest"
)

// TestArchive copies to and fro between both kinds of stores.
func TestArchive(t *testing.T) {
	here := func() topology.Archive { return open(t, options(t)) }
	files := func() topology.Archive {
		s, err := bolt.Open(t.TempDir())
		must(t, err)
		return s
	}
	t.Run("to files", func(t *testing.T) { t.Parallel(); storetest.Archive(t, here, files) })
	t.Run("from files", func(t *testing.T) { t.Parallel(); storetest.Archive(t, files, here) })
}

// TestLargeArchive: a copy has as many requests as it needs, and comes in as many pages.
func TestLargeArchive(t *testing.T) {
	t.Parallel()
	c := topology.Contents{State: storetest.Sample(t)}
	c.State.Revision, c.State.Epoch = 9, 9
	for i := range 2*exportKeys + 5 {
		c.Events = append(c.Events, topology.JobEvent{Job: "m1", Seq: uint64(i + 1), Reason: string(make([]byte, 400))})
	}
	s := open(t, options(t))
	must(t, s.Import(t.Context(), c))
	got, err := s.Export(t.Context())
	must(t, err)
	if len(got.Events) != len(c.Events) || got.Events[len(got.Events)-1].Seq != uint64(len(c.Events)) {
		t.Errorf("%d events, want %d", len(got.Events), len(c.Events))
	}
}
