package slotlock

import (
	"slices"
	"sync"
)

// Recent knows the keys that the mover has dealt with last: servers tell whoever listens of the
// RESTORE and UNLINK of a move as they do of a client's, and these are to be told apart. It is
// safe for concurrent use.
type Recent struct {
	secrets secrets
	shards  [shardCount]recentShard
}

// recentShard has those whose digests end alike.
type recentShard struct {
	mu   sync.Mutex // protects all below
	ring []digest   // of at most recentMax; the oldest is overwritten
	next int
}

// recentMax is how many keys each of the shards knows: half a MB in all, and some tenths of a
// second at the highest rates, within which a server's word of a move has come.
const recentMax = 512

func (r *Recent) add(k Key) {
	d := r.secrets.ofKey(k)
	s := &r.shards[d.lo%shardCount]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ring) < recentMax {
		s.ring = append(s.ring, d)
		return
	}
	s.ring[s.next] = d
	s.next = (s.next + 1) % recentMax
}

// Has reports whether a key is one of them.
func (r *Recent) Has(k Key) bool {
	d := r.secrets.ofKey(k)
	s := &r.shards[d.lo%shardCount]
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.ring, d)
}

func (r *Recent) clear() {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		s.ring, s.next = nil, 0
		s.mu.Unlock()
	}
}

// Handle notes that the mover is about to restore or to delete a key.
func (t *Table) Handle(k Key) { t.recent.add(k) }

// Recent are the keys for which Handle was called last.
func (t *Table) Recent() *Recent { return t.recent }
