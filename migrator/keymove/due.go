package keymove

import (
	"context"
	"time"
)

// dueWithin is how far from its expiry a key is taken for one that may have expired at an end: it is more
// than a move takes, and than the gateway's clock should be off.
const dueWithin = time.Second

// settleDue makes a key that expires while it moves expire once for those who listen to keyspace
// events. Its copies are at both ends for a while, and each end says that it has expired; which of
// them is to be heard is known while the key is locked (slotlock.Expiring). So the key stays locked
// until nothing more can come of that: the source has no copy any more, the target is made to look
// at its own, and both have been heard.
//
//	RESTORE ─── source: expired ─── UNLINK ─── EXISTS: target: expired ─── heard ─── unlocked
//
// Without a listener, and of keys with more time, it does nothing.
//
// It takes the clocks of both servers to agree. Where they differ a key has two times of expiry, S at the source and T
// at the target, and what is heard depends on where its move falls:
//
//	T behind: moved before S     T alone says it, later
//	          S within the move  both say it: T when the key has been unlocked. It can be read in between
//	T ahead:  moved before T     T alone says it, early
//	          RESTORE after T    no copy is made, and nobody says it
//
// Preflight tells of clocks that differ.
func (w *Worker) settleDue(ctx context.Context, db int) error {
	if w.env.EventsWanted == nil {
		return nil
	}
	by := time.Now().Add(dueWithin).UnixMilli()
	var due []*Key
	for _, mv := range w.unlinks {
		if mv.Step == Committed && mv.MayExpire() && mv.expiry.at() <= by {
			due = append(due, mv)
		}
	}
	if len(due) == 0 || !w.env.EventsWanted() {
		return nil
	}
	err := w.lookAtTarget(ctx, db, due)
	w.env.EventsHeard(ctx)
	return err
}

// letExpire waits for keys that are about to expire, before their UNLINK. In the millisecond in which a key
// expires RESTORE makes no copy any more, and UNLINK does not find it expired yet: nobody would say
// that it has.
func (w *Worker) letExpire(ctx context.Context) {
	if w.env.EventsWanted == nil {
		return
	}
	now := time.Now()
	var until time.Time
	for _, mv := range w.unlinks {
		if !mv.MayExpire() {
			continue
		}
		if at := time.UnixMilli(mv.expiry.at()); now.Sub(at).Abs() <= dueNow && at.After(until) {
			until = at
		}
	}
	if until.IsZero() || !w.env.EventsWanted() {
		return
	}
	t := time.NewTimer(time.Until(until.Add(dueNow)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// dueNow is how near to a key's expiry servers may differ about it.
const dueNow = 3 * time.Millisecond

// lookAtTarget: a server expires a key at the latest when it is asked for it. What it answers does not
// matter.
func (w *Worker) lookAtTarget(ctx context.Context, db int, keys []*Key) error {
	err := w.dst.Use(ctx, db)
	if err == nil {
		err = w.dst.Exists(ctx, keys, "")
	}
	for range keys {
		if err != nil {
			break
		}
		if _, err = w.dst.HearExists(); refused(err) {
			err = nil
		}
	}
	if err != nil {
		w.lostTarget()
	}
	return err
}
