package migrator

import (
	"context"
	"fmt"
	"testing"
	"time"

	"keyferry/migrator/keymove"
	"keyferry/slotlock"
)

// TestFarExpiry: keys that expire in centuries, as those do whose owner has written down a large
// number for never, keep their time to live.
func TestFarExpiry(t *testing.T) {
	ctx := context.Background()
	f := newFerry(t, nil)
	left := []int64{9_999_999_999_000, 18_446_744_173_710, 31_536_000_000_000, 1 << 60, 100_000} // ms; the second in nanoseconds is 2^64 and 100 s
	var moves []*keymove.Key
	for i, ms := range left {
		k := slotlock.Key{Name: fmt.Sprint("k", i)}
		if err := f.src.Client().Do(ctx, "SET", k.Name, "x", "PX", ms).Err(); err != nil {
			t.Fatal(err)
		}
		f.locks.TryLock(k)
		moves = append(moves, &keymove.Key{Key: k, Since: time.Now()})
	}
	w := f.newWorker()
	if err := w.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if rest, err := w.Run(ctx, 0, moves); err != nil || len(rest) > 0 {
		t.Fatalf("%v, %v", rest, err)
	}
	for i, ms := range left {
		got, err := f.dst.Client().Do(ctx, "PTTL", fmt.Sprint("k", i)).Int64()
		if err != nil || got > ms || got < ms-90_000 {
			t.Errorf("expires in %d ms at the target, was to in %d: %v", got, ms, err)
		}
	}
}
