package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
	"keyferry/internal/topology"
	"keyferry/migrator"
)

// newFaultyRig is newRig with a fault on the gateway's way to each server.
func newFaultyRig(t *testing.T, servers int, args ...string) (*rig, []*fault) {
	t.Helper()
	var list []*testredis.Server
	var faults []*fault
	for range servers {
		s := testredis.StartT(t)
		list = append(list, s)
		faults = append(faults, newFault(t, s.Addr))
	}
	bare := testrig.Bare(t, args...)
	bare.Servers = list
	bare.Start("")
	for i, f := range faults {
		bare.Proxy("GROUP", "ADD", fmt.Sprintf("g%d", i+1), f.addr())
	}
	bare.Proxy("SLOT", "ASSIGN", "0-16383", "g1")
	return wrap(bare), faults
}

// fill writes keys through the gateway.
func (r *rig) fill(n, size int) {
	r.t.Helper()
	p := r.client().Pipeline()
	for i := range n {
		p.Set(context.Background(), fmt.Sprintf("fill:%d", i), strings.Repeat("x", size), 0)
	}
	if _, err := p.Exec(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

// never demands that no event of a job led to a phase.
func (r *rig) never(id string, p topology.Phase) {
	r.t.Helper()
	for _, e := range r.history(id) {
		if e.To == p {
			r.t.Errorf("the job was %s: %+v, error %+v", p, e, e.Error)
		}
	}
}

// TestLesson holds one test for each row of the table of lessons that needs a whole
// gateway; the others are in the packages that they are about.
func TestLesson(t *testing.T) {
	t.Run("S1.1", lessonStarvedTarget)
	t.Run("S1.2", lessonFirstErrorIsKept)
	t.Run("S1.3", lessonFailedOnlyWhenTriesAreSpent)
	t.Run("S1.4", lessonFullTarget)
	t.Run("S1.5", lessonNothingTwice)
	t.Run("S1.7", lessonStalled)
	t.Run("S2.1", lessonStopIsBounded)
	t.Run("S2.2", lessonRandomStops)
	t.Run("S2.3", lessonInDoubt)
	t.Run("S5.2", lessonBrokenTargets)
}

// lessonFirstErrorIsKept: the target answers OOM and then resets the connection. The
// status names the OOM and not only what followed from it.
func lessonFirstErrorIsKept(t *testing.T) {
	r, faults := newFaultyRig(t, 2)
	r.fill(500, 100)
	var done atomic.Bool
	faults[1].set(func(f *fault) {
		f.onRequest = func(args []string) (string, bool) {
			if isCommand(args, "RESTORE") && strings.HasPrefix(args[1], "fill:") && done.CompareAndSwap(false, true) {
				return "-OOM command not allowed when used memory > 'maxmemory'.\r\n", true
			}
			return "", false
		}
	})
	id := r.proxy("MIGRATE", "0-16383", "TO", "g2").(string)
	r.awaitDone()
	j := r.job()
	if len(j.Attempts) == 0 || j.Attempts[0].First == nil || j.Attempts[0].First.Code != "OOM" || j.Attempts[0].First.Origin != "target" {
		t.Errorf("the first failed attempt began otherwise than with the target's OOM: %+v", j.Attempts)
	}
	if j.FirstError == nil || j.FirstError.Code != "OOM" || j.FirstError.Origin != "target" || j.FirstError.AtMs == 0 {
		t.Errorf("first error %+v", j.FirstError)
	}
	if j.ErrorCounts["target OOM"] != 1 || j.ErrorCounts["target IO"] == 0 {
		t.Errorf("error counts %v: want the OOM and what the reset did", j.ErrorCounts)
	}
	events := r.history(id)
	if events[0].Event != "submitted" || events[len(events)-1].To != topology.Done {
		t.Errorf("history from %+v to %+v", events[0], events[len(events)-1])
	}
	text := fmt.Sprint(r.proxy("MIGRATION", "LOG", id))
	if !strings.Contains(text, "target OOM") {
		t.Errorf("the log does not tell of it: %s", text)
	}
	r.placesRight()
}

// lessonFailedOnlyWhenTriesAreSpent: one failure less than there are tries, then the
// target recovers. The job is never failed, and each attempt is listed.
func lessonFailedOnlyWhenTriesAreSpent(t *testing.T) {
	const tries = 5 // the last is long enough after the one before for what is done between them
	r := newRig(t, 2, "--set", fmt.Sprintf("migration.max-attempts=%d", tries), "--set", "migration.backoff-min=400ms")
	r.fill(500, 100)
	progress, stop := r.subscribe()
	defer stop()
	ctx := context.Background()
	dst := r.servers[1].Client()
	nowhere, err := testredis.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	id := r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "50").(string)
	r.awaitMoved(20)
	if err := dst.Do(ctx, "REPLICAOF", "127.0.0.1", nowhere).Err(); err != nil {
		t.Fatal(err)
	}
	r.await("all tries but one to be spent", func() bool { return r.job().Attempt == tries-1 })
	if err := dst.Do(ctx, "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	seen := map[topology.Phase]bool{}
	moved := false
	listen := func(until func() bool) {
		t.Helper()
		for !until() {
			select {
			case n := <-progress:
				if n.Kind == "event" && n.Job.ID == id {
					seen[n.Event.To] = true
				}
				moved = moved || n.Kind == "progress" && n.Job.KeysMoved > 0
			case <-time.After(time.Minute):
				t.Fatalf("the subscriber was told of %v only, progress: %v", seen, moved)
			}
		}
	}
	listen(func() bool { return seen[topology.Backoff] && moved })
	r.unlimited()
	r.awaitDone()
	r.never(id, topology.Failed)
	j := r.job()
	if n := len(j.Attempts); n < tries-1 {
		t.Fatalf("%d attempts are listed, want %d at least", n, tries-1)
	}
	for _, a := range j.Attempts {
		if a.First.Origin != "target" || a.First.Code != "READONLY" {
			t.Errorf("attempt %d: first error %+v", a.N, a.First)
		}
	}
	if j.ErrorCounts["target READONLY"] == 0 {
		t.Errorf("error counts %v", j.ErrorCounts)
	}
	listen(func() bool { return seen[topology.Done] })
	if !seen[topology.Bulk] || seen[topology.Failed] {
		t.Errorf("the subscriber was told of %v", seen)
	}
	r.placesRight()
}

// subscribe follows keyferry:migrations on the admin address.
func (r *rig) subscribe() (<-chan migrator.Notice, func()) {
	r.t.Helper()
	c := testredis.NewClient(r.admin, "", 0)
	sub := c.Subscribe(context.Background(), "keyferry:migrations")
	if _, err := sub.Receive(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	out := make(chan migrator.Notice, 10_000)
	go func() {
		for m := range sub.Channel() {
			var n migrator.Notice
			if err := json.Unmarshal([]byte(m.Payload), &n); err != nil {
				r.t.Errorf("no notice: %v in %q", err, m.Payload)
				continue
			}
			out <- n
		}
	}()
	return out, func() { _ = sub.Close(); _ = c.Close() }
}
