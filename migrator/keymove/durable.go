package keymove

import (
	"context"
	"slices"

	"keyferry/migrator/job"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
	"keyferry/router"
)

// waitsFor is what is waited for at a target as it is now.
func waitsFor(durability string, i link.Info) string {
	if durability != job.DurabilityAuto {
		return durability
	}
	if i.Replicas > 0 {
		return job.DurabilityReplica
	}
	return job.DurabilityNone
}

// durabilityText is that for the status: what is had, and why it is not more.
func durabilityText(durability string, i link.Info) string {
	switch now := waitsFor(durability, i); {
	case now == job.DurabilityReplica && i.Replicas == 0:
		return "replica, but the target has none: nothing is given up at the source"
	case durability == job.DurabilityAuto && now == job.DurabilityNone:
		return "none: the target has no replica, so that a key can be lost with it"
	default:
		return now
	}
}

// persist is the step between the commit and the end of the source's copy. A key whose target
// dies before this is done is still at the source; one whose target dies after it is as safe
// as the job was asked to make it.
//
// persist waits until what was restored is as durable as the job asks for, once for all of
// the keys: it counts what the connection has written.
func (w *Worker) persist(ctx context.Context, moves []*Key) error {
	if moves = w.seen(moves); len(moves) == 0 {
		return nil
	}
	moves, err := w.disown(ctx, moves)
	if err != nil || len(moves) == 0 {
		return fromTarget(err)
	}
	if err := w.env.Comparer.compare(ctx, moves); err != nil {
		return err
	}
	mode := waitsFor(w.env.Durability, w.dst.Info())
	if mode == job.DurabilityNone {
		advance(moves, OK)
		return nil
	}
	if err := w.cover(ctx, moves); err != nil {
		return fromTarget(err)
	}
	n, err := w.dst.Acknowledged(ctx, mode, w.env.CallTimeout/2)
	switch {
	case err == nil && n >= 1:
		advance(moves, OK)
	case err == nil && mode == job.DurabilityAOF:
		err = &joberr.CodedError{Code: "NOAOF", Text: "the append-only file was not synced in time: the restored keys are kept at the source"}
	case err == nil:
		if w.env.Durability == job.DurabilityAuto {
			w.lostTarget() // the next connection sees what the target has now
		}
		err = &joberr.CodedError{Code: "NOREPLICAS", Text: "no replica acknowledged the restored keys in time: they are kept at the source"}
	case !refused(err):
		w.lostTarget()
	}
	return fromTarget(err)
}

// seen are the keys that this connection has seen at the target. The others are looked for
// again: where one server has died and another has its address, what was heard from the first
// says nothing of the second.
func (w *Worker) seen(moves []*Key) (out []*Key) {
	for _, mv := range moves {
		if mv.SeenBy == w.dst.Name() {
			out = append(out, mv)
		} else {
			mv.Step = mv.Step.Next(Unknown)
		}
	}
	return out
}

// disown removes what a target that has forgotten holds of keys that the source still has, unless
// this connection has brought it there: it may be from long before the job. The keys stay, and a later
// pass brings them. A source that has come back from an old dump itself is not believed against it.
func (w *Worker) disown(ctx context.Context, moves []*Key) (rest []*Key, err error) {
	if !w.env.Ledger.Doubtful() || w.src == nil || w.stale() {
		return moves, nil
	}
	waits := w.env.Ledger.Forgot() != nil // for an operator: nothing is given up
	var old []*Key
	for _, mv := range moves {
		if mv.unlinked || !waits && mv.WroteBy == w.dst.Name() || w.env.Locks.Moved(mv.Key) {
			rest = append(rest, mv)
		} else {
			old = append(old, mv)
		}
	}
	if len(old) == 0 {
		return rest, nil
	}
	if err := w.dst.Use(ctx, old[0].DB); err != nil {
		w.lostTarget()
		return nil, err
	}
	switch err := w.dst.Unlink(ctx, old); {
	case refused(err):
		return nil, err
	case err != nil:
		name := w.lostTarget()
		for _, mv := range old {
			mv.Step, mv.fence = mv.Step.Retract(), name
		}
		return nil, err
	}
	advance(old, Absent)
	return rest, nil
}

// cover writes something over this connection where it has not written the keys itself: WAIT
// and WAITAOF are about what their connection has written last, and of one that has written
// nothing newer servers say that all is well.
func (w *Worker) cover(ctx context.Context, moves []*Key) error {
	if !slices.ContainsFunc(moves, func(mv *Key) bool { return mv.WroteBy != w.dst.Name() }) {
		return nil
	}
	err := w.dst.Touch(ctx, router.ReservedPrefix+w.env.Job)
	switch {
	case err == nil:
		for _, mv := range moves {
			mv.WroteBy = w.dst.Name()
		}
	case !refused(err):
		w.lostTarget()
	}
	return err
}
