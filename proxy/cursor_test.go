package proxy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/router"
)

// TestCursorIsExactAsADouble: every cursor is what it was after it has been a float64, is not 0,
// and is read as what was written.
func TestCursorIsExactAsADouble(t *testing.T) {
	seen := make(map[uint64]cursor)
	for _, second := range []bool{false, true} {
		for _, age := range []uint64{0, 1, 127} {
			for _, group := range []int{0, 1, 15, 16, topology.MaxGroupNumber} {
				for _, at := range []uint64{0, 1, 1<<16 - 1, 1 << 16, 1<<24 - 1, 1 << 24, 1<<28 - 1, 1 << 28, 1<<cursorAtBits - 1} {
					for _, now := range []uint64{127, 128, 1<<13 + 5, 1<<40 + 77} {
						c := cursor{second: second, epoch: now - age, group: group, at: at}
						v, ok := c.encode(now)
						if !ok || v == 0 || v >= 1<<53 || uint64(float64(v)) != v {
							t.Fatalf("%+v: %d, %v", c, v, ok)
						}
						if back, ok := parseCursor(v, now); !ok || back != c {
							t.Fatalf("%+v: read as %+v", c, back)
						}
						if other, ok := seen[v]; ok && (other.group != c.group || other.at != c.at || other.second != c.second) {
							t.Fatalf("%+v and %+v are both %d", c, other, v)
						}
						seen[v] = c
					}
				}
			}
		}
	}
	if v, ok := (cursor{at: 1 << cursorAtBits}).encode(0); ok {
		t.Errorf("a server's cursor that does not fit: %d", v)
	}
}

// TestCursorTooOldForItsForm: a scan that counts from an epoch which its cursor's form can't tell
// from a newer one begins again; with the same moves since, the epoch comes along instead.
func TestCursorTooOldForItsForm(t *testing.T) {
	for _, f := range cursorForms {
		c := cursor{epoch: 10, group: 1<<f.group - 1, at: 1<<f.at - 1}
		for age, want := range map[uint64]bool{1<<f.epoch - 1: true, 1 << f.epoch: false} {
			if _, ok := c.encode(10 + age); ok != want {
				t.Errorf("%+v, %d epochs old: %v", c, age, ok)
			}
		}
		for name, x := range map[string]struct {
			moves []router.Move
			again bool
		}{
			"nothing moved":              {nil, false},
			"all moved before":           {[]router.Move{moved(0, 0, 1, 10)}, false},
			"one has gone on since ever": {[]router.Move{moved(0, 0, 1, 0)}, false},
			"one ended at first":         {[]router.Move{moved(0, 0, 1, 11)}, true},
		} {
			table := scanTable(10+1<<f.epoch, x.moves...)
			got, ok := parseCursor(c.resume(table), table.Epoch)
			want := cursor{epoch: table.Epoch, group: c.group, at: c.at}
			if x.again {
				want = cursor{epoch: table.Epoch}
			}
			if !ok || got != want {
				t.Errorf("%+v, %s: goes on as %+v, want %+v", c, name, got, want)
			}
		}
	}
}

// TestForeignCursors: what the gateway has not given begins a scan: it could be that of a gateway
// of an older version, in the midst of one.
func TestForeignCursors(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t))
	c := dialLine(t, addr)
	c.send("SET k v\n")
	c.expect("+OK")
	for _, v := range []uint64{0, 1, 17, 1<<50 - 1, 1 << 53, 1 << 62, 1<<62 | 3<<38, 1<<64 - 1} {
		c.send(fmt.Sprintf("SCAN %d\n", v))
		c.expect("*2", "$1", "0", "*1", "$1", "k")
	}
}

// TestScanByDoubles: a whole SCAN of a client that keeps cursors as doubles.
func TestScanByDoubles(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t), testredis.StartT(t))
	c := dialLine(t, addr)
	const keys = 500
	for i := range keys {
		c.send(fmt.Sprintf("SET key%d v\n", i))
		c.expect("+OK")
	}
	seen := make(map[string]bool)
	for cursor, pages := 0.0, 0; cursor != 0 || pages == 0; pages++ {
		if pages > keys {
			t.Fatal("it has no end")
		}
		c.send("SCAN " + strconv.FormatFloat(cursor, 'f', 0, 64) + "\n")
		c.expect("*2")
		c.line()
		next, err := strconv.ParseUint(c.line(), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if next >= 1<<53 {
			t.Fatalf("cursor %d", next)
		}
		cursor = float64(next)
		n, err := strconv.Atoi(c.line()[1:])
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			c.line()
			seen[c.line()] = true
		}
	}
	if len(seen) != keys {
		t.Errorf("it saw %d of %d keys", len(seen), keys)
	}
}

// scanWorld is a cluster as a SCAN sees it: keys, one of each slot, that move in jobs.
type scanWorld struct {
	t    *router.Table
	at   []int // group of each slot's key
	open []int // indexes of t.Moves that go on
	rng  *rand.Rand
}

// move is of slot from a group to another, by their indexes.
func (w *scanWorld) move(slot, source, target int) {
	base := w.t.Groups[0].Number
	w.open = append(w.open, len(w.t.Moves))
	w.t.Moves = append(w.t.Moves, moved(slot, base+source, base+target, 0))
}

// change lets something happen: a job begins, moves some of its keys, turns round or ends. The
// epoch grows by five at most, unless it leaps.
func (w *scanWorld) change(leap bool) {
	t, base := w.t, w.t.Groups[0].Number
	switch w.rng.IntN(4) {
	case 0: // other changes, sometimes very many
		t.Epoch += 1 + w.rng.Uint64N(4)
		if leap && w.rng.IntN(8) == 0 {
			t.Epoch += 1 << (6 + w.rng.IntN(24))
		}
	case 1:
		slot, target := w.rng.IntN(len(t.Slots)), w.rng.IntN(len(t.Groups))
		s := &t.Slots[slot]
		if s.Target >= 0 || int(s.Owner) == target {
			return
		}
		t.Epoch++
		s.Target = int16(target)
		w.move(slot, int(s.Owner), target)
	case 2:
		for _, i := range w.open {
			if m := t.Moves[i]; w.rng.IntN(2) == 0 {
				w.at[m.Slots[0].First] = m.Target - base
			}
		}
	case 3:
		if len(w.open) == 0 {
			return
		}
		i := w.open[0]
		w.open = slices.Delete(w.open, 0, 1)
		t.Epoch++
		t.Moves[i].To = t.Epoch
		slot := t.Moves[i].Slots[0].First
		source, target := t.Moves[i].Source-base, t.Moves[i].Target-base
		s := &t.Slots[slot]
		if s.Owner, s.Target = int16(target), -1; w.rng.IntN(3) == 0 { // it turns round
			s.Target = int16(source)
			w.move(slot, target, source)
		} else {
			w.at[slot] = target
		}
		if len(t.Moves) > 12 && t.Moves[0].To != 0 { // the oldest is forgotten
			t.ForgottenTo = max(t.ForgottenTo, t.Moves[0].To)
			t.Moves = t.Moves[1:]
			for k := range w.open {
				w.open[k]--
			}
		}
	}
}

// TestScansOfAWorldThatChanges: whatever moves and however often, a SCAN that comes to its end
// has seen every key. Its client goes on with its cursor before the form's epochs are over.
func TestScansOfAWorldThatChanges(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	ended := 0
	for round := range 3000 {
		w := &scanWorld{t: scanTable(1 + rng.Uint64N(1<<20)), at: []int{0, 1, 2}, rng: rng}
		if round%2 == 0 {
			for i := range w.t.Groups {
				w.t.Groups[i].Number += 20 // of another form
			}
		}
		base := w.t.Groups[0].Number
		far := uint64(1) << rng.IntN(30) // the second page's cursor at each server
		seen := make(map[int]bool)
		c, more := nextGroup(w.t, cursor{epoch: w.t.Epoch, group: -1})
		for page := 0; more && page < 200; page++ {
			calm := page > 100 || rng.IntN(3) > 0 // in the end nothing moves, so that it has an end
			for slot, at := range w.at {
				if g := c.group - base; at == g && (slot == 0) == (c.at == 0) && livesAt(w.t, slot, int16(g)) {
					seen[slot] = true
				}
			}
			if !calm {
				w.change(true)
			}
			next, on := c, true
			if next.at == 0 {
				next.at = far
			} else {
				next, on = nextGroup(w.t, c)
			}
			if more = on; !on {
				break
			}
			v := next.resume(w.t)
			for i := 0; i < 25 && !calm && rng.IntN(2) == 0; i++ { // less than the narrowest form is good for
				w.change(false)
			}
			var ok bool
			if c, ok = parseCursor(v, w.t.Epoch); !ok {
				t.Fatalf("seed %d: cursor %d is not known", seed, v)
			}
		}
		if more {
			continue
		}
		if ended++; len(seen) != len(w.at) {
			t.Fatalf("seed %d, round %d: it saw %v of the slots %v; %+v", seed, round, seen, w.at, w.t.Moves)
		}
	}
	if ended < 2000 {
		t.Errorf("only %d scans came to an end", ended)
	}
}

func livesAt(t *router.Table, slot int, group int16) bool {
	return t.Slots[slot].Owner == group || t.Slots[slot].Target == group
}
