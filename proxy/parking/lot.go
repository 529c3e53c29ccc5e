package parking

import (
	"iter"
	"time"

	"keyferry/slotlock"
)

// Loop is the event loop that a Lot belongs to.
type Loop interface {
	// Wake and WholeChanged are called by any goroutine, often with locks of the caller's
	// held further up. They must not call the Lot: the loop passes them on, later and in
	// their order, to Woken and SlotChanged.
	slotlock.Waiter
	slotlock.WholeWaiter
	// Arm asks for a call of Settle when the loop has done what it is doing. Only the loop's
	// goroutine calls it.
	Arm()
}

// Limits bound a Lot.
type Limits struct {
	Commands int           // that may be parked at a time
	Deadline time.Duration // that a command waits for its keys
}

// Lot has the parked commands of one loop. Only the loop's goroutine uses it. It lives as
// long as the loop does.
type Lot struct {
	Limits Limits // in force for commands that come from now on

	loop   Loop
	queues map[slotlock.Key]*queue // of keys that commands wait for; none is empty
	perJob map[*slotlock.Table]int // commands parked, by job; no entry is 0
	n      int                     // commands parked
	due    []*Command              // parked, the one that came first in front; those that ran are skipped
	offers []Offer                 // tables that wait for parked commands, oldest first
	drains []drain                 // acknowledgements that wait for commands in flight
	plant  plant
}

// New makes an empty Lot.
func New(loop Loop, limits Limits) *Lot {
	return &Lot{Limits: limits, loop: loop, queues: make(map[slotlock.Key]*queue), perJob: make(map[*slotlock.Table]int)}
}

// Len is the number of parked commands.
func (l *Lot) Len() int { return l.n }

// Queues gives each key that commands wait for, with their number.
func (l *Lot) Queues() iter.Seq2[slotlock.Key, int] {
	return func(yield func(slotlock.Key, int) bool) {
		for k, q := range l.queues {
			if !yield(k, len(q.list)) {
				return
			}
		}
	}
}

// Enter runs a command, or parks it; then it keeps a copy of the frame. A Command enters once:
// one that is to run again, since a client that blocks was called off, is a new one.
func (l *Lot) Enter(c *Command, frame []byte, now time.Time) (parked bool) {
	v := slotlock.Wait
	if !l.mustQueue(c) {
		v = l.decide(c)
	}
	if v == slotlock.Wait {
		return l.park(c, frame, now)
	}
	c.Request.Run(v, frame)
	return false
}

// mustQueue reports that others wait for a key of the command: it goes behind them without
// asking, though the lock table might let it pass. That would happen where the key has been
// decided, and the word of it is still on its way to this loop:
//
//	loop                    lock table
//	SET k 1: wait
//	                        commit k ─► Wake, in the loop's mail
//	GET k: Admit says target, where SET k 1 has not been
//	SET k 1 runs at the target: the reads and writes of one client have changed places
func (l *Lot) mustQueue(c *Command) bool {
	for _, k := range c.Keys {
		if l.queues[k] != nil {
			return !l.plant.is(Overtakes)
		}
	}
	return false
}

// park lets a command wait for its keys. False: too many do, and it has been refused.
func (l *Lot) park(c *Command, frame []byte, now time.Time) bool {
	if l.n >= l.Limits.Commands {
		// It has asked, and is a waiter of its keys now, unless others of this loop are too.
		for _, k := range c.Keys {
			if l.queues[k] == nil {
				c.Locks.Cancel(k, l.loop)
			}
		}
		c.Request.Run(slotlock.Full, nil)
		return false
	}
	c.frame = append([]byte(nil), frame...)
	c.parked = true
	c.deadline = now.Add(l.Limits.Deadline)
	l.enqueue(c)
	l.n++
	l.perJob[c.Locks]++
	l.due = append(l.due, c)
	return true
}

// Woken is the lock table's word about a key that this loop waits for. The loop is one waiter of
// a key, however many commands it has: the first in the queue is who the word is for, and the
// others follow.
func (l *Lot) Woken(t *slotlock.Table, k slotlock.Key, v slotlock.Verdict) {
	q := l.queues[k]
	if q != nil && q.locks == t {
		// A queue of another job is none of this table's: a late word of one that has ended.
		delete(q.list[0].waits, k)
		l.runQueue(k, v == slotlock.Source)
	}
	// The hold that was taken for this loop, also if nobody waits any more.
	if v == slotlock.Source && (q != nil || !l.plant.is(KeepsHolds)) {
		t.Release(k)
	}
}

// SlotChanged is word that a slot can be asked about again. The commands are, in the order in
// which they came, like all that a Lot does: the same calls have the same outcome.
func (l *Lot) SlotChanged(w *slotlock.Whole, slot int) {
	var keys []slotlock.Key
	for _, c := range l.due {
		if !c.parked || c.Whole != w || c.Slot != slot {
			continue
		}
		for _, k := range c.Keys {
			if l.queues[k].list[0] == c {
				keys = append(keys, k)
			}
		}
	}
	l.Resume(keys)
}

// Expire ends the commands whose deadline has passed, except for those that have reason to wait
// on. Who stands behind them goes on first: the client of an expired command may, when it
// hears of it, send more.
//
// The deadlines of due are in their order as long as the limit stays as it is. If the operator
// shortens it, a command waits no longer than those that came before it.
func (l *Lot) Expire(now time.Time) {
	for len(l.due) > 0 {
		c := l.due[0]
		if c.parked {
			if c.deadline.After(now) {
				return
			}
			if c.patient(now) { // its place in its queues stays: only the deadline is another
				l.due = append(l.due[1:], c)
				c.deadline = now.Add(l.Limits.Deadline)
				continue
			}
			behind := l.Withdraw(c)
			if !l.plant.is(ForgetsBehind) {
				l.Resume(behind)
			}
			c.Request.Expired()
		}
		l.due[0] = nil
		l.due = l.due[1:]
	}
	l.due = nil
}
