package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"keyferry/bench"
	"keyferry/internal/testrig"
	"keyferry/internal/topology"
	"keyferry/migrator/preflight"
)

// older makes the server behind f one that reads no payload of a server as new as those here: it
// refuses what their DUMP gives, as a 6.2 does behind a 7.0.
func (f *fault) older(yes bool) {
	const newest = 9 // version of the payloads of Redis 6.2
	f.set(func(f *fault) {
		f.onRequest = nil
		if yes {
			f.onRequest = func(args []string) (string, bool) {
				if !isCommand(args, "RESTORE") || len(args) < 4 || len(args[3]) < 10 {
					return "", false
				}
				version := args[3][len(args[3])-10:]
				if int(version[0])|int(version[1])<<8 <= newest {
					return "", false
				}
				return "-ERR DUMP payload version or checksum are wrong\r\n", false
			}
		}
	})
}

// TestRevertToOlderSource: the way back to a source that can't read the target's payloads is said
// to be closed before anything moves, and is not begun: REVERT is refused, and the job goes on.
func TestRevertToOlderSource(t *testing.T) {
	r, faults := newFaultyRig(t, 2, "--set", "locks.wait-deadline=20s")
	faults[0].older(true)
	const keys = 1000
	r.fill(keys, 20)
	report := r.dryrun("0-16383", "TO", "g2")[0]
	said := false
	for _, f := range report.Findings {
		said = said || f.What == "way-back" && f.Severity == preflight.Warning && strings.Contains(f.Text, "can't be reverted") && strings.Contains(f.Where, "g1") && f.Advice != ""
	}
	if !report.OK || !said {
		t.Errorf("the dry run says ok %v, %+v", report.OK, report.Findings)
	}
	id := r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "200").(string)
	r.awaitMoved(100)
	v, err := r.proxyErr("MIGRATION", "CANCEL", id, "REVERT")
	if err == nil || !strings.Contains(err.Error(), "can't be reverted") || !strings.Contains(err.Error(), "can't read the payloads of g2") {
		t.Errorf("REVERT is answered %v, %v", v, err)
	}
	if j := r.job(); j.Phase != topology.Bulk {
		t.Errorf("the job is %s (%s) after that", j.Phase, j.Reason)
	}
	r.proxy("MIGRATION", "PAUSE", id)
	if v, err := r.proxyErr("MIGRATION", "CANCEL", id, "REVERT"); err == nil {
		t.Errorf("REVERT of a paused job is answered %v", v)
	}
	r.proxy("MIGRATION", "RESUME", id)
	r.proxy("MIGRATION", "LIMIT", id, "RATE", "0")
	r.awaitDone()
	r.placesRight()
	if n := testrig.KeysAt(t, r.servers[1]); n != keys {
		t.Errorf("%d keys are at the target, of %d", n, keys)
	}
}

// TestRevertToAFullSource: that a source has no room for what would come back is said before anything
// moves, and again when REVERT is asked for; it stops neither, and the way back goes on when there is.
func TestRevertToAFullSource(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	r.fill(1000, 2000)
	src := r.servers[0].Client()
	wayBack := func() (text string) {
		for _, f := range r.dryrun("0-16383", "TO", "g2")[0].Findings {
			if f.What == "way-back" {
				text += string(f.Severity) + " " + f.Where + ": " + f.Text
			}
		}
		return text
	}
	src.ConfigSet(ctx, "maxmemory", "1gb")
	if text := wayBack(); text != "" {
		t.Errorf("with room the dry run says %q", text)
	}
	src.ConfigSet(ctx, "maxmemory", "1mb")
	if text := wayBack(); !strings.Contains(text, "warning g1") || !strings.Contains(text, "a REVERT pauses there") {
		t.Errorf("of a full source the dry run says %q", text)
	}
	id := r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "500").(string)
	r.awaitMoved(100)
	r.proxy("MIGRATION", "PAUSE", id)
	if v := r.proxy("MIGRATION", "CANCEL", id, "REVERT").(string); !strings.HasPrefix(v, "OK reverting") || !strings.Contains(v, "to come back") || !strings.Contains(v, "room for 0") {
		t.Errorf("REVERT is answered %q", v)
	}
	src.ConfigSet(ctx, "maxmemory", "0")
	r.await("the revert", func() bool { return r.job().Phase == topology.Reverted })
	if n := testrig.Keys(ctx, src); n != 1000 {
		t.Errorf("%d keys are at the source", n)
	}
}

// TestForwardFromTheWayBack: a job whose way back turns out to be closed, before it has turned round
// or half way, fails with the reason and what to do, and is sent forward again: also one that could
// go on back. Nothing is lost, and clients go on all the while.
func TestForwardFromTheWayBack(t *testing.T) {
	r, faults := newFaultyRig(t, 2, "--set", "migration.batch-max-keys=16", "--set", "migration.backoff-min=50ms", "--set", "locks.wait-deadline=20s")
	const keys = 1200
	r.fill(keys, 20)
	_, finish := r.oracle(bench.OracleConfig{Keys: 400, DBs: []int{0, 1}, Clients: 2, Pipeline: 2, Rate: 300})
	// Both ways at once are as slow as a test can see what comes between.
	id := r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "300").(string)
	r.awaitMoved(300)
	turned := func() {
		r.proxy("MIGRATION", "LIMIT", id, "RATE", "50")
		r.proxy("MIGRATION", "CANCEL", id, "REVERT")
		r.await("keys to come back", func() bool { return r.job().Back && r.job().Returned > 5 })
	}
	turned()
	faults[0].older(true)
	r.await("the job to fail", func() bool { return r.job().Phase == topology.Failed })
	j := r.job()
	if e := j.LastError; e == nil || e.Origin != "source" || !strings.Contains(j.Advice, "MIGRATION RESUME "+id+" FORWARD") {
		t.Errorf("last error %+v, advice %q", j.LastError, j.Advice)
	}
	// Whoever reads what has moved is not held up: each key is decided at once.
	c := r.client()
	for i := range keys {
		if v, err := c.Get(context.Background(), fmt.Sprintf("fill:%d", i)).Result(); err != nil || len(v) != 20 {
			t.Fatalf("fill:%d: %q, %v", i, v, err)
		}
	}
	r.proxy("MIGRATION", "RESUME", id, "FORWARD")
	r.await("the job to go forward", func() bool { j := r.job(); return !j.Back && j.Phase != topology.Reverting })
	faults[0].older(false)
	turned() // there and back once more
	r.kill()
	r.start("") // it knows the way, too
	r.await("the job to be there", func() bool { return len(r.jobs()) == 1 })
	r.proxy("MIGRATION", "RESUME", id, "FORWARD")
	r.unlimited()
	r.awaitDone()
	finish()
	r.placesRight()
}
