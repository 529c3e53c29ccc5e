package keymove

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
	"keyferry/slotlock"
)

// order is a target as a Ledger sees it: numbers by database, in the one order in which it has
// executed exchanges. A life begins with some of what the one before it had.
type order struct {
	life  int
	marks []map[int]int64 // after each exchange, the first being of none
	mark  string
}

func (o *order) info() link.Info { return link.Info{RunID: fmt.Sprint("run", o.life)} }

func (o *order) now() map[int]int64 { return o.marks[len(o.marks)-1] }

func (o *order) read(_ context.Context, mark string, db int) (int64, error) {
	if mark != o.mark {
		return 0, nil
	}
	return o.now()[db], nil
}

// TestLedgerFindsEveryLoss: exchanges from several workers end in any order, of which some keys are
// given up, and a target restarts with what it had a while ago. The ledger says that it has
// forgotten when, and only when, a key that was given up is not there any more.
func TestLedgerFindsEveryLoss(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	forgotten, whole := 0, 0
	for range 3000 {
		o := &order{life: 1, marks: []map[int]int64{{}}, mark: "a"}
		l := NewLedger(func(name []byte) int { return int(name[0]) }, Account{Life: o.info().Life(), Mark: "a"}, false)
		type flight struct {
			k  *Key
			at look
			n  int64
			as int // exchanges that the target had executed then
		}
		var open []flight
		needed := 0 // exchanges that the target must have
		for range 1 + rng.IntN(30) {
			if len(open) > 0 && rng.IntN(2) == 0 {
				i := rng.IntN(len(open))
				f := open[i]
				open = append(open[:i], open[i+1:]...)
				if err := l.numbered(f.at, f.k.DB, f.n, false); err != nil {
					t.Fatalf("number %d of database %d: %v", f.n, f.k.DB, err)
				}
				f.k.life, f.k.mark, f.k.number = f.at.life, f.at.mark, f.n
				if keep := l.give([]*Key{f.k}, func(*Key) bool { return false }); len(keep) > 0 {
					t.Fatal("a key of this life must not be given up")
				}
				needed = max(needed, f.as)
				continue
			}
			k := &Key{Key: slotlock.Key{DB: rng.IntN(3), Name: string(rune('a' + rng.IntN(20)))}, Step: Unlink}
			at := l.before(o.info().Life(), k.DB)
			next := map[int]int64{}
			for db, n := range o.now() {
				next[db] = n
			}
			next[k.DB]++
			o.marks = append(o.marks, next)
			open = append(open, flight{k, at, next[k.DB], len(o.marks) - 1})
		}
		a, _ := l.Account()
		if rng.IntN(2) == 0 { // a gateway that is started anew knows as much
			l = NewLedger(l.slot, a, false)
		}
		has := rng.IntN(len(o.marks))
		o.life, o.marks = 2, o.marks[:has+1]
		if err := l.Meet(t.Context(), o.info(), o.read); err != nil {
			t.Fatal(err)
		}
		if lost := has < needed; lost != (l.Forgot() != nil) {
			t.Fatalf("the target has %d exchanges of the %d that it must have: %v", has, needed, l.Forgot())
		} else if lost {
			forgotten++
			if !joberr.IsForgot(l.Forgot()) || !l.Doubtful() {
				t.Fatalf("%v", l.Forgot())
			}
		} else {
			whole++
		}
		for _, f := range open { // what the former life has answered says nothing of this one
			f.k.life, f.k.mark, f.k.number = f.at.life, f.at.mark, f.n
			if keep := l.give([]*Key{f.k}, func(*Key) bool { return false }); len(keep) != 1 {
				t.Fatal("a key is given up by the word of a former life")
			}
		}
	}
	if forgotten < 100 || whole < 100 {
		t.Errorf("%d of the targets had forgotten and %d not: that tests too little", forgotten, whole)
	}
}

// TestLedgerWithoutNumbers: where a server does not count, or nothing is known of what it had counted,
// another life is not believed; a later number is good for what came before it.
func TestLedgerWithoutNumbers(t *testing.T) {
	one, two := link.Info{RunID: "one"}, link.Info{RunID: "two"}
	reads := func(n int64) func(context.Context, string, int) (int64, error) {
		return func(context.Context, string, int) (int64, error) { return n, nil }
	}
	begin := func(lost bool) *Ledger {
		return NewLedger(func([]byte) int { return 7 }, Account{Life: one.Life(), Mark: "m"}, lost)
	}
	give := func(l *Ledger, number int64) {
		l.give([]*Key{{Key: slotlock.Key{Name: "k"}, Step: Unlink, Trace: Trace{life: one.Life(), mark: "m", number: number}}}, nil)
	}
	for _, c := range []struct {
		name   string
		l      func() *Ledger
		mark   int64
		forgot bool
	}{
		{"nothing was given up", func() *Ledger { return begin(false) }, 0, false},
		{"what was given up is not known", func() *Ledger { return begin(true) }, 9, true},
		{"without a number", func() *Ledger { l := begin(false); give(l, 0); return l }, 9, true},
		{"a number since", func() *Ledger {
			l := begin(false)
			give(l, 0)
			at := l.before(one.Life(), 0)
			if err := l.numbered(at, 0, 5, false); err != nil {
				t.Fatal(err)
			}
			give(l, 5)
			return l
		}, 5, false},
		{"a number asked for before", func() *Ledger {
			l := begin(false)
			at := l.before(one.Life(), 0)
			give(l, 0)
			if err := l.numbered(at, 0, 5, false); err != nil {
				t.Fatal(err)
			}
			give(l, 5)
			return l
		}, 5, true},
	} {
		l := c.l()
		if err := l.Meet(t.Context(), two, reads(c.mark)); err != nil || (l.Forgot() != nil) != c.forgot {
			t.Errorf("%s: %v, %v", c.name, l.Forgot(), err)
		}
	}
	l := begin(false)
	give(l, 5)
	failed := errors.New("no answer")
	if err := l.Meet(t.Context(), two, func(context.Context, string, int) (int64, error) { return 0, failed }); err != failed || l.Forgot() != nil {
		t.Errorf("a target that can't be asked: %v, %v", err, l.Forgot())
	}
}

// TestLedgerWhereDataGoesAway: of a process that goes on, the number falls; that is a loss unless the
// gateway's own FLUSHALL came between, or the server evicts.
func TestLedgerWhereDataGoesAway(t *testing.T) {
	one := link.Info{RunID: "one"}
	for name, c := range map[string]struct {
		between func(*Ledger)
		evicts  bool
		forgot  bool
	}{
		"removed":                {func(*Ledger) {}, false, true},
		"evicted":                {func(*Ledger) {}, true, false},
		"flushed by the gateway": {func(l *Ledger) { l.Renew("other") }, false, false},
	} {
		l := NewLedger(func([]byte) int { return 7 }, Account{Life: one.Life(), Mark: "m"}, false)
		l.give([]*Key{{Key: slotlock.Key{Name: "k"}, Trace: Trace{life: one.Life(), mark: "m", number: 5}}}, nil)
		c.between(l)
		at := l.before(one.Life(), 0)
		err := l.numbered(at, 0, 1, c.evicts)
		if (err != nil) != c.forgot || (l.Forgot() != nil) != c.forgot {
			t.Errorf("%s: %v", name, err)
		}
		if c.forgot && !strings.Contains(err.Error(), "given up 1 keys of slot 7; up to 1 of them, of slot 7, are lost") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLedgerEstimate stays an upper bound, however many exchanges there were.
func TestLedgerEstimate(t *testing.T) {
	one := link.Info{RunID: "one"}
	l := NewLedger(func([]byte) int { return 7 }, Account{Life: one.Life(), Mark: "m"}, false)
	const n = 20 * maxSamples
	for i := range int64(n) {
		l.give([]*Key{{Key: slotlock.Key{Name: "k"}, Trace: Trace{life: one.Life(), mark: "m", number: i + 1}}}, nil)
	}
	if len(l.samples[0]) > maxSamples {
		t.Errorf("%d samples are kept", len(l.samples[0]))
	}
	l.forgets("", map[int]int64{0: n - 100})
	var given, lost int
	text := l.forgot.Error()
	if _, err := fmt.Sscanf(text[strings.Index(text, "given up"):], "given up %d keys of slot 7; up to %d of them", &given, &lost); err != nil || given != n || lost < 100 || lost > n/2 {
		t.Errorf("%d, %d, %v: %s", given, lost, err, text)
	}
}
