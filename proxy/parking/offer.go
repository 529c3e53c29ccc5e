package parking

import "keyferry/slotlock"

// Table is what a Lot needs to know of a routing table. It does not change.
type Table interface {
	// Route is the route of a slot; false if it does not move.
	Route(slot int) (Route, bool)
	// Has reports whether the job with these locks is one of the table's.
	Has(locks *slotlock.Table) bool
}

// Offer is a table that a loop has been given, with the words to send back.
type Offer struct {
	Table Table
	// Adopt makes the table the loop's. It returns the commands in flight that were sent
	// without a lock to where a job of the table begins.
	Adopt func() []Mark
	// Drained is told that these have been answered. It must not call the Lot.
	Drained func()
}

// Offer takes a new table. The table comes into force when no command is parked for a job
// that it no longer has; it is drained when every command that was sent without a lock to the
// source of a job that is new in it has been answered. So the order of one client's commands
// on one key survives both ends of a move:
//
//	begin   SET k 1 ─ no lock ─► source      adopt, drained ─► only now k may leave
//	end     GET k ── parked for k's move     adopt waits    ─► else a later GET k, which needs
//	                                                           no lock any more, would pass it
//
// Tables come into force in the order in which they were offered.
func (l *Lot) Offer(o Offer) {
	l.offers = append(l.offers, o)
	l.Settle()
}

// Settle adopts the tables that nothing stands in the way of any more, and acknowledges what
// has been drained. The loop calls it at the end of each turn.
func (l *Lot) Settle() {
	for len(l.offers) > 0 && !l.needed(l.offers[0].Table) {
		o := l.offers[0]
		l.offers = l.offers[1:]
		l.reroute(o.Table)
		l.drains = append(l.drains, drain{o.Adopt(), o.Drained})
	}
	l.settleDrains()
}

// needed reports that commands are parked for a job that t has ended.
func (l *Lot) needed(t Table) bool {
	for locks := range l.perJob {
		if !t.Has(locks) {
			return !l.plant.is(AdoptsEarly)
		}
	}
	return false
}

// reroute has parked commands follow a job that has been reversed: what they knew of their
// keys holds no more. The lock table is frozen until every loop has adopted that (see
// slotlock.Table.Freeze), so none of them is decided meanwhile. It is done before the table is
// adopted: what the loop does then may run parked commands, and they must not see the old route.
func (l *Lot) reroute(t Table) {
	if l.plant.is(KeepsRoute) {
		return
	}
	for _, q := range l.queues {
		for _, c := range q.list {
			r, moves := t.Route(c.Slot)
			if !moves || r.Locks != c.Locks || r.Source == c.Source {
				continue
			}
			c.Route = r
			c.moved = nil
		}
	}
}
