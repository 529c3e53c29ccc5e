package metrics

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"testing"
)

// TestTopK: among a hundred thousand keys with Zipf's frequencies, the hottest are found
// and their counts are at least true and at most a little more.
func TestTopK(t *testing.T) {
	seed := uint64(rand.Uint32())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	zipf := rand.NewZipf(rng, 1.1, 1, 100000)
	hashes := maphash.MakeSeed()
	parts := []*TopK{NewTopK(hashes), NewTopK(hashes)}
	truth := make(map[string]float64)
	const n = 200000
	for i := range n {
		name := fmt.Sprintf("key:%d", zipf.Uint64())
		truth[name]++
		parts[i%2].Add(0, []byte(name), i%4 == 0)
	}
	got := MergeHot(parts[0].Keys(), parts[1].Keys())
	for i := range 10 {
		name := fmt.Sprintf("key:%d", i)
		found := false
		for _, k := range got[:20] {
			if k.Name == name {
				found = true
				if k.Count < truth[name] || k.Count > truth[name]+n/100 {
					t.Errorf("%s: counted %v, was met %v times", name, k.Count, truth[name])
				}
				if k.Written > k.Count || k.Written < k.Count/8 {
					t.Errorf("%s: %v of %v written, want about a quarter", name, k.Written, k.Count)
				}
			}
		}
		if !found {
			t.Errorf("%s, met %v times, is not among the 20 hottest", name, truth[name])
		}
	}
	before := got[0].Count
	parts[0].Halve()
	parts[1].Halve()
	if now := MergeHot(parts[0].Keys(), parts[1].Keys())[0].Count; now > before/2+1 || now < before/2-2 {
		t.Errorf("halved %v to %v", before, now)
	}
	for range 64 {
		parts[0].Halve()
	}
	if left := parts[0].Keys(); len(left) != 0 {
		t.Errorf("%d keys left when nothing was", len(left))
	}
}

// TestTopKKeys: databases are told apart, long names are cut, nothing is allocated later.
func TestTopKKeys(t *testing.T) {
	k := NewTopK(maphash.MakeSeed())
	long := make([]byte, 1000)
	for range 3 {
		k.Add(0, []byte("a"), false)
		k.Add(1, []byte("a"), true)
		k.Add(0, long, false)
	}
	keys := k.Keys()
	if len(keys) != 3 || keys[2].DB != 1 || keys[2].Written != 3 || len(keys[0].Name) != KeyShown || keys[0].Length != 1000 {
		t.Errorf("%+v", keys)
	}
	names := make([][]byte, 1000)
	for i := range names {
		names[i] = fmt.Appendf(make([]byte, 0, 128), "%0128d", i)
		k.Add(0, names[i], false)
		k.Add(0, names[i], false)
	}
	i := 0
	if n := testing.AllocsPerRun(5000, func() { i++; k.Add(0, names[rand.N(1+i%1000)], false) }); n > 0.01 {
		t.Errorf("%v allocations for a key", n)
	}
}

func BenchmarkTopK(b *testing.B) {
	k := NewTopK(maphash.MakeSeed())
	names := make([][]byte, 4096)
	for i := range names {
		names[i] = fmt.Appendf(nil, "key:%012d", i)
	}
	for i := 0; b.Loop(); i++ {
		k.Add(0, names[i%len(names)], false)
	}
}
