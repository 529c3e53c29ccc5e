package migrator

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"keyferry/internal/topology"
	"keyferry/migrator/keymove"
)

// moverStats are the live numbers of one mover. Its goroutines write them, whoever asks for
// the job's status reads them, and so does the runner when it stores the job. They stay when
// the mover has ended, for as long as the job is remembered.
type moverStats struct {
	moved
	met
	rate     keyRate
	big      bigKeys
	holds    lockHolds
	resolver lastError // that the resolvers went on after

	sized func(bytes ...int) // hears of each key's size
}

// moved is how far the job has come.
type moved struct {
	keys, bytes  atomic.Int64 // restored at the target by us
	firstKeys    int64        // moved before this process took the job up; set before start
	firstBytes   int64
	estimate     atomic.Int64 // keys that the job is thought to move, by this process; 0: not known
	lastProgress atomic.Int64 // Unix ms
	farthest     int          // pages that a pass has got through since one was finished; of the pass's goroutine
	pass         atomic.Int64 // passes begun
}

// met is what workers have come by.
type met struct {
	scanned   atomic.Int64 // names seen by SCAN, of any slot
	touched   atomic.Int64 // keys moved because a client asked
	busy      atomic.Int64 // keys met in use
	stale     atomic.Int64 // copies of a restarted source dropped
	verified  atomic.Int64 // keys compared, and found the same
	differing atomic.Int64 // … and found to differ
}

// init comes before anything is counted.
func (s *moverStats) init(bigKeyBytes int64, sized func(bytes ...int)) {
	s.big.least, s.sized = bigKeyBytes, sized
	s.holds.us = hdrhistogram.New(1, 3_600_000_000, 2)
	s.rate.at = time.Now()
}

// total is what the job has moved, this process and those before it.
func (s *moved) total() (keys, bytes int64) {
	return s.firstKeys + s.keys.Load(), s.firstBytes + s.bytes.Load()
}

// add counts keys that were restored at the target, and the bytes of their DUMPs.
func (s *moved) add(keys, bytes int64) {
	if keys > 0 {
		s.keys.Add(keys)
		s.bytes.Add(bytes)
		s.lastProgress.Store(time.Now().UnixMilli())
	}
}

// reached says that a pass has got through so many pages. It is progress if none before it
// came as far: a job that always breaks off at the same place makes none.
func (s *moved) reached(pages int) {
	if pages > s.farthest {
		s.farthest = pages
		s.lastProgress.Store(time.Now().UnixMilli())
	}
}

// BigKey is a key over the big-key threshold that was met.
type BigKey struct {
	DB    int    `json:"db"`
	Key   string `json:"key"`
	Bytes int    `json:"bytes"` // of its DUMP
}

const bigKeysKept = 20

// bigKeys are those that were restored: how many, and the first of them.
type bigKeys struct {
	least int64 // bytes of a DUMP that make a key a big one; set before start
	count atomic.Int64

	mu   sync.Mutex // protects list
	list []BigKey   // at most bigKeysKept
}

// note notes a key that was restored if it is big.
func (b *bigKeys) note(mv *keymove.Key) {
	if int64(mv.Bytes()) < b.least {
		return
	}
	b.count.Add(1)
	b.mu.Lock()
	if len(b.list) < bigKeysKept {
		b.list = append(b.list, BigKey{mv.DB, strings.Clone(mv.Name), mv.Bytes()})
	}
	b.mu.Unlock()
}

func (b *bigKeys) all() []BigKey {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]BigKey(nil), b.list...)
}

// lockHolds is how long keys were locked.
type lockHolds struct {
	mu sync.Mutex // protects us
	us *hdrhistogram.Histogram
}

// note notes how long n keys were locked.
func (h *lockHolds) note(d time.Duration, n int64) {
	h.mu.Lock()
	_ = h.us.RecordValues(max(d.Microseconds(), 1), n) // an hour and more counts as none
	h.mu.Unlock()
}

func (h *lockHolds) quantiles() (p50, p99, most int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.us.ValueAtQuantile(50), h.us.ValueAtQuantile(99), h.us.Max()
}

// lastError is one that did not end anything.
type lastError struct {
	mu  sync.Mutex // protects err
	err *topology.JobError
}

func (l *lastError) note(e *topology.JobError) {
	l.mu.Lock()
	l.err = e
	l.mu.Unlock()
}

func (l *lastError) get() *topology.JobError {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// keyRate turns a count that grows into a rate.
type keyRate struct {
	mu   sync.Mutex // protects all below
	perS int64      // over the last window
	keys int64      // when the present window began
	at   time.Time  // that time
}

// of is keys per second since the last call that was at least a second ago.
func (r *keyRate) of(keys int64, now time.Time) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := now.Sub(r.at); d >= time.Second {
		r.perS = int64(float64(keys-r.keys) / d.Seconds())
		r.keys, r.at = keys, now
	}
	return r.perS
}
