package lesson

import (
	"context"
	"strings"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/topology"
)

// linkCutInTheMiddle: S1.5. The way to the target is cut, with RST, when half of the data
// has gone; no key whose RESTORE was executed is ever sent again.
func linkCutInTheMiddle(t *testing.T) {
	const n, size = 2000, 1000
	r := newRig(t, 2, append(quick, "migration.batch-max-keys=64")...)
	r.fill(n, size)
	trials := 0
	r.links[1].SetTraps(faultproxy.Trap{Match: func(args [][]byte) bool {
		if faultproxy.Command("restore")(args) && !isFill(args) {
			trials++
		}
		return false
	}})
	r.links[1].CutAfter(faultproxy.ToServer, n*size/2)
	r.Proxy("MIGRATE", "0-16383", "TO", "g2")
	r.AwaitDone()
	if cut := r.links[1].Stats().Cut; cut == 0 {
		t.Fatal("nothing was cut")
	}
	if j := r.Job(); j.FirstError == nil {
		t.Errorf("the cut was not noticed: %+v", j)
	}
	calls, failed := r.stat(1, "commandstats", "cmdstat_restore", "calls"), r.stat(1, "commandstats", "cmdstat_restore", "failed_calls")
	if calls-trials != n || failed != 0 || r.stat(1, "errorstats", "errorstat_BUSYKEY", "count") != 0 {
		t.Errorf("%d RESTOREs of %d keys, %d of them refused", calls-trials, n, failed)
	}
	r.allThere(n, size)
}

// keyInDoubt: S2.3. The reply of one RESTORE is lost and the target can't be reached any
// more. The key is listed as in doubt and served to nobody, also after a stop and a start,
// until the target is back and has said whether it holds it.
func keyInDoubt(t *testing.T) {
	ctx := context.Background()
	const n, size = 100, 10
	r := newRig(t, 2, append(quick, "migration.batch-max-keys=1", "migration.parallel=1", "locks.wait-deadline=300ms")...)
	r.fill(n, size)
	id := r.Proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "20").(string)
	r.AwaitMoved(0)
	r.must(r.links[1].Refuse(true)) // the mover's own connection stands
	victim := make(chan string, 1)
	r.links[1].SetTraps(faultproxy.Trap{Action: faultproxy.DropReply, Times: 1, Match: func(args [][]byte) bool {
		if !all("restore")(args) || len(victim) > 0 {
			return false
		}
		victim <- string(args[1])
		return true
	}})
	r.Await("the reply to be lost", func() bool { return r.links[1].Sprung() > 0 })
	key := <-victim
	r.Await("the key to be listed", func() bool { return strings.Contains(strings.Join(r.Job().InDoubt, " "), key) })
	fenced := func(when string) {
		t.Helper()
		if err := r.Client().Append(ctx, key, "!").Err(); err == nil || !strings.HasPrefix(err.Error(), "TRYAGAIN") {
			t.Errorf("%s: APPEND on the key in doubt: %v", when, err)
		}
	}
	fenced("in doubt")
	within(t, "PAUSE", 30*time.Second, func() { r.Proxy("MIGRATION", "PAUSE", id) })
	fenced("paused")
	if !strings.Contains(strings.Join(r.Job().InDoubt, " "), key) {
		t.Errorf("paused, and not listed any more: %v", r.Job().InDoubt)
	}
	r.must(r.Child.Terminate(20 * time.Second))
	if !strings.Contains(r.Log.String(), "keys in doubt") {
		t.Error("the gateway stopped without a word about the key in doubt")
	}
	r.links[1].SetTraps()
	r.Start("")
	fenced("started again, target away")
	r.heal(1)
	r.Proxy("MIGRATION", "RESUME", id)
	r.Unlimited()
	r.AwaitDone()
	if j := r.Job(); len(j.InDoubt) > 0 || j.Phase != topology.Done {
		t.Errorf("in the end %s, in doubt %v", j.Phase, j.InDoubt)
	}
	r.allThere(n, size)
}
