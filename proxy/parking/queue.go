package parking

import (
	"slices"

	"keyferry/slotlock"
)

// queue holds the commands of a loop that wait for one key, in the order in which they came.
// A command with several keys stands in the queue of each, and since they all join at once,
// two commands that share keys stand in the same order everywhere: no cycle can form.
type queue struct {
	locks *slotlock.Table
	list  []*Command // never empty
}

// enqueue puts a command at the end of the queue of each of its keys.
func (l *Lot) enqueue(c *Command) {
	for _, k := range c.Keys {
		q := l.queues[k]
		if q == nil {
			q = &queue{locks: c.Locks}
			l.queues[k] = q
		}
		if n := len(q.list); n == 0 || q.list[n-1] != c { // the same key twice in one command
			q.list = append(q.list, c)
		}
	}
}

// runQueue runs the commands that wait for k, oldest first, until one must wait again.
// granted: the caller holds k shared, so that commands on k alone may run at the source
// whatever the mode.
func (l *Lot) runQueue(k slotlock.Key, granted bool) {
	for {
		q := l.queues[k]
		if q == nil {
			return
		}
		c := q.list[0]
		if !l.ready(c) {
			return // it runs when it has the last of its keys and leads the last of its queues
		}
		v := slotlock.Source
		if granted && len(c.Keys) == 1 && !c.Unnamed {
			// Abort has let it run at the source: to ask again might send for the key again, and
			// a full target would refuse it again.
			c.Locks.Dup(k)
			c.hold(k)
		} else if v = l.decide(c); v == slotlock.Wait {
			return
		}
		frame := c.frame // which Withdraw forgets
		others := l.Withdraw(c)
		c.Request.Run(v, frame) // which may change every queue
		l.Resume(slices.DeleteFunc(others, func(o slotlock.Key) bool { return o == k }))
	}
}

// ready reports that a command which leads a queue may be decided about. Who does not lead all of
// its queues is not, since what it would be given to hold it could not use yet.
func (l *Lot) ready(c *Command) bool { return len(c.waits) == 0 && l.leadsAll(c) }

// Resume runs the queues of some keys, whose first command may have changed, and tries each
// command once: a command with many keys that was behind another may be first in all of their
// queues now.
func (l *Lot) Resume(keys []slotlock.Key) {
	tried := make(map[*Command]struct{})
	for _, k := range keys {
		q := l.queues[k]
		if q == nil {
			continue
		}
		c := q.list[0]
		if _, yes := tried[c]; !yes {
			tried[c] = struct{}{}
			l.runQueue(k, false)
		}
	}
}

// leadsAll reports whether c is first in the queue of each of its keys.
func (l *Lot) leadsAll(c *Command) bool {
	for _, k := range c.Keys {
		if q := l.queues[k]; q == nil || q.list[0] != c {
			return false
		}
	}
	return true
}

// Withdraw takes a parked command out of its queues. The caller must Resume the keys that it
// returns, for which others wait, once it has withdrawn all that it wants to: of a client
// that has gone, no later command may run where an earlier one does not.
func (l *Lot) Withdraw(c *Command) (behind []slotlock.Key) {
	for _, k := range c.Keys {
		q := l.queues[k]
		if q == nil {
			continue // the same key twice
		}
		if i := slices.Index(q.list, c); i >= 0 {
			q.list = slices.Delete(q.list, i, i+1)
		}
		if len(q.list) == 0 {
			delete(l.queues, k)
			c.Locks.Cancel(k, l.loop) // its word may be in the loop's mail all the same; see Woken
		} else {
			behind = append(behind, k)
		}
	}
	c.parked, c.frame = false, nil
	l.n--
	if l.perJob[c.Locks]--; l.perJob[c.Locks] == 0 {
		delete(l.perJob, c.Locks)
		l.loop.Arm() // a table may wait for this
	}
	return behind
}
