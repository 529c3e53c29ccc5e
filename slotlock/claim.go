package slotlock

// TryLock locks a key for the mover if nobody holds it.
func (t *Table) TryLock(k Key) bool {
	ok, _ := t.Claim(k)
	return ok
}

// Claim is TryLock that tells of a key which it could not have whether commands use it at
// the source; else the mover itself has it in another hand.
func (t *Table) Claim(k Key) (ok, inUse bool) {
	s := t.shard(t.secrets.ofKey(k))
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[k]; e != nil {
		return false, e.shared > 0
	}
	s.enter(k, locked)
	return true, false
}

// Want asks for a key that TryLock could not have: newcomers wait from now on, and when
// its holders are done it is locked and appears among the touched keys. Unwant ends the
// wait. False if the key is locked or wanted already, which serves as well.
func (t *Table) Want(k Key) bool {
	s := t.shard(t.secrets.ofKey(k))
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[k]
	if e == nil {
		s.enter(k, locked)
		t.touch(k)
		return true
	}
	if e.state != sharedOnly {
		return false
	}
	e.state = wanted
	return true
}

// Unwant gives up on a key that is still wanted, so that a slow command at the source
// makes no convoy: those who queued behind the wish ask again. True if it was so; a key
// wanted by a client as well stays wanted.
func (t *Table) Unwant(k Key) bool {
	s := t.shard(t.secrets.ofKey(k))
	s.mu.Lock()
	e := s.entries[k]
	if e == nil || e.state != wanted || e.client {
		s.mu.Unlock()
		return false
	}
	e.state = sharedOnly
	woken := e.waiters
	e.waiters = nil
	s.mu.Unlock()
	t.wake(k, woken, Wait)
	return true
}
