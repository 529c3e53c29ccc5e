package slotlock

import "sync"

// Expiring are keys in motion that may expire meanwhile. Between its RESTORE and its UNLINK such a key
// is at both ends, each of which expires its own copy and says so; and a RESTORE that comes too late
// makes no copy, so that only the source says it. A key expires once: of its two ends, the one that
// is heard first has the word. It is safe for concurrent use.
//
// Invariant: a key is here only while it is locked, so that all of this is about one value of it. Who
// locks it unlocks it when what both ends had to say has been heard.
type Expiring struct {
	mu sync.Mutex     // protects by
	by map[Key]string // who has said that it has expired; "" before
}

// Enter is for before the RESTORE.
func (x *Expiring) Enter(k Key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.by == nil {
		x.by = make(map[Key]string)
	}
	if _, have := x.by[k]; !have {
		x.by[k] = ""
	}
}

// Again reports that a group says of a key that it has expired, of which another one has said so.
func (x *Expiring) Again(k Key, group string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	first, have := x.by[k]
	if have && first == "" {
		x.by[k] = group
	}
	return have && first != "" && first != group
}

// Leave is for before the key is unlocked. A key that did not enter may leave.
func (x *Expiring) Leave(k Key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.by, k)
}

// Expiring are those of the table's keys.
func (t *Table) Expiring() *Expiring { return &t.expiring }
