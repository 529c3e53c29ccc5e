package proxy

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"keyferry/internal/metrics"
	"keyferry/internal/resp"
)

// heat is what one loop knows of which keys and slots are in use, from a sample: one
// command in sampleEvery on average, at random distances, so that a client that sends the
// same round of commands over and over is not always met at the same one.
type heat struct {
	left  int // commands until the next that is looked at
	every int // 0: none is
	keys  *metrics.TopK
	slots []uint32 // commands sampled, by slot; they wrap around
	since int64    // ns of the loop's clock when keys was halved last

	big    int // bytes from which a value is big; 0: none is
	bigMet []BigValue
}

// halveEvery is in how much time what is known of hot keys weighs half.
const halveEvery = 10 * time.Second

// largePiece is the size of a piece of a reply from which the whole is measured: less than
// a loop's read buffer, so that whatever is big has such pieces.
const largePiece = 2 << 10

// bigKept bounds how many big values a loop remembers.
const bigKept = 64

// BigValue is a key whose value came by and was big.
type BigValue struct {
	DB      int
	Key     string // at most metrics.KeyShown bytes
	Bytes   int    // of the largest command or reply that was seen
	Command string
	At      time.Time // last seen
}

func (l *loop) initHeat() {
	o := &l.srv.opt
	l.heat = heat{every: o.SampleEvery, left: 1, big: o.BigValue, since: l.ns}
	if o.SampleEvery > 0 {
		l.heat.keys = metrics.NewTopK(l.srv.seed)
		l.heat.slots = make([]uint32, len(l.srv.table.Slots))
	} else {
		l.heat.left = int(^uint(0) >> 1)
	}
}

// sample looks at a command with keys. The caller has counted heat.left down to 0.
func (l *loop) sample(db int, cmd *resp.Command, args [][]byte, keys []int) {
	h := &l.heat
	if h.every == 0 {
		h.left = int(^uint(0) >> 1)
		return
	}
	h.left = 1 + rand.IntN(2*h.every-1)
	for _, k := range keys[:min(len(keys), 16)] {
		h.keys.Add(db, args[k], cmd.Flags&resp.Write != 0)
		h.slots[l.table.Scheme.Slot(args[k])]++
	}
}

// cool is run now and then by tick.
func (l *loop) cool() {
	if h := &l.heat; h.every > 0 && l.ns-h.since >= int64(halveEvery) {
		h.keys.Halve()
		h.since = l.ns
	}
}

// metBig notes a request whose frame or reply is big.
func (l *loop) metBig(r *request, frame []byte, size int) {
	args := frameArgs(frame)
	cmd, bad := resp.Resolve(args)
	if bad != "" {
		return
	}
	keys, err := cmd.AppendKeys(nil, args)
	if err != nil || len(keys) != 1 {
		return // which of them is big is not known
	}
	name := args[keys[0]]
	if len(name) == 0 {
		return // the head does not reach so far
	}
	db := r.s.db
	b := BigValue{DB: db, Key: string(name[:min(len(name), metrics.KeyShown)]), Bytes: size, Command: cmd.Name, At: l.now}
	h := &l.heat
	for i := range h.bigMet {
		if x := &h.bigMet[i]; x.DB == b.DB && x.Key == b.Key {
			x.Bytes, x.Command, x.At = max(x.Bytes, b.Bytes), b.Command, b.At
			return
		}
	}
	if len(h.bigMet) == bigKept { // the one not seen for longest makes room
		oldest := 0
		for i := range h.bigMet {
			if h.bigMet[i].At.Before(h.bigMet[oldest].At) {
				oldest = i
			}
		}
		h.bigMet[oldest] = b
		return
	}
	h.bigMet = append(h.bigMet, b)
}

// frameArgs are the arguments of a frame as far as it reaches; what is cut off is empty.
func frameArgs(frame []byte) [][]byte {
	count, rest, ok := cutNumber(frame, '*')
	if !ok {
		return [][]byte{nil}
	}
	args := make([][]byte, min(count, 1024))
	for i := range args {
		size, next, ok := cutNumber(rest, '$')
		if !ok || size > len(next) {
			break
		}
		args[i] = next[:size]
		rest = next[min(size+2, len(next)):]
	}
	return args
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

// HotKeys are the keys met most often of late, the hottest first, at most n. Not for a
// loop's goroutine.
func (s *Server) HotKeys(ctx context.Context, n int) []HotKey {
	var lists [][]metrics.HotKey
	scale := 0.0 // commands a second for each count; nearly the same on all loops
	s.each(ctx, func(l *loop) {
		if l.heat.every == 0 {
			return
		}
		// Counts are of the last interval in whole and of those before in halves, so that
		// they stand for one interval more than has passed since the last halving.
		window := halveEvery.Seconds() + float64(l.ns-l.heat.since)/1e9
		window = min(window, float64(l.ns)/1e9+1)
		scale = float64(l.heat.every) / window
		lists = append(lists, l.heat.keys.Keys())
	})
	all := slices.DeleteFunc(metrics.MergeHot(lists...), func(k metrics.HotKey) bool { return k.Count < fewSamples })
	all = all[:min(n, len(all))]
	s.mu.Lock()
	scheme := s.table.Scheme
	s.mu.Unlock()
	out := make([]HotKey, 0, len(all))
	for _, k := range all {
		h := HotKey{DB: k.DB, Key: k.Name, Length: k.Length, Slot: -1, PerSecond: k.Count * scale}
		if k.Length == len(k.Name) {
			h.Slot = scheme.Slot([]byte(k.Name))
		}
		if k.Count > 0 {
			h.Writes = k.Written / k.Count
		}
		out = append(out, h)
	}
	return out
}

// BigValues are the big values that came by, the largest first. Not for a loop's
// goroutine.
func (s *Server) BigValues(ctx context.Context) []BigValue {
	var all []BigValue
	s.each(ctx, func(l *loop) { all = append(all, l.heat.bigMet...) })
	slices.SortFunc(all, func(a, b BigValue) int {
		if a.Bytes != b.Bytes {
			return b.Bytes - a.Bytes
		}
		return strings.Compare(a.Key, b.Key)
	})
	seen := make(map[BigValue]bool)
	return slices.DeleteFunc(all, func(b BigValue) bool {
		id := BigValue{DB: b.DB, Key: b.Key}
		again := seen[id]
		seen[id] = true
		return again
	})
}
