package lesson

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/topology"
)

// everyPhaseBlocked: S5.3. In each phase, each server falls silent. The attempt ends by its
// deadline, the status says who is silent, and the job goes on by itself afterwards.
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
	} {
		t.Run(fmt.Sprintf("%s, %s", c.phase, c.origin), func(t *testing.T) {
			party := map[string]int{"source": 0, "target": 1}[c.origin]
			point := "job." + string(c.phase) + ".persist.after"
			r := newRig(t, 2, quick...)
			r.fill(n, size)
			r.Kill()
			r.Start(point + "=sleep:1s")
			r.Proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "5000")
			r.said("failpoint " + point)
			r.links[party].SetBoth(faultproxy.Fault{Blackhole: true})
			var e *topology.JobError
			r.Await("the attempt to end and to say why", func() bool {
				j := r.job()
				e = j.FirstError
				return j.Phase == topology.Backoff && e != nil && j.Attempt > 0 && j.NextTryAtMs > 0
			})
			if e.Origin != c.origin || e.Code != "TIMEOUT" || e.Text == "" {
				t.Errorf("first error %+v, want a time-out of the %s", e, c.origin)
			}
			r.heal(party)
			r.AwaitDone()
			r.allThere(n, size)
		})
	}
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
					r.Start(point + "=sleep:300ms@4")
					r.Proxy("MIGRATE", "0-16383", "TO", "g2")
					r.said("failpoint " + point)
					switch party {
					case "gateway":
						r.Kill()
						r.Start("")
					default:
						s := r.Servers[map[string]int{"source": 0, "target": 1}[party]]
						r.must(s.Kill())
						time.Sleep(400 * time.Millisecond) // beyond the gateway's pause
						r.must(s.Restart())
					}
					r.AwaitDone()
					r.allThere(n, size)
				})
			}
		}
	}
}
