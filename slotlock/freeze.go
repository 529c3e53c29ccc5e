package slotlock

import "maps"

// Freeze lets nobody in: whoever asks waits until Thaw, and so do those whose key is decided
// meanwhile. It is for the moment in which a job is reversed: when the last command that was
// let in has been answered, Reverse can change what the table knows without anybody having been
// sent by what it knew before.
//
//	Freeze ─► Quiet? ─┬─ yes: Reverse ─► Thaw   everybody asks again
//	                  └─ not in time: Thaw      nothing has changed
//
// And for the moment in which a job of which nothing has moved ends:
//
//	Freeze ─► Still, and nothing committed? ─┬─ yes: AllSource ─► Thaw
//	                                         └─ no: Thaw
func (t *Table) Freeze() {
	for _, s := range t.locked() {
		s.frozen = true
	}
}

// Quiet reports that no key is held or locked, that none waits to be taken, and that all
// who were let in have been told so: the others wait. It stays so while the table is frozen
// and nobody calls TryLock or Want.
func (t *Table) Quiet() bool {
	// A key that is being committed is in no shard any more when its waiters hear of it: waking
	// counts those, and is raised before the shard lets go.
	return t.Still() && t.holds.Load() == 0 && t.waking.Load() == 0
}

// Still reports that no key is locked, or will be when its holders are done. It stays so
// while the table is frozen and nobody calls TryLock or Want.
func (t *Table) Still() bool {
	for _, s := range t.locked() {
		for e := range maps.Values(s.entries) {
			if e.state != sharedOnly {
				return false
			}
		}
	}
	return true
}

// Reverse forgets where keys live: of a quiet, frozen table, whose source and target change
// places. Every key is resolved at its next touch.
func (t *Table) Reverse(o Options) {
	for i, s := range t.locked() {
		s.mode = Resolve
		s.moved = movedSet{}
		s.moved.init(o.ExpectedKeys/shardCount, i)
	}
	t.recent.clear()
	t.away.Store(false)
}

// Thaw lets those who wait ask again.
func (t *Table) Thaw() {
	type waiting struct {
		k  Key
		ws []Waiter
	}
	var woken []waiting
	for _, s := range t.locked() {
		s.frozen = false
		for k, e := range s.entries {
			if e.state != sharedOnly || len(e.waiters) == 0 {
				continue
			}
			woken = append(woken, waiting{k, e.waiters})
			e.waiters = nil
			if e.shared == 0 {
				s.drop(k, e)
			}
		}
	}
	for _, w := range woken {
		t.wake(w.k, w.ws, Wait)
	}
}

// freezing makes w wait if the shard, which is locked, is frozen.
func (s *shard) freezing(k Key, w Waiter) bool {
	if !s.frozen {
		return false
	}
	e := s.entries[k]
	if e == nil {
		e = s.enter(k, sharedOnly)
	}
	e.addWaiter(w)
	return true
}

// keep lets those who wait for a key that has been decided wait on, if the shard, which is
// locked, is frozen. The key's entry is gone.
func (s *shard) keep(k Key, ws []Waiter) bool {
	if !s.frozen || len(ws) == 0 {
		return false
	}
	s.enter(k, sharedOnly).waiters = ws
	return true
}

// empty reports an entry that is there for nobody.
func (e *entry) empty() bool { return e.state == sharedOnly && e.shared == 0 && len(e.waiters) == 0 }
