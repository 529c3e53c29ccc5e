package stats

import (
	"hash/maphash"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"keyferry/internal/metrics"
)

// HotKeys is what one loop knows of which keys and slots are in use, from a sample: one
// command in `every` on average, at random distances, so that a client that sends the same
// round of commands over and over is not always met at the same one. It belongs to the loop's
// goroutine.
type HotKeys struct {
	left  int // commands until the next that is looked at
	every int // 0: none is
	keys  *metrics.TopK
	slots []uint32 // commands sampled, by slot; they wrap around
	since int64    // ns of the loop's clock when keys was halved last
}

// halveEvery is in how much time what is known of hot keys weighs half.
const halveEvery = 10 * time.Second

// SampledKeys is how many keys of one command are looked at: a command may name a million.
const SampledKeys = 16

func (h *HotKeys) init(every int, seed maphash.Seed, slots int, now int64) {
	*h = HotKeys{every: every, left: 1, since: now}
	if every > 0 {
		h.keys = metrics.NewTopK(seed)
		h.slots = make([]uint32, slots)
	} else {
		h.left = math.MaxInt
	}
}

// Due counts a command with keys, and says whether it may be one that is looked at: Pick knows.
// It is small enough to be compiled into the path of every command.
func (h *HotKeys) Due() bool {
	h.left--
	return h.left <= 0
}

// Pick says whether the command for which Due was true is looked at, and when the next is.
func (h *HotKeys) Pick() bool {
	if h.every == 0 {
		h.left = math.MaxInt
		return false
	}
	h.left = 1 + rand.IntN(2*h.every-1)
	return true
}

// Add counts a key of a command that Pick has picked.
func (h *HotKeys) Add(db int, key []byte, slot int, write bool) {
	h.keys.Add(db, key, write)
	h.slots[slot]++
}

// Cool is run now and then, with the loop's clock: it makes old counts weigh less.
func (h *HotKeys) Cool(now int64) {
	if h.every > 0 && now-h.since >= int64(halveEvery) {
		h.keys.Halve()
		h.since = now
	}
}

// fewSamples is a count below which that a key was met says nothing about it.
const fewSamples = 4

// HotKey is a key with its recent rate.
type HotKey struct {
	DB        int     `json:"db"`
	Key       string  `json:"key"`    // its first bytes
	Length    int     `json:"length"` // of its name, in bytes
	Slot      int     `json:"slot"`   // -1: only a part of its name is known
	PerSecond float64 `json:"per_s"`  // commands on it, estimated
	Writes    float64 `json:"writes"` // the part of them that may write
}

// HotPart is what one loop knows of hot keys, copied.
type HotPart struct {
	keys  []metrics.HotKey
	scale float64 // commands a second for each count; 0: the loop takes no samples
}

// Part copies what the loop knows; now is its clock.
func (h *HotKeys) Part(now int64) HotPart {
	if h.every == 0 {
		return HotPart{}
	}
	// Counts are of the last interval in whole and of those before in halves, so that they
	// stand for one interval more than has passed since the last halving.
	window := halveEvery.Seconds() + float64(now-h.since)/1e9
	window = min(window, float64(now)/1e9+1)
	return HotPart{h.keys.Keys(), float64(h.every) / window}
}

// Hottest are the keys met most often of late by all loops together, the hottest first, at most
// n. slot says in which slot a key is.
func Hottest(parts []HotPart, n int, slot func(key []byte) int) []HotKey {
	var lists [][]metrics.HotKey
	scale := 0.0
	for _, p := range parts {
		lists = append(lists, p.keys)
		scale = max(scale, p.scale) // nearly the same on all loops
	}
	all := slices.DeleteFunc(metrics.MergeHot(lists...), func(k metrics.HotKey) bool { return k.Count < fewSamples })
	all = all[:min(n, len(all))]
	out := make([]HotKey, 0, len(all))
	for _, k := range all {
		h := HotKey{DB: k.DB, Key: k.Name, Length: k.Length, Slot: -1, PerSecond: k.Count * scale}
		if k.Length == len(k.Name) {
			h.Slot = slot([]byte(k.Name))
		}
		if k.Count > 0 {
			h.Writes = k.Written / k.Count
		}
		out = append(out, h)
	}
	return out
}
