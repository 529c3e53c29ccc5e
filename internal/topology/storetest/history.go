package storetest

import (
	"errors"
	"fmt"
	"testing"

	"keyferry/internal/topology"
)

// testHistory: events come back in order, each job's own, bounded, also after a restart.
func testHistory(t *testing.T, open func() topology.Store) {
	ctx := t.Context()
	s := open()
	if list, err := s.Events(ctx, "m1"); err != nil || len(list) != 0 {
		t.Fatalf("events of a job without any: %v, %v", list, err)
	}
	if err := s.AppendEvent(ctx, topology.JobEvent{}); !errors.Is(err, topology.ErrInvalid) {
		t.Errorf("an event without a job: %v", err)
	}
	const n = topology.MaxJobEvents + 7
	for i := range n {
		must(t, s.AppendEvent(ctx, topology.JobEvent{Job: "m1", Event: fmt.Sprint(i), Error: &topology.JobError{Code: "OOM"}}))
	}
	must(t, s.AppendEvent(ctx, topology.JobEvent{Job: "m10", Event: "other"}))
	must(t, s.Close())
	s = opened(t, open)
	list, err := s.Events(ctx, "m1")
	must(t, err)
	if len(list) != topology.MaxJobEvents {
		t.Fatalf("%d events are kept, want %d", len(list), topology.MaxJobEvents)
	}
	for i, e := range list {
		if want := n - topology.MaxJobEvents + i; e.Event != fmt.Sprint(want) || e.Seq != uint64(want+1) || e.Error.Code != "OOM" {
			t.Fatalf("event %d is %+v, want number %d", i, e, want)
		}
	}
	must(t, s.DropEvents(ctx, "m1"))
	must(t, s.DropEvents(ctx, "m1"))
	if list, err := s.Events(ctx, "m1"); err != nil || len(list) != 0 {
		t.Errorf("after DropEvents: %v, %v", list, err)
	}
	if list, err := s.Events(ctx, "m10"); err != nil || len(list) != 1 {
		t.Errorf("the other job's events: %v, %v", list, err)
	}
}
