package migrator

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"keyferry/internal/topology"
)

// moverStats are the live numbers of one job.
type moverStats struct {
	keys, bytes  atomic.Int64 // restored at the target by us
	verified     atomic.Int64 // keys compared, and found the same
	differing    atomic.Int64 // … and found to differ
	unpaid       atomic.Int64 // bytes that the byte limit has not been told of
	scanned      atomic.Int64 // names seen by SCAN, of any slot
	touched      atomic.Int64 // keys moved because a client asked
	busy         atomic.Int64 // keys met in use
	stale        atomic.Int64 // copies of a restarted source dropped
	pass         atomic.Int64
	lastProgress atomic.Int64 // Unix ms
	farthest     int          // pages that a pass has got through since one was finished
	bigKeyBytes  int64
	bigKeys      atomic.Int64
	firstKeys    int64 // moved before this process took the job up
	firstBytes   int64
	rateKeys     atomic.Int64 // per second, over the last window
	windowKeys   int64
	windowAt     time.Time
	estimate     atomic.Int64 // keys that the job is thought to move, by this process

	sized func(bytes ...int) // hears of each key's size

	fenceErr atomic.Pointer[error] // why the former self is not fenced yet

	mu      sync.Mutex // protects what follows
	holds   *hdrhistogram.Histogram
	bigList []BigKey
	lastErr *topology.JobError
}

// BigKey is a key over the big-key threshold that was met.
type BigKey struct {
	DB    int    `json:"db"`
	Key   string `json:"key"`
	Bytes int    `json:"bytes"` // of its DUMP
}

const bigKeysKept = 20

func (s *moverStats) init(bigKeyBytes int64, sized func(bytes ...int)) {
	s.bigKeyBytes, s.sized = bigKeyBytes, sized
	s.holds = hdrhistogram.New(1, 3_600_000_000, 2) // µs
	s.windowAt = time.Now()
}

// moved counts keys that were restored at the target, and the bytes of their DUMPs.
func (s *moverStats) moved(keys, bytes int64) {
	if keys > 0 {
		s.keys.Add(keys)
		s.bytes.Add(bytes)
		s.unpaid.Add(bytes)
		s.lastProgress.Store(time.Now().UnixMilli())
	}
}

// met notes a key that was restored if it is big.
func (s *moverStats) met(mv *keyMove) {
	if int64(len(mv.dump)) < s.bigKeyBytes {
		return
	}
	s.bigKeys.Add(1)
	s.mu.Lock()
	if len(s.bigList) < bigKeysKept {
		s.bigList = append(s.bigList, BigKey{mv.key.DB, strings.Clone(mv.key.Name), len(mv.dump)})
	}
	s.mu.Unlock()
}

// reached says that a pass has got through so many pages. It is progress if none before it
// came as far: a job that always breaks off at the same place makes none.
func (s *moverStats) reached(pages int) {
	if pages > s.farthest {
		s.farthest = pages
		s.lastProgress.Store(time.Now().UnixMilli())
	}
}

// held notes how long n keys were locked.
func (s *moverStats) held(d time.Duration, n int64) {
	s.mu.Lock()
	_ = s.holds.RecordValues(max(d.Microseconds(), 1), n) // an hour and more counts as none
	s.mu.Unlock()
}

func (s *moverStats) note(e *topology.JobError) {
	s.mu.Lock()
	s.lastErr = e
	s.mu.Unlock()
}

// rate is keys per second since the last call that was at least a second ago.
func (s *moverStats) rate(now time.Time) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := now.Sub(s.windowAt); d >= time.Second {
		n := s.keys.Load()
		s.rateKeys.Store(int64(float64(n-s.windowKeys) / d.Seconds()))
		s.windowKeys, s.windowAt = n, now
	}
	return s.rateKeys.Load()
}
