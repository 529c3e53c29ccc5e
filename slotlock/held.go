package slotlock

// HeldKey is one key that is locked, wanted or in use, as Held saw it.
type HeldKey struct {
	Key     Key
	State   string // in use, wanted, locked
	Shared  int    // commands in flight at the source
	Waiters int    // event loops that wait for it
	Client  bool   // locked or wanted because a client asked for it
}

// Held lists up to n keys that somebody has or wants, in no order; those that somebody
// waits for come first. It locks one shard after the other, so that the list is not of
// one instant.
func (t *Table) Held(n int) []HeldKey {
	var waited, others []HeldKey
	for _, s := range t.locked() {
		for k, e := range s.entries {
			h := HeldKey{k, [...]string{"in use", "wanted", "locked"}[e.state], e.shared, len(e.waiters), e.client}
			if len(e.waiters) > 0 || e.state != sharedOnly {
				if len(waited) < n {
					waited = append(waited, h)
				}
			} else if len(others) < n {
				others = append(others, h)
			}
		}
	}
	all := append(waited, others...)
	return all[:min(n, len(all))]
}
