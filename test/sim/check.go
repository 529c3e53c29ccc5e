package sim

import (
	"errors"
	"fmt"
)

// fail notes that an invariant does not hold.
func (w *World) fail(err error) {
	if w.failed == nil {
		w.failed = err
	}
}

// check is done after every step. While a job moves keys, one that is on both sides is locked: so
// nobody is ever let to a copy while another one lives. A source that came back from an old
// dump is the exception, which the mover mends when it comes by.
func (w *World) check() error {
	switch {
	case w.failed != nil:
		return w.failed
	case !w.up, w.amnesia, w.phase == stable, w.phase == flipped, w.phase == ended, w.phase == cancelled:
		return nil
	}
	for _, k := range keys {
		if w.srv[sideA].data[k] != 0 && w.srv[sideB].data[k] != 0 && w.free(k) {
			return fmt.Errorf("key %s is on both sides and its lock is free", k)
		}
	}
	return nil
}

// free reports whether nobody holds, wants or moves k. After a crash a key in doubt is on
// both sides until it is touched, so only this incarnation's keys count.
func (w *World) free(k string) bool {
	if w.crashed {
		return false
	}
	if !w.locks.TryLock(lockKey(k)) {
		return false
	}
	w.locks.Abort(lockKey(k), false)
	return true
}

// final is checked at the end: all is in one place, the one where a job of this end leaves
// it, nobody waits or holds anything, and every client saw a history that one correct server
// could have shown.
func (w *World) final() error {
	home := w.to
	if w.phase == cancelled {
		home = sideA
	}
	if other := w.srv[1-home]; len(other.data) > 0 {
		return fmt.Errorf("%v, which has no slot, holds %v", 1-home, other.data)
	}
	for _, l := range w.loops {
		if l.lot.Len() > 0 || l.table.owner != home || l.table.locks != nil {
			return fmt.Errorf("at the end %v, routes by %v", l, *l.table)
		}
	}
	if n := w.locks.Stats().Holds; n > 0 {
		return fmt.Errorf("all is answered, and %d keys are held", n)
	}
	for _, k := range keys {
		w.now++
		w.history = append(w.history, &op{verb: "get", keys: []string{k}, call: w.now, ret: w.now + 1, results: []int{w.srv[home].data[k]}})
		w.now++
		if !linearizable(w.history, k, w.now) {
			return errors.New("key " + k + ": what the clients saw is not what one server would have shown")
		}
	}
	return nil
}
