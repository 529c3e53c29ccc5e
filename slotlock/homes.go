package slotlock

import (
	"github.com/bits-and-blooms/bloom/v3"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// homes remembers which keys' home is the target: a Bloom filter whose miss is certain,
// and an exact memory of the latest so that a hit seldom costs a look at the source.
//
// A Bloom filter can't grow, so it is a list of them, each twice as large as the one
// before (scalable Bloom filter, Almeida et al. 2007, with one error rate for all).
type homes struct {
	layers []*bloom.BloomFilter
	room   int // keys that the newest layer still takes
	size   int // keys that the newest layer was made for
	fp     float64
	recent *simplelru.LRU[Key, struct{}]
}

const minLayerKeys = 1024

func (h *homes) init(expect int, fp float64, recent int) {
	if fp <= 0 || fp >= 1 {
		fp = 1e-9
	}
	h.fp = fp
	h.size = max(expect, minLayerKeys)
	lru, err := simplelru.NewLRU[Key, struct{}](max(recent, 16), nil)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	h.recent = lru
}

func (h *homes) add(k Key, tagged []byte) {
	h.recent.Add(k, struct{}{})
	if h.maybeTarget(tagged) {
		return
	}
	if h.room == 0 {
		if len(h.layers) > 0 {
			h.size *= 2
		}
		h.layers = append(h.layers, bloom.NewWithEstimates(uint(h.size), h.fp))
		h.room = h.size
	}
	h.layers[len(h.layers)-1].Add(tagged)
	h.room--
}

// maybeTarget is false only for keys that were never added.
func (h *homes) maybeTarget(tagged []byte) bool {
	for i := len(h.layers) - 1; i >= 0; i-- {
		if h.layers[i].Test(tagged) {
			return true
		}
	}
	return false
}

// certainlyTarget is true only for keys that were added.
func (h *homes) certainlyTarget(k Key) bool {
	_, ok := h.recent.Get(k)
	return ok
}
