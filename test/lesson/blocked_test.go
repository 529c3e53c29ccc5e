package lesson

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"keyferry/internal/faultproxy"
	"keyferry/internal/topology"
	"keyferry/migrator"
)

// everyPhaseBlocked: S5.3. In each phase, each server falls silent. The attempt ends by its
// deadline, the status says who is silent and what to do, and the job goes on by itself
// afterwards.
func everyPhaseBlocked(t *testing.T) {
	const n, size = 500, 10
	for _, c := range []struct {
		phase  topology.Phase
		origin string
	}{
		{topology.Preflight, "source"}, {topology.Preflight, "target"},
		{topology.Preparing, "source"}, {topology.Preparing, "target"},
		{topology.Bulk, "source"}, {topology.Bulk, "target"},
		{topology.Tail, "source"}, // with nothing left to move, the target is not asked
		{topology.Reverting, "source"}, {topology.Reverting, "target"},
	} {
		t.Run(fmt.Sprintf("%s, %s", c.phase, c.origin), func(t *testing.T) {
			party := map[string]int{"source": 0, "target": 1}[c.origin]
			point := "job." + string(c.phase) + ".persist.after"
			r := newRig(t, 2, append(quick, "migration.batch-max-keys=32")...)
			r.fill(n, size)
			r.Kill()
			wait, release := r.hold()
			r.Start(point + "=" + wait)
			end := topology.Done
			if c.phase == topology.Reverting {
				end = topology.Reverted
				id := r.Proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "100").(string)
				r.AwaitMoved(0)
				done := make(chan error, 1)
				go func() { _, err := r.ProxyErr("MIGRATION", "CANCEL", id, "REVERT"); done <- err }()
				defer func() { r.must(<-done) }()
			} else {
				r.Proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "5000")
			}
			r.said("failpoint " + point)
			r.links[party].SetBoth(faultproxy.Fault{Blackhole: true})
			release()
			r.Proxy("MIGRATION", "LIMIT", r.Job().ID, "RATE", "5000") // beside whatever the phase is at
			var j migrator.Status
			r.Await("the attempt to end and to say why", func() bool {
				j = r.Job()
				return j.Phase == topology.Backoff && j.FirstError != nil && j.Attempt > 0 && j.NextTryAtMs > 0
			})
			if e := j.FirstError; e.Origin != c.origin || e.Code != "TIMEOUT" || e.Text == "" {
				t.Errorf("first error %+v, want a time-out of the %s", e, c.origin)
			}
			if !strings.Contains(j.Advice, c.origin) {
				t.Errorf("the advice is %q", j.Advice)
			}
			r.heal(party)
			r.Await("the job to come to its end", func() bool { return r.Job().Phase == end })
			r.allThere(n, size)
		})
	}
}

// storeBlocked: S5.3. In each phase the store does not answer for a while. The status names
// it, says how long and what to do, clients are served meanwhile, and the job goes on.
func storeBlocked(t *testing.T) {
	const n, size = 300, 10
	phases := []topology.Phase{topology.Queued, topology.Preflight, topology.Preparing, topology.Bulk, topology.Tail, topology.Verifying, topology.Done}
	var points []string
	release := map[topology.Phase]func(){} // by the phase that ends with it
	r := newRig(t, 2, append(quick, "migration.stalled-after=300ms")...)
	for i, p := range phases[1:] {
		wait, over := r.hold()
		points = append(points, "job."+string(p)+".persist.before="+wait)
		release[phases[i]] = over
	}
	r.fill(n, size)
	r.Kill()
	r.Start(strings.Join(points, ";"))
	r.Proxy("MIGRATE", "0-16383", "TO", "g2")
	c := r.Client()
	r.Await("the job to be done", func() bool {
		if err := c.Set(context.Background(), "meanwhile", "x", 0).Err(); err != nil {
			t.Errorf("a client: %v", err)
		}
		j := r.Job()
		if s := j.Stalled; s != nil && s.Silent == "store" && s.SilentMs > 0 && strings.Contains(j.Advice, "disk") {
			release[j.Phase]() // else the job stays in this phase
		}
		return j.Phase == topology.Done
	})
	r.allThere(n, size)
}

// storeFails: S5.3. The store answers with errors for a while. They are told as its, and
// neither the job nor a client is lost for it.
func storeFails(t *testing.T) {
	const n, size, times = 300, 10, 5
	r := newRig(t, 2, quick...)
	r.fill(n, size)
	r.Kill()
	wait, release := r.hold() // by then the store is well, and its error is the attempt's
	r.Start(fmt.Sprintf("store=fail:%d;job.preflight.persist.after=%s", times, wait))
	id := r.Proxy("MIGRATE", "0-16383", "TO", "g2").(string)
	r.Await("the store's error to be told", func() bool {
		e := r.Job().NowFirstErr
		return e != nil && e.Origin == "store" && e.Text != ""
	})
	release()
	r.AwaitDone()
	if j := r.Job(); j.ErrorCounts["store IO"] != times || j.Attempt != 0 {
		t.Errorf("errors %v, attempt %d", j.ErrorCounts, j.Attempt)
	}
	for _, e := range r.History(id) {
		if e.To == topology.Backoff || e.To == topology.Failed {
			t.Errorf("the job went to %s: %+v", e.To, e.Error)
		}
	}
	r.allThere(n, size)
}

// stepPartyKills: S5.3. At each step of a key's move each server is killed, and in another
// run the gateway. All is well when they are back.
func stepPartyKills(t *testing.T) {
	const n, size = 500, 10
	for _, step := range []string{"read", "restore", "persist", "unlink"} {
		for _, side := range []string{"before", "after"} {
			for _, party := range []string{"source", "target", "gateway"} {
				t.Run(strings.Join([]string{step, side, party}, " "), func(t *testing.T) {
					r := newRig(t, 2, append(quick, "migration.batch-max-keys=16")...)
					r.fill(n, size)
					r.Kill()
					point := "move." + step + "." + side
					wait, release := r.hold()
					r.Start(point + "=" + wait + "@4")
					r.Proxy("MIGRATE", "0-16383", "TO", "g2")
					r.said("failpoint " + point)
					switch party {
					case "gateway":
						r.Kill()
						r.Start("")
					default:
						s := r.Servers[map[string]int{"source": 0, "target": 1}[party]]
						r.must(s.Kill())
						release()
						r.Await("the gateway to notice", func() bool { return len(r.Job().ErrorCounts) > 0 })
						r.must(s.Restart())
					}
					r.AwaitDone()
					r.allThere(n, size)
				})
			}
		}
	}
}
