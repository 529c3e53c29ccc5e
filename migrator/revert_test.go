package migrator

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"keyferry/internal/topology"
	"keyferry/slotlock"
)

// TestSweepDropsWhatHasLeft: before a job turns round, what a source has brought back from an
// old dump must go, also of a key that has been deleted at the target since: there the target
// says nothing, as it does of a key that never came.
func TestSweepDropsWhatHasLeft(t *testing.T) {
	ctx := context.Background()
	f := newFerry(t, nil)
	src, dst := f.src.Client(), f.dst.Client()
	for _, k := range []string{"deleted", "kept"} {
		if err := src.Set(ctx, k, "old", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.pass(ctx, position{}, func(position) {}); err != nil {
		t.Fatal(err)
	}
	dst.Del(ctx, "deleted")
	dst.Set(ctx, "kept", "new", 0)
	src.MSet(ctx, "deleted", "old", "kept", "old", "stays", "here")
	if err := f.sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if got := src.Keys(ctx, "*").Val(); len(got) != 1 || got[0] != "stays" {
		t.Errorf("at the source: %q", got)
	}
	if got := dst.Keys(ctx, "*").Val(); len(got) != 1 || dst.Get(ctx, "kept").Val() != "new" {
		t.Errorf("at the target: %q", got)
	}
}

// TestSweepLooksAgain: a key that another hand of the mover has locked may be let go with its
// move undone, and then it is at both ends still.
func TestSweepLooksAgain(t *testing.T) {
	ctx := context.Background()
	f := newFerry(t, nil)
	src, dst := f.src.Client(), f.dst.Client()
	src.Set(ctx, "k", "garbage", 0)
	dst.Set(ctx, "k", "new", 0)
	k := slotlock.Key{Name: "k"}
	if !f.locks.TryLock(k) {
		t.Fatal("not locked")
	}
	time.AfterFunc(100*time.Millisecond, func() { f.locks.Abort(k, false) })
	if err := f.sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if src.Exists(ctx, "k").Val() != 0 || dst.Get(ctx, "k").Val() != "new" {
		t.Error("the source's copy is still there when the sweep has ended")
	}
}

// TestSweepIsNotPaced: the sweep moves nothing, and the operator's ceilings are about what moves. It
// says how far it is.
func TestSweepIsNotPaced(t *testing.T) {
	ctx := context.Background()
	f := newFerry(t, nil)
	const keys = 3000
	for i := range keys {
		f.src.Client().Set(ctx, fmt.Sprint("k", i), "x", 0)
	}
	f.bound(topology.Job{JobLimits: topology.JobLimits{Parallel: 3, RateKeysPerS: 0.001, RateBytesPerS: 1}})
	f.unpaid.Store(1 << 40)
	if text := f.doing(); text != "" {
		t.Errorf("before the sweep: %q", text)
	}
	k := slotlock.Key{Name: "k7"}
	if !f.locks.TryLock(k) { // the sweep comes by again until this one is decided
		t.Fatal("not locked")
	}
	done := make(chan error, 1)
	go func() { done <- f.sweep(ctx) }()
	told := fmt.Sprintf("%d of about %d keys of a looked at", keys, keys)
	for end := time.Now().Add(time.Minute); !strings.Contains(f.doing(), told); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it says %q, and never %q", f.doing(), told)
		}
	}
	f.locks.Abort(k, false)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if text := f.doing(); text != "" || f.unpaid.Load() != 1<<40 {
		t.Errorf("after the sweep: %q; %d bytes are to be paid for", text, f.unpaid.Load())
	}
}

// TestSweepOfAFullTarget: the sweep before a revert brings nothing to the target, so that it
// needs no room there: the revert may be what makes room.
func TestSweepOfAFullTarget(t *testing.T) {
	ctx := context.Background()
	f := newFerry(t, nil)
	src, dst := f.src.Client(), f.dst.Client()
	src.MSet(ctx, "kept", "old", "stays", "here")
	dst.Set(ctx, "kept", "new", 0)
	dst.ConfigSet(ctx, "maxmemory", "500kb")
	dst.ConfigSet(ctx, "maxmemory-policy", "noeviction")
	for short := false; !short; time.Sleep(time.Millisecond) {
		f.room.ask()
		short, _, _ = f.gov.Room(1)
	}
	c, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := f.sweep(c); err != nil {
		t.Fatal(err)
	}
	if got := src.Keys(ctx, "*").Val(); len(got) != 1 || got[0] != "stays" {
		t.Errorf("at the source: %q", got)
	}
}
