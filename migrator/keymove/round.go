package keymove

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"keyferry/internal/failpoint"
	"keyferry/migrator/job"
)

// advance gives all moves the same outcome.
func advance(moves []*Key, o Outcome) {
	for _, mv := range moves {
		mv.Step = mv.Step.Next(o)
	}
}

// askTarget sends the RESTOREs of the round: the commit point of each key.
func (w *Worker) askTarget(ctx context.Context, db int) error {
	if len(w.restores) == 0 {
		return nil
	}
	hit(w.restores, "move.restore.before")
	if err := w.dst.Use(ctx, db); err != nil {
		for _, mv := range w.restores { // nothing was sent
			mv.Step, mv.dump = Released, nil
		}
		w.restores = w.restores[:0]
		w.lostTarget()
		return err
	}
	if err := w.sortOut(ctx); err != nil {
		w.lostTarget()
		return err
	}
	if len(w.restores) == 0 {
		return nil
	}
	for _, mv := range w.restores {
		w.env.Locks.Handle(mv.Key)
		if mv.MayExpire() {
			w.env.Locks.Expiring().Enter(mv.Key)
		}
	}
	w.sent, w.before = time.Now(), w.env.Ledger.before(w.life, db)
	if err := w.dst.Restore(ctx, w.restores, w.sent, w.before.mark); err != nil {
		w.lostRestores(w.restores)
		return err
	}
	w.sending = 0
	for _, mv := range w.restores {
		w.sending += mv.Bytes()
	}
	w.env.Listener.Sent(w.sending)
	return nil
}

// sortOut takes those out of the restores that the target would cut the connection for. They are
// as good as refused. The limit may have been raised since it was asked for.
func (w *Worker) sortOut(ctx context.Context) error {
	limit := w.dst.Limit() // once a batch, and not for each key
	large := func(mv *Key) bool { return !limit.Takes(mv.Bytes()) }
	if !slices.ContainsFunc(w.restores, large) {
		return nil
	}
	if err := w.dst.Look(ctx); err != nil {
		for _, mv := range w.restores { // nothing was sent
			mv.Step, mv.dump = Released, nil
		}
		w.restores = w.restores[:0]
		return err
	}
	limit = w.dst.Limit()
	w.restores = slices.DeleteFunc(w.restores, func(mv *Key) bool {
		if !large(mv) {
			return false
		}
		w.env.Listener.TooLarge(mv, limit)
		mv.Step = mv.Step.Next(Refused)
		mv.Drop()
		return true
	})
	return nil
}

// lostRestores gives up the target's connection with RESTOREs on it whose fate is open.
func (w *Worker) lostRestores(moves []*Key) {
	name := w.lostTarget()
	for _, mv := range moves {
		mv.fence, mv.dump = name, nil
		mv.Step = mv.Step.Next(Unknown)
	}
}

// hearTarget reads the replies to RESTORE. What is restored needs nothing more at the
// target where that has no replicas to wait for.
func (w *Worker) hearTarget(ctx context.Context) error {
	if len(w.restores) == 0 {
		return nil
	}
	w.dst.Renew(ctx) // a slow source is no fault of the target's
	name := w.dst.Name()
	came := time.Now()
	defer func() { w.restored(came) }()
	w.sizes = w.sizes[:0]
	var first error
	for i, mv := range w.restores {
		o := OK
		switch err := w.dst.HearRestore(); {
		case err == nil:
			w.sizes = append(w.sizes, mv.Bytes())
			w.env.Listener.RestoredKey(mv)
			mv.Restored, mv.SeenBy, mv.WroteBy = true, name, name
		case !refused(err):
			w.lostRestores(w.restores[i:])
			hit(w.restores, "move.restore.after")
			w.env.Listener.Failed(fromTarget(first)) // what was answered before the connection broke
			return err
		case strings.HasPrefix(err.Error(), "BUSYKEY"):
			o, mv.SeenBy = Busy, name
		default:
			o = Refused
			if first == nil {
				first = fmt.Errorf("RESTORE %q: %w", mv.Name, err)
			}
		}
		mv.Step = mv.Step.Next(o)
		mv.Drop()
	}
	hit(w.restores, "move.restore.after")
	if err := w.hearMark(w.restores); err != nil {
		return err
	}
	if w.env.Comparer.Share == 0 && !w.env.Ledger.Doubtful() && waitsFor(w.env.Durability, w.dst.Info()) == job.DurabilityNone {
		failpoint.Hit("move.persist.before")
		for _, mv := range w.restores {
			if mv.Step == Persist {
				mv.Step = mv.Step.Next(OK)
			}
		}
		failpoint.Hit("move.persist.after")
	}
	return first
}

// hearMark hears the number of the exchange in which keys were seen at the target. Without one the
// connection is given up: those keys will be looked for again.
func (w *Worker) hearMark(moves []*Key) error {
	n, err := w.dst.HearMark()
	if err == nil && n > 0 {
		err = w.env.Ledger.numbered(w.before, moves[0].DB, n, evicts(w.dst.Info()))
	}
	if err != nil {
		w.lostTarget()
		return err
	}
	for _, mv := range moves {
		mv.life, mv.mark, mv.number = w.before.life, w.before.mark, n
	}
	return nil
}

// restored tells what the target has restored and, if the target was waited for, how long
// that took: what had come by the time that the source was done with its part says nothing.
func (w *Worker) restored(came time.Time) {
	now := time.Now()
	w.env.Listener.Heard(w.sending)
	w.env.Listener.Restored(w.sizes, now.Sub(w.sent), now.Sub(came) > noWait)
}

// noWait is how long it takes to read replies that have come.
const noWait = 200 * time.Microsecond

// askSource sends UNLINK of what has been restored and the reads of the next keys.
func (w *Worker) askSource(ctx context.Context, db int) error {
	if failpoint.On(failpoint.PlantEarlyUnlock) {
		w.plantedUnlink(db, w.unlinks)
		w.unlinks = w.unlinks[:0]
	}
	if len(w.unlinks)+len(w.reads) == 0 {
		return nil
	}
	hit(w.unlinks, "move.unlink.before")
	w.letExpire(ctx)
	hit(w.reads, "move.read.before")
	if err := w.src.Use(ctx, db); err != nil {
		advance(w.reads, Unknown)
		w.unlinks, w.reads = w.unlinks[:0], w.reads[:0]
		w.lostSource()
		return err
	}
	if w.keepBack(); len(w.unlinks)+len(w.reads) == 0 {
		return nil
	}
	for _, mv := range w.unlinks {
		w.env.Locks.Handle(mv.Key)
		mv.unlinked = true
	}
	if err := w.src.Ask(ctx, w.unlinks, w.reads, w.object); err != nil {
		w.lostExchange(w.unlinks, w.reads)
		return err
	}
	return nil
}

// keepBack takes those out of the unlinks that the source must not give up. Of a key that has moved
// before, the source has garbage, and nothing else is waited for.
func (w *Worker) keepBack() {
	if len(w.unlinks) == 0 {
		return
	}
	keep := w.env.Ledger.give(w.unlinks, func(mv *Key) bool { return w.env.Locks.Moved(mv.Key) })
	if len(keep) == 0 {
		return
	}
	for _, mv := range keep {
		mv.Step = mv.Step.Doubt()
	}
	w.unlinks = slices.DeleteFunc(w.unlinks, func(mv *Key) bool { return mv.Step != Unlink })
}

// lostExchange gives up the source's connection with commands on it that have no reply.
// Reads change nothing; UNLINK may have been executed, or may still be.
func (w *Worker) lostExchange(unlinks, reads []*Key) {
	name := w.lostSource()
	for _, mv := range unlinks {
		mv.fence = name
		mv.Step = mv.Step.Next(Unknown)
	}
	advance(reads, Unknown)
}

// hearSource reads the replies to UNLINK and to the reads.
func (w *Worker) hearSource(ctx context.Context) error {
	var first error
	if len(w.unlinks) > 0 {
		o := OK
		if err := w.src.HearUnlink(); err != nil {
			if !refused(err) {
				w.lostExchange(w.unlinks, w.reads)
				hit(w.unlinks, "move.unlink.after")
				return err
			}
			o, first = Refused, err
		}
		advance(w.unlinks, o)
		hit(w.unlinks, "move.unlink.after")
	}
	stale := w.stale()
	var back []*Key
	big := false
	for i, mv := range w.reads {
		o, err := w.src.HearRead(mv, w.object)
		if first == nil {
			first = err
		}
		if o == Unknown {
			w.lostExchange(nil, w.reads[i:])
			break
		}
		if o == OK && w.env.Locks.Moved(mv.Key) {
			if stale {
				o = w.dropStale(mv)
			} else {
				back = append(back, mv)
			}
		}
		big = big || int64(mv.Bytes()) >= w.env.BigKeyBytes
		mv.Step = mv.Step.Next(o)
	}
	if big && w.src != nil {
		w.src.Keep() // big values are kept for longer than until the next exchange
	}
	hit(w.reads, "move.read.after")
	if err := w.distrust(ctx, back); err != nil {
		return err
	}
	return first
}

// stale reports that the source may have come back with keys that had left.
func (w *Worker) stale() bool { return w.src.Info().Life() != w.env.SourceLife }

// dropStale drops what a source has brought back from an old dump. The key has left it before, and
// what the target did with it since, which may be to delete it, stands.
func (w *Worker) dropStale(mv *Key) Outcome {
	mv.Drop()
	w.env.Listener.DroppedStale()
	return Stale
}

// distrust asks the source once more who it is when it shows keys that had left: since this
// connection was made, its process may have been a replica.
func (w *Worker) distrust(ctx context.Context, back []*Key) error {
	if len(back) == 0 || w.src == nil {
		return nil
	}
	if err := w.src.Refresh(ctx); err != nil {
		w.lostSource()
		return err
	}
	if w.stale() {
		for _, mv := range back {
			mv.Step = Read.Next(w.dropStale(mv))
		}
	}
	return nil
}

// single does a step that is not part of a round, for all keys that stand there.
func (w *Worker) single(ctx context.Context, db int, step MoveStep, all []*Key) (stop bool, err error) {
	var moves []*Key
	for _, mv := range all {
		if mv.Step == step {
			moves = append(moves, mv)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, w.env.CallTimeout)
	defer cancel()
	failpoint.Hit("move." + step.String() + ".before")
	switch step {
	case FenceTarget, FenceSource:
		err = w.fence(ctx, step, moves)
	case Probe:
		err = w.probe(ctx, db, moves)
	case Persist:
		err = w.persist(ctx, moves)
	}
	failpoint.Hit("move." + step.String() + ".after")
	w.env.Listener.Failed(err)
	return err != nil, err
}

// fence kills the connections on which the fate of the keys is open.
func (w *Worker) fence(ctx context.Context, step MoveStep, moves []*Key) error {
	fence, from := w.env.FenceTarget, fromTarget
	if step == FenceSource {
		fence, from = w.env.FenceSource, fromSource
	}
	done := make(map[string]bool)
	for _, mv := range moves {
		if !done[mv.fence] {
			if err := fence(ctx, mv.fence); err != nil {
				return from(err)
			}
			done[mv.fence] = true
		}
		mv.Step = mv.Step.Next(OK)
	}
	return nil
}

// probe looks whether the target has the keys.
func (w *Worker) probe(ctx context.Context, db int, moves []*Key) error {
	if err := w.dst.Use(ctx, db); err != nil {
		w.lostTarget()
		return fromTarget(err)
	}
	w.before = w.env.Ledger.before(w.life, db)
	if err := w.dst.Exists(ctx, moves, w.before.mark); err != nil {
		w.lostTarget()
		return fromTarget(err)
	}
	var first error
	for _, mv := range moves {
		there, err := w.dst.HearExists()
		switch {
		case err != nil && !refused(err):
			w.lostTarget()
			return fromTarget(err)
		case err != nil:
			if first == nil {
				first = err
			}
		case there:
			mv.Step, mv.SeenBy = mv.Step.Next(OK), w.dst.Name()
		default:
			mv.Step = mv.Step.Next(Absent)
		}
	}
	if err := w.hearMark(moves); err != nil && first == nil {
		first = err
	}
	return fromTarget(first)
}
