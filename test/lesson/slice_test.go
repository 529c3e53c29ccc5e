package lesson

import (
	"context"
	"strings"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/migrator/job"
)

// restores counts the RESTOREs of filled keys that go to a server.
func (r *rig) restores(server int) func() int {
	n := make(chan int, 1)
	n <- 0
	r.links[server].SetTraps(faultproxy.Trap{Match: func(args [][]byte) bool {
		if faultproxy.Command("restore")(args) && isFill(args) {
			n <- <-n + 1
		}
		return false
	}})
	return func() int {
		v := <-n
		n <- v
		return v
	}
}

// calm demands that a job's history has no error and no try, and that its slices end and
// begin by turns, each with more done than the one before. It gives how many ended.
func (r *rig) calm(id string) (ends int) {
	r.T.Helper()
	begun, moved := true, int64(-1)
	for _, e := range r.History(id) {
		if e.Error != nil || e.Attempt != 0 || e.To == topology.Backoff || e.To == topology.Failed {
			r.T.Errorf("the end of a slice was an error: %+v", e)
		}
		switch e.Event {
		case "slice-end":
			ends++
			if !begun || e.To != topology.Paused || e.KeysMoved < moved {
				r.T.Errorf("slice ends out of turn, or with nothing done: %+v", e)
			}
			begun, moved = false, e.KeysMoved
		case "resume", "cancel": // during a rest
			begun = true
		case "slice-begin":
			if begun || e.From != topology.Paused {
				r.T.Errorf("slice begins out of turn: %+v", e)
			}
			begun = true
		}
	}
	return ends
}

// timeSlices: S4.1. A job with slices of a second comes to its end; each slice goes on where
// the one before had stopped, and the planned end of one is never an error.
func timeSlices(t *testing.T) {
	const n, size = 2000, 10
	r := newRig(t, 2, "migration.batch-max-keys=8", "migration.scan-count=50", "migration.stalled-after=30s")
	r.fill(n, size)
	sent := r.restores(1)
	// At this rate all keys take five seconds, on however fast a machine.
	id := r.Proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "400", "SLICE", "1s/300ms").(string)
	r.Await("a rest", func() bool { return strings.HasPrefix(r.Job().Throttle, "resting until ") || r.Job().Phase.Ended() })
	r.AwaitDone()
	j := r.Job()
	if j.Phase != topology.Done || j.FirstError != nil || j.LastError != nil || j.Attempt != 0 || len(j.ErrorCounts) != 0 || len(j.Attempts) != 0 {
		t.Errorf("in the end %s, attempt %d, errors %v, %v, %v", j.Phase, j.Attempt, j.FirstError, j.LastError, j.ErrorCounts)
	}
	if ends := r.calm(id); j.Slices < 2 || int64(ends) != j.Slices {
		t.Errorf("%d slices, %d in the history", j.Slices, ends)
	}
	if got := sent(); got != n {
		t.Errorf("%d RESTOREs of %d keys", got, n)
	}
	r.allThere(n, size)
}

// smallSlices: S4.1. A slice does something, however little time it has: one that is over
// before its first key has moved doesn't keep the job from its end. Live, slices are ended too.
func smallSlices(t *testing.T) {
	const n, size = 300, 10
	r := newRig(t, 2, "migration.batch-max-keys=4", "migration.scan-count=10", "migration.slice=100ms")
	r.fill(n, size)
	sent := r.restores(1)
	id := r.Proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "20").(string)
	r.Await("some slices", func() bool { return r.Job().Slices >= 5 })
	if j := r.Job(); j.Slice.String() != "100ms" || j.Phase == topology.Paused {
		t.Errorf("slices of %v, %s", j.Slice, j.Phase)
	}
	r.Proxy("MIGRATION", "LIMIT", id, "RATE", "60") // seconds more, of which a few slices are to be seen
	slices := r.Job().Slices
	r.Await("more of them", func() bool { return r.Job().Slices >= slices+3 || r.Job().Phase.Ended() })
	r.Proxy("MIGRATION", "LIMIT", id, "SLICE", "off", "RATE", "0")
	r.AwaitDone()
	if j := r.Job(); j.FirstError != nil || j.LastError != nil || len(j.ErrorCounts) != 0 {
		t.Errorf("errors %v, %v, %v", j.FirstError, j.LastError, j.ErrorCounts)
	}
	if got := sent(); got != n {
		t.Errorf("%d RESTOREs of %d keys", got, n)
	}
	r.allThere(n, size)
}

// longRest: S4.1. A job that rests for an hour is not stalled and says what it waits for;
// clients are served, also after the gateway was killed; and what an operator says is done.
func longRest(t *testing.T) {
	const n, size = 500, 10
	ctx := context.Background()
	r := newRig(t, 2, append(quick, "migration.batch-max-keys=4", "migration.scan-count=20", "migration.stalled-after=1s", patient)...)
	r.fill(n, size)
	sent := r.restores(1)
	resting := func() migrator.Status {
		t.Helper()
		var j migrator.Status
		r.Await("a rest", func() bool { j = r.Job(); return j.Phase == topology.Paused && j.Reason == job.ReasonSlice })
		return j
	}
	id := r.Proxy("MIGRATE", "0-16383", "TO", "g2", "SLICE", "100ms/1h", "RATE", "100").(string)
	first, since := resting(), time.Now()
	if first.Slices != 1 || !strings.HasPrefix(first.Throttle, "resting until ") || first.Advice != "" || first.KeysMoved == 0 || first.KeysMoved >= n {
		t.Errorf("resting: %d slices, %q, %q, %d keys", first.Slices, first.Throttle, first.Advice, first.KeysMoved)
	}
	r.must(r.Client().Set(ctx, fill(n), value(n, size), 0).Err())
	r.allRead(n+1, size)
	time.Sleep(time.Until(since.Add(1500 * time.Millisecond))) // a job that does not rest is stalled by now
	r.Kill()
	r.Start("")
	if j := resting(); j.Slices != 1 || j.NextTryAtMs != first.NextTryAtMs {
		t.Errorf("the rest has changed with the gateway: %d slices, until %d instead of %d", j.Slices, j.NextTryAtMs, first.NextTryAtMs)
	}
	r.allRead(20, size) // now on touch
	r.Proxy("MIGRATION", "PAUSE", id)
	if j := r.Job(); j.Reason != job.ReasonOperator {
		t.Errorf("after PAUSE: %s", j.Reason)
	}
	r.Proxy("MIGRATION", "RESUME", id)
	r.Await("the next rest", func() bool { return resting().Slices >= 2 })
	r.Proxy("MIGRATION", "LIMIT", id, "SLICE", "100ms/1ms") // of which the rest is over
	r.Await("more slices", func() bool { return r.Job().Slices >= 4 })
	r.Proxy("MIGRATION", "LIMIT", id, "SLICE", "off", "RATE", "0")
	r.AwaitDone()
	rests := false
	for _, e := range r.History(id) {
		if e.Event == "stalled" && rests || e.Error != nil { // at work the machine may hold it up
			t.Errorf("%+v", e)
		}
		rests = e.Event == "slice-end" || rests && e.Event == "stalled"
	}
	if got := sent(); got > n+1 { // those that the SET and the restart brought about are of these
		t.Errorf("%d RESTOREs of %d keys", got, n+1)
	}
	r.allThere(n+1, size)
}

// slicesOfTheProof: S4.1. A pass that proves the source to be free of the slots takes longer
// than a slice. The next slice goes on with it, and clients who write meanwhile do it no harm.
func slicesOfTheProof(t *testing.T) {
	const n, size = 15_000, 10
	ctx := context.Background()
	r := newRig(t, 2, "migration.scan-count=10", "migration.max-p99=off")
	r.fill(n, size)
	r.links[0].Set(faultproxy.ToClient, faultproxy.Fault{Delay: time.Millisecond}) // of each of the 1500 SCANs of a pass
	id := r.Proxy("MIGRATE", "0-99", "TO", "g2", "SLICE", "300ms/10ms").(string)
	c := r.Client()
	wrote := n
	for ; !r.Job().Phase.Ended() && wrote < n+1000; wrote++ {
		r.must(c.Set(ctx, fill(wrote), value(wrote, size), 0).Err())
	}
	r.AwaitDone()
	r.heal(0)
	if j := r.Job(); j.FirstError != nil || j.LastError != nil || len(j.ErrorCounts) != 0 {
		t.Errorf("errors %v, %v, %v", j.FirstError, j.LastError, j.ErrorCounts)
	}
	r.calm(id)
	tail := 0
	for _, e := range r.History(id) {
		if e.Event == "slice-begin" && e.To == topology.Tail {
			tail++
		}
	}
	if tail < 2 {
		t.Errorf("%d slices began in the tail phase", tail)
	}
	r.allThere(wrote, size)
}

// slicesBack: S4.1. The way back of a revert is sliced as well.
func slicesBack(t *testing.T) {
	const n, size = 600, 10
	r := newRig(t, 2, "migration.batch-max-keys=8", "migration.scan-count=20")
	r.fill(n, size)
	id := r.Proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "400", "SLICE", "100ms/1h").(string)
	rests := func(of int64) {
		t.Helper()
		r.Await("a rest", func() bool { j := r.Job(); return j.Phase == topology.Paused && j.Slices >= of })
	}
	of := int64(1)
	for rests(of); r.Job().KeysMoved < n/4; rests(of) {
		of++
		r.Proxy("MIGRATION", "RESUME", id)
	}
	r.Proxy("MIGRATION", "LIMIT", id, "RATE", "50") // what has moved takes seconds to come back
	r.Proxy("MIGRATION", "CANCEL", id, "REVERT")
	rests(of + 1)
	if j := r.Job(); !j.Back || j.ResumeTo != topology.Reverting {
		t.Errorf("it rests with back %v, then %s", j.Back, j.ResumeTo)
	}
	r.Proxy("MIGRATION", "LIMIT", id, "SLICE", "200ms/100ms", "RATE", "0")
	r.Await("the way back", func() bool { return r.Job().Phase.Ended() })
	if j := r.Job(); j.Phase != topology.Reverted || j.FirstError != nil {
		t.Errorf("%s, %v", j.Phase, j.FirstError)
	}
	r.calm(id)
	r.allThere(n, size)
}

// pausesByOperator: S4.1. A job that an operator pauses again and again comes to its end, and a
// pause is never an error.
func pausesByOperator(t *testing.T) {
	const n, size = 2000, 10
	r := newRig(t, 2, "migration.batch-max-keys=8", "migration.checkpoint-every=20ms", "migration.scan-count=50")
	r.fill(n, size)
	id := r.Proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "400").(string)
	pauses := 0
	for !r.Job().Phase.Ended() {
		before := r.Job().KeysMoved
		r.Await("progress between two pauses", func() bool { j := r.Job(); return j.KeysMoved >= before+n/20 || j.Phase.Ended() })
		if _, err := r.ProxyErr("MIGRATION", "PAUSE", id); err != nil {
			continue // it has just ended
		}
		pauses++
		if j := r.Job(); j.Phase != topology.Paused || j.Reason != "operator" {
			t.Fatalf("after PAUSE: %s, %s", j.Phase, j.Reason)
		}
		r.Proxy("MIGRATION", "RESUME", id)
	}
	j := r.Job()
	paused := 0
	for _, e := range r.History(id) {
		if e.To == topology.Paused {
			paused++
		}
		if e.Error != nil || e.To == topology.Backoff || e.To == topology.Failed {
			t.Errorf("a pause was an error: %+v", e)
		}
	}
	if j.Phase != topology.Done || j.FirstError != nil || j.LastError != nil || j.Attempt != 0 {
		t.Errorf("in the end %s, attempt %d, errors %v, %v", j.Phase, j.Attempt, j.FirstError, j.LastError)
	}
	if pauses < 3 || paused != pauses {
		t.Errorf("%d pauses, %d in the history", pauses, paused)
	}
	r.allThere(n, size)
}
