package job

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"keyferry/internal/topology"
)

// possible are the events that can come from the job itself in its phase.
func possible(j topology.Job) []Event {
	err := &topology.JobError{Origin: "target", Code: "IO", Text: "lost"}
	fail := []Event{{Kind: Failure, Err: err}, {Kind: Failure, Err: err, Progress: true}, {Kind: Hopeless, Err: err}}
	switch j.Phase {
	case topology.Queued:
		return []Event{{Kind: Start}}
	case topology.Preflight:
		return append(fail, Event{Kind: Checked, RunID: "r"}, Event{Kind: Counted})
	case topology.Preparing:
		return append(fail, Event{Kind: Acked})
	case topology.Bulk, topology.Tail, topology.Verifying:
		events := append(fail, Event{Kind: TargetFull, Err: err}, Event{Kind: PassEnd}, Event{Kind: PassEnd, Found: 3})
		if j.Phase == topology.Verifying {
			events = append(events, Event{Kind: Verified})
		} else {
			events = append(events, Event{Kind: SliceEnd})
		}
		return events
	case topology.Reverting:
		if j.Back && !j.Onward {
			return append(fail, Event{Kind: TargetFull, Err: err}, Event{Kind: SliceEnd}, Event{Kind: Home})
		}
		return append(fail, Event{Kind: Reversed, RunID: "b"})
	case topology.Backoff:
		return []Event{{Kind: Due}}
	case topology.Paused:
		if WaitsForRoom(&j) {
			return []Event{{Kind: Room}}
		}
		if j.Reason == ReasonSlice {
			return []Event{{Kind: SliceBegin}}
		}
	}
	return nil
}

// TestRandomSequences: whatever operators do in whatever order, a job is always in a state
// that can be stored, an operator is never left with one that nothing leads out of, and an
// end is an end: S2.2, on the machine.
func TestRandomSequences(t *testing.T) {
	const sequences, steps = 1000, 200
	for seed := range uint64(sequences) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		j := topology.Job{ID: "m1", JobRequest: topology.JobRequest{Source: "a", Target: "b", Slots: []topology.Range{{First: 0, Last: 9}}, MaxAttempts: 5}, JobProgress: topology.JobProgress{Phase: topology.Queued}}
		var said []string
		for range steps {
			events := possible(j)
			operator := []Event{{Kind: PauseBy}, {Kind: ResumeBy}, {Kind: ResumeBy, Forward: true}, {Kind: CancelBy, Clean: rnd.IntN(20) == 0}, {Kind: CancelBy, Revert: rnd.IntN(3) == 0}, {Kind: LimitBy, Limits: &Limits{}},
				{Kind: LimitBy, Limits: &Limits{Slice: &topology.Slice{Work: time.Second, Rest: time.Duration(rnd.IntN(3)) * time.Second}}}, {Kind: LimitBy, Limits: &Limits{Slice: &topology.Slice{}}}}
			var ev Event
			if len(events) == 0 || rnd.IntN(5) == 0 {
				ev = operator[rnd.IntN(len(operator))]
			} else {
				ev = events[rnd.IntN(len(events))]
			}
			ev.AtMs = 1_700_000_000_000
			before := j
			next, err := Step(j, ev)
			said = append(said, fmt.Sprintf("%s: %s → %s (%v)", ev.Kind, before.Phase, next.Phase, err))
			if err != nil {
				continue
			}
			if before.Phase.Ended() {
				t.Fatalf("seed %d: an ended job took an event:\n%s", seed, strings.Join(said, "\n"))
			}
			j = next
			if err := stored(j); err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(said, "\n"))
			}
			if err := owned(j); err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(said, "\n"))
			}
		}
		// Left to itself, and resumed where an operator must, it ends.
		for n := 0; !j.Phase.Ended(); n++ {
			if n > 50 {
				t.Fatalf("seed %d: it does not end:\n%s", seed, strings.Join(said, "\n"))
			}
			events := possible(j)
			ev := Event{Kind: ResumeBy}
			for _, e := range events {
				if e.Err == nil && e.Found == 0 && e.Kind != SliceEnd {
					ev = e
				}
			}
			next, err := Step(j, ev)
			if err != nil {
				t.Fatalf("seed %d: %s in %s: %v", seed, ev.Kind, j.Phase, err)
			}
			j = next
		}
		for _, kind := range []EventKind{PauseBy, ResumeBy, CancelBy, LimitBy} {
			if next, err := Step(j, Event{Kind: kind, Limits: &Limits{}}); err == nil || next.Phase != j.Phase {
				t.Fatalf("seed %d: %s of a job that is %s: %s, %v", seed, kind, j.Phase, next.Phase, err)
			}
		}
	}
}

// owned checks that what a phase owns is set in it and in no other: see become.go.
func owned(j topology.Job) error {
	interrupted := j.Phase == topology.Backoff || j.Phase == topology.Paused || j.Phase == topology.Failed
	for _, x := range []struct {
		field     string
		is, wants bool
	}{
		{"ResumeTo", j.ResumeTo != "", interrupted},
		{"Reason", j.Reason != "", j.Phase == topology.Paused || j.Phase == topology.Failed || j.Phase == topology.Cancelled},
		{"NextTryAtMs", j.NextTryAtMs != 0, j.Phase == topology.Backoff || Resting(&j)},
		{"EndedAtMs", j.EndedAtMs != 0, j.Phase == topology.Failed || j.Phase.Ended()},
	} {
		if x.is != x.wants {
			return fmt.Errorf("%s is set: %v, in phase %s", x.field, x.is, j.Phase)
		}
	}
	return nil
}

// stored checks the job as the Store will.
func stored(j topology.Job) error {
	st := topology.NewState("codis", 1024, 16)
	if err := st.AddGroup(topology.Group{ID: "a", Endpoint: topology.Endpoint{Addr: "h:1"}}); err != nil {
		return err
	}
	if err := st.AddGroup(topology.Group{ID: "b", Endpoint: topology.Endpoint{Addr: "h:2"}}); err != nil {
		return err
	}
	owner := j.Source
	if j.Phase == topology.Done {
		owner = j.Target
	}
	if err := st.AssignSlots(topology.Range{First: 0, Last: 9}, owner); err != nil {
		return err
	}
	st.Jobs, st.NextJob = []topology.Job{j}, 2
	if j.Published {
		m := topology.Move{Job: j.ID, Slots: j.Slots, Source: j.Source, Target: j.Target, From: 1, Back: j.Back}
		if j.Back {
			m.TurnedAt = 2
		}
		st.Moves = []topology.Move{m}
	}
	return st.Validate()
}
