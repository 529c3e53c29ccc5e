package migrator

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"keyferry/migrator/keymove"
)

// undecided are the keys that the mover has locked and not decided yet, as far as others than
// the worker that moves them must know of them.
//
// Invariant: a key whose move breaks off before a final step is in pending until a resolver
// takes it up again, and in doubts until its place is proven; its lock is held all the while.
type undecided struct {
	mu        sync.Mutex                // protects all below; never held across I/O
	pending   []*keymove.Key            // in doubt, or not yet unlinked; locked
	doubts    map[*keymove.Key]struct{} // that were pending and are not decided yet
	batches   map[int64]*keymove.Key    // one key of each batch that is locked
	nextBatch int64

	bell chan struct{} // capacity 1: pending gained a key
}

// newUndecided has nothing locked.
func newUndecided() undecided {
	return undecided{batches: make(map[int64]*keymove.Key), doubts: make(map[*keymove.Key]struct{}), bell: make(chan struct{}, 1)}
}

// add leaves keys to the resolvers.
func (u *undecided) add(moves []*keymove.Key) {
	if len(moves) == 0 {
		return
	}
	u.mu.Lock()
	u.pending = append(u.pending, moves...)
	for _, mv := range moves {
		mv.Doubted = true
		u.doubts[mv] = struct{}{}
	}
	u.mu.Unlock()
	select {
	case u.bell <- struct{}{}:
	default:
	}
}

// claim gives all that is pending to a resolver.
func (u *undecided) claim() []*keymove.Key {
	u.mu.Lock()
	defer u.mu.Unlock()
	p := u.pending
	u.pending = nil
	return p
}

// decided takes a key off the list.
func (u *undecided) decided(mv *keymove.Key) {
	u.mu.Lock()
	delete(u.doubts, mv)
	u.mu.Unlock()
}

// inDoubt are the keys whose place is not proven at the moment.
func (u *undecided) inDoubt() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []string
	for mv := range u.doubts {
		out = append(out, mv.Name)
	}
	slices.Sort(out)
	return out
}

// locked notes that keys have been locked by the mover; over is to be called when what
// becomes of them has been decided or handed on.
func (u *undecided) locked(moves []*keymove.Key) (over func()) {
	if len(moves) == 0 {
		return func() {}
	}
	u.mu.Lock()
	u.nextBatch++
	id := u.nextBatch
	u.batches[id] = moves[0]
	u.mu.Unlock()
	return func() {
		u.mu.Lock()
		delete(u.batches, id)
		u.mu.Unlock()
	}
}

// oldestLock is the key that has been locked longest; its fields that are read never
// change.
func (u *undecided) oldestLock() (name string, since time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	older := func(mv *keymove.Key) {
		if since.IsZero() || mv.Since.Before(since) {
			name, since = fmt.Sprintf("%d/%s", mv.DB, mv.Name), mv.Since
		}
	}
	for _, mv := range u.batches {
		older(mv)
	}
	for _, mv := range u.pending {
		older(mv)
	}
	return name, since
}
