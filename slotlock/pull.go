package slotlock

// Pull is Resolve for a command that had better run at the target, though the source
// would do: one that blocks. While the target is away, a key that has certainly not been
// moved is left to those who use it at the source, and so is the command.
func (t *Table) Pull(db int, name []byte, w Waiter) Verdict {
	if t.away.Load() { // only a hint: that it comes back meanwhile is no harm, the key is held
		d := t.secrets.of(db, name)
		s := t.shard(d)
		s.mu.Lock()
		e := s.entries[Key{db, string(name)}]
		if !s.frozen && (e == nil || e.state == sharedOnly) && s.mode == Filtered && !s.moved.has(d) {
			v := t.hold(s, e, Key{db, string(name)})
			s.mu.Unlock()
			return v
		}
		s.mu.Unlock()
	}
	return t.Resolve(db, name, w)
}

// SetAway says whether the target can be reached, as far as the mover knows.
func (t *Table) SetAway(away bool) { t.away.Store(away) }

// hold takes a shared hold of a key, whose entry is e if it has one. The shard is locked.
func (t *Table) hold(s *shard, e *entry, k Key) Verdict {
	if e == nil {
		e = s.enter(k, sharedOnly)
	}
	e.shared++
	t.holds.Add(1)
	return Source
}
