package parking

import "keyferry/slotlock"

// decide asks the lock table about all keys of a command. Source: they are held. Target: they
// live there. Wait: nothing is held, and the loop will be told more. Full: nothing is held.
//
// With keys on both sides those at the source are sent for, since one command can run on one
// side only.
func (l *Lot) decide(c *Command) slotlock.Verdict {
	switch c.Whole.Enter(c.Slot, c.Unnamed, l.loop) {
	case slotlock.Open:
		c.inside = true
		return slotlock.Source
	case slotlock.Closed:
		return slotlock.Wait // SlotChanged will come, and no lock table is asked
	case slotlock.Moved:
		return slotlock.Target
	}
	v, split := l.admit(c)
	if !split {
		return v
	}
	// Nothing is held from here on, so that the mover can have the keys: two commands that
	// each hold what the other waits for would block each other and the job.
	c.Release()
	if c.Pull && l.pull(c) {
		return slotlock.Source
	}
	return l.resolve(c)
}

// admit asks for each key where a plain command on it would run. split: the keys are not all
// on one side, or the command is to run at the target; then some may be held. Else what the
// verdict does not need has been released.
//
// It asks for all keys, also when it knows that the command must wait: the loop is a waiter of
// each then, and asks again only when it has heard of all (see Command.await).
func (l *Lot) admit(c *Command) (v slotlock.Verdict, split bool) {
	source, wait := 0, false
	for i, k := range c.Keys {
		if c.hasMoved(i) || c.Pull {
			continue
		}
		switch c.Locks.Admit(k.DB, []byte(k.Name), l.loop) {
		case slotlock.Source:
			c.hold(k)
			source++
		case slotlock.Target:
			c.noteMoved(i)
		case slotlock.Wait:
			wait = true
			c.await(k)
		case slotlock.Full:
			c.Release()
			return slotlock.Full, false
		}
	}
	switch {
	case source == len(c.Keys):
		return slotlock.Source, false
	case source > 0 && l.plant.is(RunsHalfDecided):
		return slotlock.Source, false
	case source == 0 && !wait && !c.Pull:
		// Nothing need be held there: a key that has moved is not moved again.
		return slotlock.Target, false
	case wait:
		if !l.plant.is(WaitsHolding) {
			c.Release()
		}
		return slotlock.Wait, false
	}
	return slotlock.Wait, true
}

// pull asks for all keys of a command that blocks to be at the target. True: they are held at
// the source, since the target is away.
func (l *Lot) pull(c *Command) bool {
	for i, k := range c.Keys {
		if !c.hasMoved(i) && c.Locks.Pull(k.DB, []byte(k.Name), l.loop) == slotlock.Source {
			c.hold(k)
		}
	}
	if len(c.held) == len(c.Keys) {
		return true
	}
	c.Release()
	return false
}

// resolve sends for the keys that are not at the target. That can't go on for ever: a key that
// has come stays, and each key is sent for until it has.
func (l *Lot) resolve(c *Command) slotlock.Verdict {
	wait := false
	for i, k := range c.Keys {
		if c.hasMoved(i) {
			continue
		}
		switch c.Locks.Resolve(k.DB, []byte(k.Name), l.loop) {
		case slotlock.Target:
			c.noteMoved(i)
		case slotlock.Source: // the job has just been cancelled: so are they all
			c.hold(k)
		case slotlock.Full:
			c.Release()
			return slotlock.Full
		default:
			wait = true
			c.await(k)
		}
	}
	switch {
	case len(c.held) == len(c.Keys):
		return slotlock.Source
	case wait || len(c.held) > 0:
		c.Release()
		return slotlock.Wait
	}
	return slotlock.Target
}
