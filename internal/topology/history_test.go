package topology

import (
	"errors"
	"fmt"
	"testing"
)

// testHistory: events come back in order, each job's own, bounded, also after a restart.
func testHistory(t *testing.T, open func() Store) {
	ctx := t.Context()
	s := open()
	if list, err := s.Events(ctx, "m1"); err != nil || len(list) != 0 {
		t.Fatalf("events of a job without any: %v, %v", list, err)
	}
	if err := s.AppendEvent(ctx, JobEvent{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("an event without a job: %v", err)
	}
	const n = MaxJobEvents + 7
	for i := range n {
		must(t, s.AppendEvent(ctx, JobEvent{Job: "m1", Event: fmt.Sprint(i), Error: &JobError{Code: "OOM"}}))
	}
	must(t, s.AppendEvent(ctx, JobEvent{Job: "m10", Event: "other"}))
	must(t, s.Close())
	s = opened(t, open)
	list, err := s.Events(ctx, "m1")
	must(t, err)
	if len(list) != MaxJobEvents {
		t.Fatalf("%d events are kept, want %d", len(list), MaxJobEvents)
	}
	for i, e := range list {
		if want := n - MaxJobEvents + i; e.Event != fmt.Sprint(want) || e.Seq != uint64(want+1) || e.Error.Code != "OOM" {
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
