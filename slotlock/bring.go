package slotlock

// Bring is Resolve for a command that had better run at the target, though the source
// would do: one that blocks. While the target is away, a key that has certainly not been
// moved is left to those who use it at the source, and so is the command.
func (t *Table) Bring(db int, name []byte, w Waiter) Verdict {
	if t.away.Load() {
		s := t.shard(db, name)
		s.mu.Lock()
		e := s.entries[Key{db, string(name)}]
		if !s.frozen && (e == nil || e.state == sharedOnly) && s.mode == Filtered && !s.homes.maybeTarget(s.tagged(db, name)) {
			if e == nil {
				e = &entry{}
				s.entries[Key{db, string(name)}] = e
			}
			e.shared++
			t.holds.Add(1)
			s.mu.Unlock()
			return Source
		}
		s.mu.Unlock()
	}
	return t.Resolve(db, name, w)
}

// SetAway says whether the target can be reached, as far as the mover knows.
func (t *Table) SetAway(away bool) { t.away.Store(away) }
