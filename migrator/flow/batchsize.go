package flow

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// BatchSize steers the size of batches so that a lock is held for about the target time:
// additive increase, multiplicative decrease.
//
//	hold = what it takes to be heard at both ends + what the keys take
//	       └─ fixed: far servers, a busy machine ─┘  └─ n × work ─┘
//
// Smaller batches make only the second part smaller. The first is not counted, or else a
// busy machine would have its keys moved one by one, each held just as long. There is an end
// to that: a batch that exceeds the target counts as slow, for any reason.
//
// It goes by the median of the last holds: on a machine with more to do than cores some take
// long whatever is in them.
type BatchSize struct {
	target time.Duration // of lock holds
	most   int64

	keys atomic.Int64 // written under mu, read by anybody

	mu    sync.Mutex // protects all below
	last  [5]time.Duration
	n     int
	heard int           // n from which they tell what came of the last decrease
	fixed time.Duration // what a batch of next to nothing takes
}

const (
	firstBatch = 16
	smallBatch = 4
)

// NewBatchSize is for locks held for about so long, and batches of so many keys at most.
func NewBatchSize(target time.Duration, most int) *BatchSize {
	s := &BatchSize{target: target, most: int64(most)}
	s.keys.Store(firstBatch)
	return s
}

// Keys is how many keys the next batch should have.
func (s *BatchSize) Keys() int64 { return s.keys.Load() }

// Held tells how long the locks of a batch of n keys have been held.
func (s *BatchSize) Held(held time.Duration, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := s.keys.Load()
	s.last[s.n%len(s.last)] = held
	s.n++
	last := s.last // a copy
	slices.Sort(last[:])
	median := last[len(last)/2]
	if n <= smallBatch || median < s.fixed {
		s.fixed = min(s.fixed+(median-s.fixed)/8, s.target)
	}
	most := s.fixed + s.target
	switch {
	case median > most && (s.n >= s.heard || median > 3*most):
		s.keys.Store(max(1, size*2/3))
		s.heard = s.n + len(s.last)
	case median > most: // the last decrease has not been felt by most of them
	case median < s.fixed+s.target*2/3 && n >= int(size):
		s.keys.Store(min(s.most, size+1+size/16))
	}
}
