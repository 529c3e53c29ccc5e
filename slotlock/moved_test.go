package slotlock

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

// TestMovedSetAgainstAMap adds digests of every kind of neighbourhood, and finds each from
// then on, through every growth, and no other.
func TestMovedSetAgainstAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		rng := rand.New(rand.NewPCG(seed, 1))
		crowd := rapid.SampledFrom([]int{0, 1, 8, 40, 63, 64}).Draw(t, "bits that all have in common")
		n := rapid.IntRange(0, 3000).Draw(t, "digests")
		common := rng.Uint64()
		if rapid.Bool().Draw(t, "at the end") {
			common = math.MaxUint64
		}
		var h movedSet
		h.init(rapid.IntRange(0, 1000).Draw(t, "expected"), rapid.IntRange(0, shardCount-1).Draw(t, "shard"))
		want := make(map[digest]bool)
		var all []digest
		for range n {
			d := digest{rng.Uint64()>>crowd | common&^(math.MaxUint64>>crowd), rng.Uint64()}
			if len(all) > 0 && rng.IntN(4) == 0 {
				d = all[rng.IntN(len(all))]
			}
			if new := h.add(d); new == want[d] {
				t.Fatalf("add said %v of a digest that was there: %v", new, want[d])
			}
			want[d] = true
			all = append(all, d)
			if old := all[rng.IntN(len(all))]; !h.has(old) {
				t.Fatalf("%x is forgotten after %d", old, len(all))
			}
			if other := (digest{d.hi ^ 1<<rng.IntN(64), d.lo}); !want[other] && h.has(other) {
				t.Fatalf("%x was never added", other)
			}
			if other := (digest{d.hi, d.lo ^ 1<<(32+rng.IntN(32))}); !want[other] && h.has(other) {
				t.Fatalf("%x was never added", other)
			}
		}
		for d := range want {
			if !h.has(d) {
				t.Fatalf("%x is forgotten", d)
			}
		}
	})
}

// TestMovedSetGiveBackTheirDigests: what a table is copied from is all that it was given.
func TestMovedSetGiveBackTheirDigests(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, size := range []uint64{bucketsMin, 257, 1000, 1023, 1024, 77_777} {
		table := newDigestTable(size)
		want := make(map[uint64]bool)
		edges := []uint64{0, 1, math.MaxUint64, math.MaxUint64 - 1, headMask, headMask + 1, 1 << 63}
		for i := range size * 8 / 10 {
			hi := rng.Uint64()
			if int(i) < len(edges) {
				hi = edges[i]
			}
			if !table.insert(hi, uint32(hi)) {
				t.Fatalf("no room in a table of %d for %d", size, i)
			}
			want[hi] = true
		}
		got := 0
		for slot := range table.head {
			if table.head[slot] == 0 {
				continue
			}
			hi := table.hi(slot)
			if !want[hi] || table.tail[slot] != uint32(hi) {
				t.Fatalf("size %d, slot %d: %x was never added", size, slot, hi)
			}
			if bucket, _ := bits.Mul64(hi, size); uint64(slot) < bucket {
				t.Fatalf("size %d: %x stands before its bucket", size, hi)
			}
			got++
		}
		if got != len(want) || got != table.count {
			t.Errorf("size %d: %d digests, counted %d, want %d", size, got, table.count, len(want))
		}
	}
}

// TestMovedSetStayInPlace: by chance no digest ever lands aside, and the memory is what the
// documentation says.
func TestMovedSetStayInPlace(t *testing.T) {
	tb := New(Options{MaxWaiting: 1, ExpectedKeys: 1 << 15})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const n = 1_500_000
	name := make([]byte, 0, 20)
	for i := range n {
		name = fmt.Appendf(name[:0], "key:%d", i)
		d := tb.secrets.of(0, name)
		tb.shard(d).moved.add(d)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for i := range tb.shards {
		if h := &tb.shards[i].moved; len(h.odd) > 0 {
			t.Errorf("shard %d: %d aside", i, len(h.odd))
		}
	}
	if perKey := float64(after.HeapAlloc-before.HeapAlloc) / n; perKey < 14 || perKey > 24 {
		t.Errorf("%.1f bytes a key", perKey)
	} else {
		t.Logf("%.1f bytes a key", perKey)
	}
	runtime.KeepAlive(tb)
}

// TestDigests: the database counts, and text and bytes of a name are the same.
func TestDigests(t *testing.T) {
	s := secrets{1, 2}
	for _, name := range []string{"", "a", "a name of more than sixteen bytes", "\x00\xff"} {
		d := s.of(3, []byte(name))
		if d != s.ofKey(Key{3, name}) {
			t.Errorf("%q: two digests", name)
		}
		if d == s.of(4, []byte(name)) || d == (secrets{2, 2}).of(3, []byte(name)) || d == s.of(3, []byte(name+"x")) {
			t.Errorf("%q: one digest for two things", name)
		}
	}
}

func BenchmarkHomesAdd(b *testing.B) {
	tb := New(Options{MaxWaiting: 1})
	name := []byte("drain:000000000")
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		for k, n := 14, i; n > 0; k, n = k-1, n/10 {
			name[k] = byte('0' + n%10)
		}
		d := tb.secrets.of(0, name)
		tb.shard(d).moved.add(d)
	}
}

func BenchmarkHomesMiss(b *testing.B) {
	tb := New(Options{MaxWaiting: 1})
	for i := range 1_000_000 {
		d := tb.secrets.of(0, fmt.Append(nil, i))
		tb.shard(d).moved.add(d)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		d := digest{rng.Uint64(), rng.Uint64()}
		if tb.shard(d).moved.has(d) {
			b.Fatal("found")
		}
	}
}
