package integration

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testrig"
	"keyferry/internal/topology"
	"keyferry/migrator/preflight"
)

// TestPurgeStatesTheCount: keys at the target are removed only for who says how many they are. Whoever
// does not is told how many and where, and first how to keep them; and nothing is removed.
func TestPurgeStatesTheCount(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 3, "--set", "cluster.databases=2")
	r.fill(100, 10)
	dst := r.servers[1].Client()
	keys := []string{"a", "b", "c"}
	for _, k := range keys {
		dst.Set(ctx, k, "in the way", 0)
	}
	dst.Do(ctx, "EVAL", "redis.call('select', 1) redis.call('set', 'd', 'x')", 0)
	n := func() int { return len(dst.Keys(ctx, "[abc]").Val()) }
	inWay := func(args ...any) (f preflight.Finding) {
		for _, f = range r.dryrun(append([]any{"0-16383", "TO", "g2"}, args...)...)[0].Findings {
			if f.What == "target-free" {
				return f
			}
		}
		return preflight.Finding{}
	}
	for _, args := range [][]any{nil, {"PURGE"}, {"PURGE", 0}, {"PURGE", 3}, {"PURGE", 5}, {"PURGE", 1_000_000}} {
		f := inWay(args...)
		if f.Severity != preflight.Fatal || f.Keys != 4 || !strings.Contains(f.Text, "holds 4 keys") || !strings.Contains(f.Where, "g2") {
			t.Errorf("DRYRUN %v: %+v", args, f)
		}
		for _, text := range []string{f.Text, f.Advice} {
			if adopt, purge := strings.Index(text, "ADOPT"), strings.Index(text, "PURGE 4"); adopt < 0 || purge < adopt {
				t.Errorf("DRYRUN %v advises %q", args, text)
			}
		}
		id := r.proxy(append([]any{"MIGRATE", "0-16383", "TO", "g2"}, args...)...).(string)
		r.await("the job to be refused", func() bool { return r.job().Phase == topology.Failed })
		if j := r.job(); j.Published || !strings.Contains(j.LastError.Text, "holds 4 keys") || !strings.Contains(j.LastError.Text, "PURGE 4") {
			t.Errorf("MIGRATE %v: %+v", args, j.LastError)
		}
		r.proxy("MIGRATION", "CANCEL", id)
		if n() != 3 {
			t.Fatalf("MIGRATE %v removed keys", args)
		}
	}
	if f := inWay("PURGE", 4); f.Severity != preflight.Warning || f.Keys != 4 {
		t.Errorf("DRYRUN PURGE 4: %+v", f)
	}
	if _, err := r.proxyErr("MIGRATE", "0-16383", "TO", "g2", "PURGE", "x"); err == nil || !strings.Contains(err.Error(), "PURGE \"x\": want the number") {
		t.Errorf("PURGE x: %v", err)
	}
	if out, errs, code := r.Keyferry("check", "0-16383", "--to", "g2", "--purge", "3"); code != 1 || !strings.Contains(out+errs, "holds 4 keys") {
		t.Errorf("keyferry check --purge 3: exit code %d, %s %s", code, out, errs)
	}
	if out, errs, code := r.Keyferry("migrate", "0-16383", "--to", "g2", "--purge", "4", "--wait"); code != 0 {
		t.Errorf("keyferry migrate --purge 4: exit code %d, %s %s", code, out, errs)
	}
	if j := r.job(); j.Phase != topology.Done || j.Purging || n() != 0 {
		t.Errorf("the job is %s, purging %v, with %d of the keys left", j.Phase, j.Purging, n())
	}
	r.proxy("MIGRATE", "0-99", "TO", "g1")
	r.await("some slots to be back", func() bool { return r.job().Phase == topology.Done })
	if _, err := r.proxyErr("MIGRATE", "0-16383", "TO", "g3", "PURGE", 4); err == nil || !strings.Contains(err.Error(), "g1, g2") {
		t.Errorf("PURGE of two jobs: %v", err)
	}
}

// TestPurgeAndExpiry: keys that were counted and have expired since are not missing; as many others are.
func TestPurgeAndExpiry(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	dst := r.servers[1].Client()
	for i := range 10 {
		dst.Set(ctx, fmt.Sprint("expiring", i), "x", time.Hour)
		dst.Set(ctx, fmt.Sprint("staying", i), "x", 0)
	}
	ok := func(n int) bool { return r.dryrun("0-16383", "TO", "g2", "PURGE", n)[0].OK }
	for i := range 3 {
		dst.PExpire(ctx, fmt.Sprint("expiring", i), time.Millisecond)
	}
	r.await("three to expire", func() bool { return dst.Exists(ctx, "expiring0", "expiring1", "expiring2").Val() == 0 })
	for n, want := range map[int]bool{16: false, 17: true, 20: true, 24: true, 25: false} { // 17 are there, 7 of which expire
		if ok(n) != want {
			t.Errorf("PURGE %d: ok is not %v", n, want)
		}
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "PURGE", 20)
	r.awaitDone()
	if left := testrig.Keys(ctx, dst); left != 0 {
		t.Errorf("%d keys are left", left)
	}
}

// TestKeysThatComeWhilePurging: somebody writes to the target past the gateway after the count. No
// more keys go than were stated.
func TestKeysThatComeWhilePurging(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	r.fill(100, 10)
	dst := r.servers[1].Client()
	for _, at := range []string{"job.preflight.persist.after@2", "preflight.purge.before"} { // the count is stored; it was made once more
		dst.FlushAll(ctx)
		set := func(from, to int) {
			for i := from; i < to; i++ {
				dst.Set(ctx, fmt.Sprint("way:", i), "x", 0)
			}
		}
		set(0, 10)
		r.kill()
		g := newGate(t)
		point, times, _ := strings.Cut(at, "@")
		r.start(g.at(point) + "@" + cmp.Or(times, "1"))
		r.proxy("MIGRATE", "0-16383", "TO", "g2", "PURGE", 10)
		r.await("the count", func() bool { return strings.Contains(r.log.String(), "failpoint "+point) })
		set(10, 15)
		g.open()
		r.await("the job to be refused", func() bool { return r.job().Phase == topology.Failed })
		if n := testrig.Keys(ctx, dst); n < 5 || at == "job.preflight.persist.after@2" && n != 15 {
			t.Errorf("%s: of 15 keys, 10 of them stated, %d are left", at, n)
		}
		if text := r.job().LastError.Text; !strings.Contains(text, "keys of these slots") || r.job().Published {
			t.Errorf("%s: %q", at, text)
		}
		for i := range 12 { // fewer are fine by now, whoever has removed them
			dst.Del(ctx, fmt.Sprint("way:", i))
		}
		r.proxy("MIGRATION", "RESUME", r.job().ID)
		r.awaitDone()
		r.placesRight()
		r.proxy("MIGRATE", "0-16383", "TO", "g1")
		r.awaitDone()
	}
}

// TestDeathWhilePurging: a gateway that has removed some of the keys goes on with the rest.
func TestDeathWhilePurging(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	r.kill()
	dst := r.servers[1].Client()
	for i := range 10 {
		dst.Set(ctx, fmt.Sprint("way:", i), "x", 0)
	}
	r.start("preflight.purge.before=kill")
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "PURGE", 10)
	r.awaitDeath()
	dst.Del(ctx, "way:1", "way:2") // as the former gateway may have
	r.start("")
	r.awaitDone()
	if n := testrig.Keys(ctx, dst); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}
