package slotlock

import (
	"fmt"
	"testing"
)

// TestRecent: what was handled last is known, for as long as as many others have not come; of
// another database or after a reversal it is not.
func TestRecent(t *testing.T) {
	table := New(Options{})
	key := func(i int) Key { return Key{DB: 1, Name: fmt.Sprint("k", i)} }
	const n = 100_000
	for i := range n {
		table.Handle(key(i))
	}
	r := table.Recent()
	known := 0
	for i := range n {
		if r.Has(key(i)) {
			known++
		} else if i > n-recentMax/2 {
			t.Fatalf("key %d of %d is forgotten", i, n)
		}
	}
	if known != recentMax*shardCount {
		t.Errorf("%d keys are known, want %d", known, recentMax*shardCount)
	}
	if r.Has(Key{Name: key(n - 1).Name}) || r.Has(key(n)) {
		t.Error("keys are known that were not handled")
	}
	table.Reverse(Options{})
	if r.Has(key(n - 1)) {
		t.Error("a reversed table knows what it has moved the other way")
	}
}
