package proxy

import (
	"bytes"
	"strconv"
	"time"

	"keyferry/router"
	"keyferry/slotlock"
)

// Keyspace events are the servers' own, and no client has done what they tell of a move:
// "restore" at its target, "del" at its source and wherever else something is left over. Such
// messages end here. What the mover has dealt with lately is remembered, so that a client's own
// RESTORE and DEL are told apart from that.

// endedMove is a job that has ended: its last messages may come after its slots have become
// stable.
type endedMove struct {
	recent *slotlock.Recent
	at     time.Time
}

// Bounds of what is remembered of ended jobs.
const (
	endedMovesMax = 8
	endedMoveFor  = 5 * time.Second
)

// noteEnded remembers the jobs that the present table has and the next one has not. mu is held.
func (s *Server) noteEnded(next *router.Table, now time.Time) {
	ongoing := make(map[string]bool)
	for _, j := range next.Jobs {
		ongoing[j.ID] = true
	}
	var kept []endedMove
	for _, m := range s.ended {
		if now.Sub(m.at) < endedMoveFor {
			kept = append(kept, m)
		}
	}
	for _, j := range s.table.Jobs {
		if !ongoing[j.ID] && j.Locks != nil {
			kept = append(kept, endedMove{j.Locks.Recent(), now})
		}
	}
	s.ended = kept[max(0, len(kept)-endedMovesMax):]
}

// ofMove reports whether a message from a group tells of a move.
func (s *Server) ofMove(group string, channel, payload []byte) bool {
	if !bytes.HasPrefix(channel, []byte("__key")) {
		return false
	}
	key, event, ok := keyspaceEvent(channel, payload)
	switch {
	case !ok:
		return false
	case bytes.HasPrefix([]byte(key.Name), []byte(router.InternalPrefix)):
		return true
	case event != "del" && event != "restore":
		return false
	}
	s.mu.Lock()
	t, ended := s.table, s.ended
	s.mu.Unlock()
	x := t.Slots[t.Scheme.Slot([]byte(key.Name))]
	is := func(g int16) bool { return g >= 0 && t.Groups[g].ID == group }
	switch {
	case x.Target >= 0 && (is(x.Owner) && event == "del" || is(x.Target) && event == "restore"):
		locks := t.Jobs[x.Job].Locks
		return locks != nil && locks.Recent().Has(key)
	case is(x.Owner) && event == "restore":
		for _, m := range ended {
			if time.Since(m.at) < endedMoveFor && m.recent.Has(key) {
				return true
			}
		}
		return false
	}
	return x.Owner >= 0 && !is(x.Owner) && !is(x.Target) // no client's command runs here
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
