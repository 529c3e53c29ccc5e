package migrator

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/migrator/keymove"
	"keyferry/slotlock"
)

// take moves keys of database 0.
func (f *ferry) take(names ...string) {
	f.t.Helper()
	ctx := context.Background()
	var moves []*keymove.Key
	for _, name := range names {
		k := slotlock.Key{Name: name}
		f.locks.TryLock(k)
		moves = append(moves, &keymove.Key{Key: k, Since: time.Now()})
	}
	w := f.newWorker()
	if err := w.Connect(ctx); err != nil {
		f.t.Fatal(err)
	}
	defer w.Close()
	if rest, err := w.Run(ctx, 0, moves); err != nil || len(rest) > 0 {
		f.t.Fatalf("%v, %v", rest, err)
	}
}

// newSlowFerry makes what is sent to the target late, so that time passes between reading what
// is left of a key's and RESTORE.
func newSlowFerry(t *testing.T, late time.Duration) *ferry {
	t.Helper()
	return newFerryVia(t, nil, func(target string) string {
		p, err := faultproxy.New(target, 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		p.Set(faultproxy.ToServer, faultproxy.Fault{Delay: late})
		return p.Addr
	})
}

// TestExpiryStays: a key expires when it was to, to the millisecond, however it was said and
// however far away that is: 18 446 744 173 710 ms, in nanoseconds, are 2^64 and 100 s.
func TestExpiryStays(t *testing.T) {
	ctx := context.Background()
	for _, share := range []float64{0, 1} { // compared or not
		f := newSlowFerry(t, 30*time.Millisecond)
		f.env.Comparer.Share = share
		now := time.Now().UnixMilli()
		src, dst := f.src.Client(), f.dst.Client()
		var names []string
		for _, say := range [][]any{
			{"PXAT", int64(math.MaxInt64)}, {"PXAT", int64(math.MaxInt64 - 1)}, {"PXAT", math.MaxInt64 - now}, {"PXAT", int64(1) << 62}, {"PXAT", now + 100_003},
			{"EXAT", int64(math.MaxInt64 / 1000)}, {"EXAT", now/1000 + 100}, {"EX", 100}, {"EX", (math.MaxInt64-now)/1000 - 1},
			{"PX", 9_999_999_999_000}, {"PX", 18_446_744_173_710}, {"PX", 31_536_000_000_000}, {"PX", int64(1) << 60}, {"PX", math.MaxInt64 - now - 60_000}, {"PX", 100_000},
		} {
			name := fmt.Sprint(say...)
			if err := src.Do(ctx, append([]any{"SET", name, "x"}, say...)...).Err(); err != nil {
				t.Fatal(name, err)
			}
			names = append(names, name)
		}
		if err := src.Set(ctx, "never", "x", 0).Err(); err != nil {
			t.Fatal(err)
		}
		names = append(names, "never")
		want := make(map[string]int64)
		for _, name := range names {
			want[name] = src.Do(ctx, "PEXPIRETIME", name).Val().(int64)
		}
		f.take(names...)
		for _, name := range names {
			if got := dst.Do(ctx, "PEXPIRETIME", name).Val(); got != want[name] {
				t.Errorf("%s: expires at %v, was to at %d", name, got, want[name])
			}
		}
	}
}

// TestExpiryOfOldSource: a source that says only what is left of a key's time loses none either,
// and none lives for ever.
func TestExpiryOfOldSource(t *testing.T) {
	ctx := context.Background()
	f := newSlowFerry(t, 30*time.Millisecond)
	src, dst := f.src.Client(), f.dst.Client()
	if err := src.Do(ctx, "ACL", "SETUSER", "default", "-pexpiretime").Err(); err != nil {
		t.Fatal(err)
	}
	left := []int64{9_999_999_999_000, 18_446_744_173_710, 1 << 60, 100_000}
	var names []string
	for i, ms := range left {
		names = append(names, fmt.Sprint("k", i))
		if err := src.Do(ctx, "SET", names[i], "x", "PX", ms).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []int64{math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64 - 1000} {
		names = append(names, fmt.Sprint("at", at))
		if err := src.Do(ctx, "SET", fmt.Sprint("at", at), "x", "PXAT", at).Err(); err != nil {
			t.Fatal(err)
		}
		left = append(left, at-time.Now().UnixMilli())
	}
	f.take(names...)
	const lessByAYear = 366 * 24 * 3600 * 1000
	for i, ms := range left {
		got, err := dst.Do(ctx, "PTTL", names[i]).Int64()
		least := ms - 90_000
		if ms > math.MaxInt64/2 {
			least = ms - lessByAYear
		}
		if err != nil || got > ms || got < least {
			t.Errorf("%s expires in %d ms at the target, was to in %d: %v", names[i], got, ms, err)
		}
	}
}

// TestExpiryAboutNow: keys that expire while they are moved are gone then, and none of them
// stays for ever.
func TestExpiryAboutNow(t *testing.T) {
	ctx := context.Background()
	for _, take := range []string{"+pexpiretime", "-pexpiretime"} {
		f := newFerry(t, nil)
		src, dst := f.src.Client(), f.dst.Client()
		if err := src.Do(ctx, "ACL", "SETUSER", "default", take).Err(); err != nil {
			t.Fatal(err)
		}
		var names []string
		p := src.Pipeline()
		for i := range 300 {
			names = append(names, fmt.Sprint("k", i))
			p.Do(ctx, "SET", names[i], "x", "PX", 1+i/10)
		}
		if _, err := p.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		f.take(names...)
		time.Sleep(500 * time.Millisecond)
		for _, name := range names {
			if n := src.Exists(ctx, name).Val() + dst.Exists(ctx, name).Val(); n != 0 {
				t.Errorf("%s: key %s has not expired", take, name)
			}
		}
	}
}
