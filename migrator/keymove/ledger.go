package keymove

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"keyferry/internal/topology"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
)

// Ledger knows what the target of a move must have, and finds out when it does not.
//
// Each exchange that brings keys ends with INCR of a key of the gateway's own in the same
// database, the mark. So the target numbers the exchanges itself, in the order in which it
// executes them:
//
//	RESTORE a, RESTORE b, INCR mark ─► 7      RESTORE c, INCR mark ─► 8
//	              source gives up a and b (7), then c (8)
//
// A restart, a failover and a reload leave a beginning of that order: a snapshot, an append-only
// file and a replica all are one. So a mark that is no lower than the number behind which the
// source gave up a key last proves that the target has all that it was given. A lower one, or none,
// proves that it has forgotten: nothing more is given up then, and the job waits for an operator.
//
// Invariant: a number is in given before the UNLINK behind it is sent, and is taken only of the
// life of the target that gave it.
type Ledger struct {
	slot func(name []byte) int // of a key

	mu       sync.Mutex // protects what follows; never held across I/O
	life     string     // of the target that has all that was given up; "": not known yet
	mark     string     // name of the key
	former   []string   // that it had before, and that may be left somewhere
	given    map[int]int64
	unproven int               // times that a key was given up whose exchange has no number
	proven   int               // … of them, up to which a later number covers
	total    int64             // keys given up, by this process
	samples  map[int][]sample  // by database, for an estimate of what is missing
	slots    map[int]givenSlot // in which keys were given up
	name     []byte            // scratch, for slot
	changes  int64             // of what Account gives
	forgot   error             // why nothing is given up; nil: all is well
	doubtful bool              // it has forgotten once: what it has beside the source is not believed
}

// sample is how many keys were given up behind a number, or some up to it.
type sample struct{ number, keys int64 }

// givenSlot is how many keys of a slot were given up, and behind which number last.
type givenSlot struct {
	keys   int64
	db     int
	number int64
}

// maxFormer bounds the names of marks that are remembered to be removed.
const maxFormer = 100

// maxSamples bounds how much is remembered for the estimate.
const maxSamples = 512

// Account is what of a Ledger outlives the process.
type Account struct {
	Life     string   `json:"life"`
	Mark     string   `json:"mark"`
	Former   []string `json:"former,omitempty"`
	Given    string   `json:"given,omitempty"` // numbers by database: "0:12 3:7"
	Doubtful bool     `json:"doubtful,omitempty"`
}

// Marks are the names of all keys that a Ledger has had at its target.
func (a Account) Marks() []string { return append(slices.Clone(a.Former), a.Mark) }

// NewLedger goes on with the account of a former process, or begins one.
//
// lost: there was one, and it is not known any more, so that another life of the target proves nothing.
func NewLedger(slot func([]byte) int, a Account, lost bool) *Ledger {
	l := &Ledger{slot: slot, life: a.Life, mark: a.Mark, former: a.Former, doubtful: a.Doubtful, given: make(map[int]int64), samples: make(map[int][]sample), slots: make(map[int]givenSlot)}
	if lost {
		l.unproven = 1
	}
	for _, part := range strings.Fields(a.Given) {
		db, n, _ := strings.Cut(part, ":")
		i, err := strconv.Atoi(db)
		number, err2 := strconv.ParseInt(n, 10, 64)
		if err == nil && err2 == nil {
			l.given[i] = number
		}
	}
	return l
}

// Account gives what is to be stored; changes tells whether that is anything new.
func (l *Ledger) Account() (a Account, changes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var given []string
	for _, db := range slices.Sorted(maps.Keys(l.given)) {
		given = append(given, fmt.Sprintf("%d:%d", db, l.given[db]))
	}
	return Account{l.life, l.mark, slices.Clone(l.former), strings.Join(given, " "), l.doubtful}, l.changes
}

// Forgot says why nothing is given up any more; nil: the target has all, as far as is known.
func (l *Ledger) Forgot() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.forgot
}

// Doubtful reports that what the target has of a key that has not moved may be from before the job.
func (l *Ledger) Doubtful() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doubtful
}

// Accept is an operator's word that the job goes on with what the target has, which is looked at
// once more: its data may have been brought back. mark is a new name.
func (l *Ledger) Accept(ctx context.Context, i link.Info, read markReader, mark string) error {
	l.mu.Lock()
	name, need, unproven := l.mark, maps.Clone(l.given), l.blind()
	l.mu.Unlock()
	has, err := readMarks(ctx, name, need, read)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgot, l.life = nil, i.Life()
	l.doubtful = unproven || !covers(has, l.given)
	l.begin(mark)
	l.total, l.slots = 0, make(map[int]givenSlot)
	return nil
}

// blind reports that no mark can prove that the target has all. mu is held.
func (l *Ledger) blind() bool {
	return l.unproven > l.proven || len(l.given) == 0 && l.total > 0
}

// readMarks gives the marks of the databases of need.
func readMarks(ctx context.Context, name string, need map[int]int64, read markReader) (map[int]int64, error) {
	has := make(map[int]int64)
	for db := range need {
		n, err := read(ctx, name, db)
		if err != nil {
			return nil, err
		}
		has[db] = n
	}
	return has, nil
}

// covers reports that marks prove what was given.
func covers(has, given map[int]int64) bool {
	for db, n := range given {
		if h, asked := has[db]; !asked || h < n {
			return false
		}
	}
	return true
}

// Renew begins a new mark when somebody was let in who may have removed the old one, such as
// FLUSHALL through the gateway: nobody is between two steps of a key then.
func (l *Ledger) Renew(mark string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.forgot == nil {
		l.begin(mark)
	}
}

// begin forgets all numbers. mu is held.
func (l *Ledger) begin(mark string) {
	l.former = append(l.former, l.mark)
	l.former = l.former[max(0, len(l.former)-maxFormer):]
	l.mark, l.given, l.samples = mark, make(map[int]int64), make(map[int][]sample)
	l.unproven, l.proven = 0, 0
	l.changes++
}

// look is what has to be known of an exchange before it is sent, to understand its number.
type look struct {
	life     string
	mark     string
	atLeast  int64 // the number will be higher
	unproven int
}

// before notes what has been given up until now in a database.
func (l *Ledger) before(life string, db int) look {
	l.mu.Lock()
	defer l.mu.Unlock()
	return look{life, l.mark, l.given[db], l.unproven}
}

// numbered is told the number that an exchange was given. An error: the mark has been removed or set
// back, and with it most likely all that the source gave up. A target that evicts may drop the
// mark by itself.
func (l *Ledger) numbered(at look, db int, number int64, evicts bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.forgot != nil:
		return l.forgot
	case at.life != l.life || at.mark != l.mark: // it says nothing of what counts now
		return nil
	case number > at.atLeast:
		l.proven = max(l.proven, at.unproven)
		return nil
	case evicts:
		l.given[db], l.samples[db] = number-1, nil
		l.changes++
		return nil
	}
	l.forgets(removed, map[int]int64{db: number - 1})
	return l.forgot
}

// give notes, before UNLINK is sent, that the source is about to give keys up, and returns those that
// it must not: what was known of them is of another life of the target. mayGo are those of which the
// source has garbage, whatever the target has.
func (l *Ledger) give(moves []*Key, mayGo func(*Key) bool) (keep []*Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, mv := range moves {
		switch {
		case mv.unlinked: // it is noted
		case l.forgot == nil && mv.life == l.life:
			l.note(mv)
		case !mayGo(mv):
			keep = append(keep, mv)
		}
	}
	return keep
}

// note enters one key. mu is held.
func (l *Ledger) note(mv *Key) {
	number := mv.number
	if mv.mark != l.mark || number == 0 {
		number = math.MaxInt64 // no mark of this one will ever cover it
		l.unproven++
	} else if number > l.given[mv.DB] {
		l.given[mv.DB] = number
		l.changes++
	}
	l.total++
	l.name = append(l.name[:0], mv.Name...)
	slot := l.slot(l.name)
	s := l.slots[slot]
	s.keys++
	if number >= s.number || s.db != mv.DB {
		s.db, s.number = mv.DB, number
	}
	l.slots[slot] = s
	l.sample(mv.DB, number)
}

// sample counts a key behind a number. mu is held.
func (l *Ledger) sample(db int, number int64) {
	list := l.samples[db]
	if n := len(list); n > 0 && list[n-1].number == number {
		list[n-1].keys++
		return
	}
	if list = append(list, sample{number, 1}); len(list) > maxSamples { // two are one: the estimate grows
		rest := list[:0]
		for pair := range slices.Chunk(list, 2) {
			s := pair[0]
			for _, other := range pair[1:] {
				s = sample{max(s.number, other.number), s.keys + other.keys}
			}
			rest = append(rest, s)
		}
		list = rest
	}
	l.samples[db] = list
}

// markReader gives the mark of a database; 0: there is none.
type markReader func(ctx context.Context, name string, db int) (int64, error)

// Meet judges a target by what it said of itself when a connection to it was made. Errors are
// those of read.
func (l *Ledger) Meet(ctx context.Context, i link.Info, read markReader) error {
	l.mu.Lock()
	forgot, same := l.forgot != nil, i.Life() == l.life
	if !forgot && l.life == "" {
		l.life = i.Life()
		l.changes++
		same = true
	}
	l.mu.Unlock()
	if forgot || same {
		return nil
	}
	return l.Look(ctx, i, read)
}

// Look compares the target's marks with what it was given, whatever it says of itself.
func (l *Ledger) Look(ctx context.Context, i link.Info, read markReader) error {
	l.mu.Lock()
	life, mark, need, blind := l.life, l.mark, maps.Clone(l.given), l.blind()
	l.mu.Unlock()
	has, err := readMarks(ctx, mark, need, read)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	other := i.Life() != life
	switch {
	case l.life != life || l.mark != mark || l.forgot != nil: // others were faster
	case covers(has, need) && !(other && (blind || !covers(has, l.given))):
		if other {
			l.life = i.Life()
			l.changes++
		}
	case other:
		l.forgets(fmt.Sprintf("its server was restarted, reloaded or replaced (%s, was %s)", short(i.Life()), short(life)), has)
	case !evicts(i):
		l.forgets(removed, has)
	}
	return nil
}

// removed is how a target forgets without another life.
const removed = "its data was removed or replaced while its process went on (FLUSHALL, FLUSHDB, a reload)"

// evicts reports that a server may drop the mark by itself.
func evicts(i link.Info) bool { return i.MaxBytes > 0 && strings.HasPrefix(i.Policy, "allkeys") }

// short is as much of a life as tells it from another.
func short(life string) string {
	run, repl, _ := strings.Cut(life, "/")
	return "run id " + run[:min(len(run), 8)] + ", replication id " + repl[:min(len(repl), 8)]
}

// forgets notes that the target lacks what came behind the numbers that it has. mu is held.
func (l *Ledger) forgets(how string, has map[int]int64) {
	l.doubtful = true
	l.changes++
	var missing int64
	for db, list := range l.samples {
		for _, s := range list {
			if s.number > has[db] {
				missing += s.keys
			}
		}
	}
	var all, lost []int
	for slot, s := range l.slots {
		all = append(all, slot)
		if s.number > has[s.db] {
			lost = append(lost, slot)
		}
	}
	text := fmt.Sprintf("the target does not have all that it was given: %s. ", how)
	switch {
	case l.total == 0:
		text += "Which keys the source had given up before the gateway started is not known"
	case missing == 0:
		text += fmt.Sprintf("The source has given up %d keys of %s; whether the target still has the last of them can't be told", l.total, slotsText(all))
	default:
		text += fmt.Sprintf("The source has given up %d keys of %s; up to %d of them, of %s, are lost", l.total, slotsText(all), missing, slotsText(lost))
	}
	l.forgot = joberr.At(joberr.Target, &joberr.ForgotError{Text: text})
}

// slotsText names slots as an operator would.
func slotsText(slots []int) string {
	slices.Sort(slots)
	var ranges []topology.Range
	for _, s := range slots {
		if n := len(ranges); n > 0 && ranges[n-1].Last+1 == s {
			ranges[n-1].Last = s
			continue
		}
		ranges = append(ranges, topology.Range{First: s, Last: s})
	}
	const most = 8
	text := topology.FormatRanges(ranges[:min(len(ranges), most)])
	if len(ranges) > most {
		text += ", …"
	}
	if len(slots) == 1 {
		return "slot " + text
	}
	return fmt.Sprintf("%d slots (%s)", len(slots), text)
}
