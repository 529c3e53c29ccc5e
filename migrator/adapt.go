package migrator

import (
	"slices"
	"sync"
	"time"
)

// recentHolds is how long the locks of batches have been held of late. Their median counts:
// on a machine with more to do than cores some take long whatever is in them.
type recentHolds struct {
	mu    sync.Mutex // protects all below
	last  [5]time.Duration
	n     int
	heard int           // n from which they tell what came of the last decrease
	fixed time.Duration // what a batch of next to nothing takes
}

const smallBatch = 4

// adapt steers the size of batches so that a lock is held for about the target time:
// additive increase, multiplicative decrease.
//
//	hold = what it takes to be heard at both ends + what the keys take
//	       └─ fixed: far servers, a busy machine ─┘  └─ n × work ─┘
//
// Smaller batches make only the second part smaller. The first is not counted, or else a
// busy machine would have its keys moved one by one, each held just as long. There is an end
// to that: what takes longer than the target is slow, whyever.
func (m *mover) adapt(held time.Duration, n int) {
	h, size, target := &m.holds, m.batch.Load(), m.cfg.LockHoldTarget
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last[h.n%len(h.last)] = held
	h.n++
	last := h.last // a copy
	slices.Sort(last[:])
	median := last[len(last)/2]
	if n <= smallBatch || median < h.fixed {
		h.fixed = min(h.fixed+(median-h.fixed)/8, target)
	}
	most := h.fixed + target
	switch {
	case median > most && (h.n >= h.heard || median > 3*most):
		m.batch.Store(max(1, size*2/3))
		h.heard = h.n + len(h.last)
	case median > most: // the last decrease has not been felt by most of them
	case median < h.fixed+target*2/3 && n >= int(size):
		m.batch.Store(min(int64(m.cfg.BatchMaxKeys), size+1+size/16))
	}
}
