package proxy

import (
	"keyferry/router"
)

// A SCAN goes from group to group. Its cursor is all its state, so that any gateway can go
// on with it. It stays below 2^53: node-redis, Lua and others keep a cursor as a double, which
// would round a larger one to a place where the scan has been, or has not been yet.
//
//	bits 50-52 the form, 1 to 7: how wide the fields below bit 49 are; never 0, so no cursor is
//	bit 49     the pass: 0 the first, over every group; 1 the second, over targets
//	bits 0-48  from above: the epoch that the scan counts from, modulo a power of 2; the number
//	           of the group; the server's cursor
//
// Redis's promise is that what is there from start to end is returned. While slots move a
// key can leave its source before the scan has come by there, for a target where the scan
// has been already. So when jobs moved keys during the first pass there is a second one,
// over the targets of these jobs. That is enough if every slot was subject to one job
// only, from the beginning of the first pass to the end of the second: a key that the
// first pass missed at its source had left it before that pass ended, so it is at the
// target during the whole of the second. If a slot was subject to more jobs the scan
// begins again.
//
// The epoch is at first that of the scan's beginning. Every page takes it forward, as far as
// the same moves have ended since (see inTime). An epoch that a form can't tell is never
// written: the scan begins again. What is left is a cursor that a client kept unused for more
// changes of the topology than its form can count: the widest form counts 2^29.
type cursor struct {
	second bool
	epoch  uint64 // whole, not modulo anything
	group  int    // number
	at     uint64 // the server's cursor
}

// cursorForm is how wide the fields of a cursor are: together cursorFields bits.
type cursorForm struct{ epoch, group, at int }

const (
	cursorFields = 49
	cursorPass   = 1 << cursorFields
	cursorAtBits = 32 // of the widest server's cursor: a server has at most 2^32 keys
)

// cursorForms are the forms 1 to 7, the widest epoch first: a cursor has the first one that its
// group and its server's cursor fit in. A server's cursor has as many bits as the number of keys
// in its database. Group numbers have ten (topology.MaxGroupNumber).
var cursorForms = [...]cursorForm{
	{29, 4, 16}, {23, 10, 16}, {21, 4, 24}, {15, 10, 24}, {13, 4, 32}, {11, 10, 28}, {7, 10, 32},
}

// encode is the cursor as a number; false if it is too old, at the epoch now, for its form.
func (c cursor) encode(now uint64) (v uint64, ok bool) {
	for i, f := range cursorForms {
		if c.group>>f.group != 0 || c.at>>f.at != 0 {
			continue
		}
		v = uint64(i+1)<<(cursorFields+1) | c.epoch%(1<<f.epoch)<<(f.group+f.at) | uint64(c.group)<<f.at | c.at
		if c.second {
			v |= cursorPass
		}
		return v, now-c.epoch < 1<<f.epoch
	}
	return 0, false
}

// parseCursor reads a cursor that was encoded at the epoch now or before.
func parseCursor(v, now uint64) (c cursor, ok bool) {
	form := v >> (cursorFields + 1)
	if form == 0 || form > uint64(len(cursorForms)) {
		return cursor{}, false
	}
	f := cursorForms[form-1]
	c = cursor{second: v&cursorPass != 0, at: v % (1 << f.at), group: int(v >> f.at % (1 << f.group))}
	c.epoch = newestEpoch(v%cursorPass>>(f.group+f.at), f.epoch, now)
	return c, true
}

// newestEpoch is the newest epoch not after now that ends in these bits.
func newestEpoch(low uint64, bits int, now uint64) uint64 {
	span := uint64(1) << bits
	e := now - now%span + low
	if e > now {
		if e < span {
			return 0 // of another cluster's history: everything may have moved since
		}
		e -= span
	}
	return e
}

// inTime is the cursor with the newest epoch since which the same moves have gone on. A scan
// that had begun then, and come as far, would have the same yet to do; and what moved before the
// scan began, or is forgotten later, does not matter to it.
func (c cursor) inTime(t *router.Table) cursor {
	moves, known := movesSince(t, c.epoch)
	if !known {
		return c
	}
	c.epoch = t.Epoch
	for _, m := range moves {
		if m.To != 0 {
			c.epoch = min(c.epoch, m.To-1)
		}
	}
	return c
}

// resume is what a client gets to go on with a scan from c, which is at the place to be looked
// at next.
func (c cursor) resume(t *router.Table) (v uint64) {
	if v, ok := c.inTime(t).encode(t.Epoch); ok {
		return v
	}
	c, _ = nextGroup(t, cursor{epoch: t.Epoch, group: -1})
	v, _ = c.encode(t.Epoch)
	return v
}

// movesSince are the moves that went on after an epoch; known is false if some may have been
// forgotten. A move that ended with the epoch itself is none of them: the table of that epoch
// is the first that has every key of the move at its new place.
func movesSince(t *router.Table, epoch uint64) (out []router.Move, known bool) {
	for _, m := range t.Moves {
		if m.To == 0 || m.To > epoch {
			out = append(out, m)
		}
	}
	return out, t.ForgottenTo <= epoch
}

// singleHop reports that no slot is in two of the moves.
func singleHop(t *router.Table, moves []router.Move) bool {
	seen := make([]bool, len(t.Slots))
	for _, m := range moves {
		for _, r := range m.Slots {
			for s := r.First; s <= r.Last; s++ {
				if seen[s] {
					return false
				}
				seen[s] = true
			}
		}
	}
	return true
}

// nextGroup is the cursor at the beginning of the next group to scan after c.group has
// been done, or false at the end of the scan. c.group is -1 at its beginning.
//
// Groups are in the order of their numbers, which a group keeps for life and no other gets for
// long, so that a cursor means the same after any change of the table. It tries again at most
// twice: the first pass is over, perhaps the second is needed, or all begins anew.
func nextGroup(t *router.Table, c cursor) (cursor, bool) {
	for range 3 {
		moves, known := movesSince(t, c.epoch)
		best := -1
		for _, g := range t.Serving() {
			n := t.Groups[g].Number
			wanted := !c.second || isTarget(moves, n)
			if wanted && n > c.group && (best < 0 || n < best) {
				best = n
			}
		}
		if best >= 0 {
			return cursor{second: c.second, epoch: c.epoch, group: best}, true
		}
		switch {
		case known && len(moves) == 0:
			return cursor{}, false
		case known && singleHop(t, moves):
			if c.second {
				return cursor{}, false
			}
			c = cursor{second: true, epoch: c.epoch, group: -1}
		default:
			c = cursor{epoch: t.Epoch, group: -1}
		}
	}
	return cursor{}, false // no group serves anything
}

func isTarget(moves []router.Move, group int) bool {
	for _, m := range moves {
		if m.Target == group {
			return true
		}
	}
	return false
}
