package metrics

import (
	"cmp"
	"hash/maphash"
	"math/bits"
	"slices"
)

const (
	sketchRows  = 4
	sketchWidth = 2048 // a power of two; 32 KB a sketch
	topKept     = 64
	// KeyShown is how many bytes of a key's name are kept.
	KeyShown = 128
)

// TopK finds the keys that are met most often among any number of keys, in bounded
// memory: a count-min sketch with conservative update counts all of them, too high at
// worst, and the largest counts keep their names. It allocates nothing once the names
// have been as long as they get. Not safe for concurrent use: each loop has its own.
type TopK struct {
	seed   maphash.Seed
	counts [sketchRows][sketchWidth]uint32
	top    []topEntry
	least  uint32 // smallest count in top, once it is full
	total  uint64 // of counts, halved as they are
}

type topEntry struct {
	hash   uint64
	count  uint32
	writes uint32
	db     int
	length int
	name   []byte // the first KeyShown bytes
}

// HotKey is one key of a TopK. Count is what Add was called with, less what Halve took.
type HotKey struct {
	DB      int
	Name    string // at most KeyShown bytes of it
	Length  int    // of the whole name, in bytes
	Count   float64
	Written float64 // the part of Count that was writes
}

// NewTopK makes an empty one. Those that are merged must have one seed.
func NewTopK(seed maphash.Seed) *TopK {
	return &TopK{seed: seed, top: make([]topEntry, 0, topKept)}
}

// Add counts a key once.
func (t *TopK) Add(db int, name []byte, write bool) {
	h := maphash.Bytes(t.seed, name) + uint64(db)*0x9e3779b97f4a7c15
	t.total++
	n := t.count(h)
	if n <= t.least && len(t.top) == topKept {
		return // it can displace none; the least itself is counted when it is met again
	}
	at, lowest := -1, 0
	for i := range t.top {
		if t.top[i].hash == h {
			at = i
			break
		}
		if t.top[i].count < t.top[lowest].count {
			lowest = i
		}
	}
	switch {
	case at >= 0:
	case len(t.top) < topKept:
		at = len(t.top)
		t.top = t.top[:at+1]
		t.top[at].enter(h, db, name)
	case n > t.top[lowest].count:
		at = lowest
		t.top[at].enter(h, db, name)
	default:
		t.least = t.top[lowest].count
		return
	}
	t.top[at].count = n
	if write {
		t.top[at].writes++
	}
}

func (e *topEntry) enter(h uint64, db int, name []byte) {
	e.hash, e.db, e.length, e.writes = h, db, len(name), 0
	e.name = append(e.name[:0], name[:min(len(name), KeyShown)]...)
}

// count adds one to the smallest of the key's counters, and gives what it then is.
func (t *TopK) count(h uint64) uint32 {
	lo, hi := uint32(h), uint32(h>>32)|1
	least := ^uint32(0)
	for r := range sketchRows {
		least = min(least, t.counts[r][(lo+uint32(r)*hi)%sketchWidth])
	}
	for r := range sketchRows {
		c := &t.counts[r][(lo+uint32(r)*hi)%sketchWidth]
		*c = max(*c, least+1)
	}
	return least + 1
}

// Halve makes old counts weigh less: called in equal intervals, it turns counts into
// recent rates.
func (t *TopK) Halve() {
	for r := range t.counts {
		for i := range t.counts[r] {
			t.counts[r][i] /= 2
		}
	}
	for i := range t.top {
		t.top[i].count /= 2
		t.top[i].writes /= 2
	}
	t.top = slices.DeleteFunc(t.top, func(e topEntry) bool { return e.count == 0 })
	t.least = 0
	t.total /= 2
}

// Keys copies what is kept, the most frequent first.
func (t *TopK) Keys() []HotKey {
	out := make([]HotKey, len(t.top))
	for i, e := range t.top {
		out[i] = HotKey{e.db, string(e.name), e.length, float64(e.count), float64(min(e.writes, e.count))}
	}
	sortHot(out)
	return out
}

func sortHot(keys []HotKey) {
	slices.SortFunc(keys, func(a, b HotKey) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.DB, b.DB), cmp.Compare(a.Name, b.Name))
	})
}

// MergeHot adds up the lists of several loops.
func MergeHot(lists ...[]HotKey) []HotKey {
	type id struct {
		db, length int
		name       string
	}
	sum := make(map[id]*HotKey)
	for _, l := range lists {
		for _, k := range l {
			x := id{k.DB, k.Length, k.Name}
			if have := sum[x]; have != nil {
				have.Count += k.Count
				have.Written += k.Written
			} else {
				sum[x] = &k
			}
		}
	}
	out := make([]HotKey, 0, len(sum))
	for _, k := range sum {
		out = append(out, *k)
	}
	sortHot(out)
	return out
}

// HeatLevel is a rate on a scale of octaves, 0 for none to 15.
func HeatLevel(perSecond float64) int {
	return min(15, bits.Len64(uint64(max(perSecond*4, 0))))
}
