package pubsub

import (
	"bytes"
	"strconv"
	"sync"
	"time"

	"keyferry/router"
	"keyferry/slotlock"
)

// Keyspace events are the servers' own, and no client has done what they tell of a move:
// "restore" at its target, "del" at its source and wherever else something is left over. Such
// messages end here. What the mover has dealt with lately is remembered, so that a client's own
// RESTORE and DEL are told apart from that. A key that expires while it is at both ends is told of once.

// endedMove is a job that has ended: its last messages may come after its slots have become
// stable.
type endedMove struct {
	recent *slotlock.Recent
	at     time.Time
}

// Bounds of what is remembered of ended jobs. A message that comes later than that is shown to
// clients, which is a surplus event and no harm: events may be lost and doubled anyway.
const (
	endedMovesMax = 8
	endedMoveFor  = 5 * time.Second
)

// Moves is what tells the messages of moves apart from those of clients' commands. The control
// plane's goroutine tells it of each new table; the feeds ask it.
type Moves struct {
	mu    sync.Mutex // protects both, which must change together
	table *router.Table
	ended []endedMove // jobs of tables before, oldest first
}

// NewMoves begins with the first table.
func NewMoves(t *router.Table) *Moves { return &Moves{table: t} }

// Follow takes the next table, and remembers the jobs that the present one has and the next one has
// not: what they have done last can still be on its way here when their slots are stable again.
func (x *Moves) Follow(next *router.Table, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ongoing := make(map[string]bool)
	for _, j := range next.Jobs {
		ongoing[j.ID] = true
	}
	var kept []endedMove
	for _, m := range x.ended {
		if now.Sub(m.at) < endedMoveFor {
			kept = append(kept, m)
		}
	}
	for _, j := range x.table.Jobs {
		if !ongoing[j.ID] && j.Locks != nil {
			kept = append(kept, endedMove{j.Locks.Recent(), now})
		}
	}
	x.ended, x.table = kept[max(0, len(kept)-endedMovesMax):], next
}

// Of reports whether a message from a group tells of a move, and not of what a client did.
//
//	the gateway's own keys      never shown
//	del at the source of a move, restore at its target: of the mover, if it has dealt with the key lately
//	expired at either           of the mover, if the other end has said so of the same value
//	anything where no client's command runs
func (x *Moves) Of(group string, channel, payload []byte) bool {
	if !bytes.HasPrefix(channel, []byte("__key")) {
		return false
	}
	key, event, ok := keyspaceEvent(channel, payload)
	switch {
	case !ok:
		return false
	case router.Reserved([]byte(key.Name)):
		return true
	case event != "del" && event != "restore" && event != "expired":
		return false
	}
	x.mu.Lock()
	t, ended := x.table, x.ended
	x.mu.Unlock()
	slot := t.Slots[t.Scheme.Slot([]byte(key.Name))]
	is := func(g int16) bool { return g >= 0 && t.Groups[g].ID == group }
	switch {
	case slot.Target >= 0 && slot.Job < 0: // a peer moves it, which alone knows with which keys it deals
		return is(slot.Target) && event == "restore"
	case event == "expired":
		return slot.Target >= 0 && t.Jobs[slot.Job].Locks != nil && t.Jobs[slot.Job].Locks.Expiring().Again(key, group)
	case slot.Target >= 0 && (is(slot.Owner) && event == "del" || is(slot.Target) && event == "restore"):
		locks := t.Jobs[slot.Job].Locks
		return locks != nil && locks.Recent().Has(key)
	case is(slot.Owner) && event == "restore":
		for _, m := range ended {
			if time.Since(m.at) < endedMoveFor && m.recent.Has(key) {
				return true
			}
		}
		return false
	}
	return slot.Owner >= 0 && !is(slot.Owner) && !is(slot.Target) // no client's command runs here
}

// keyspaceEvent takes a message on __keyspace@<db>__:<key> or __keyevent@<db>__:<event> apart.
func keyspaceEvent(channel, payload []byte) (key slotlock.Key, event string, ok bool) {
	kind, rest, _ := bytes.Cut(channel, []byte("@"))
	number, name, ok := bytes.Cut(rest, []byte("__:"))
	db, err := strconv.Atoi(string(number))
	if !ok || err != nil {
		return key, "", false
	}
	switch string(kind) {
	case "__keyspace":
		return slotlock.Key{DB: db, Name: string(name)}, string(payload), true
	case "__keyevent":
		return slotlock.Key{DB: db, Name: string(payload)}, string(name), true
	}
	return key, "", false
}
