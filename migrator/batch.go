package migrator

import (
	"context"
	"time"

	"keyferry/internal/failpoint"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
	"keyferry/slotlock"
)

// keyMove is one key under its lock.
type keyMove struct {
	key    slotlock.Key
	step   MoveStep
	since  time.Time // locked at
	dump   []byte    // its DUMP; valid until the next exchange with the source unless it is big
	ttl    int64     // ms remaining at readAt; < 0: none. Centuries are more than a Duration has
	readAt time.Time
	idleS  int64 // OBJECT IDLETIME, seconds; -1: not known
	freq   int64 // OBJECT FREQ; -1: not known
	fence  string
	batch  *batch // nil for those of the resolvers

	seenBy  string // the connection over which the target has last said that it has the key
	wroteBy string // … and that has written it, or something since; see cover

	doubted  bool // among mover.doubts
	restored bool // by us, and not yet compared
}

// worker moves keys over a pair of connections. One goroutine uses it.
type worker struct {
	m        *mover
	id       string
	src, dst *link.Wire
	object   string // see objectWord; set by connect

	// The keys of the round under way, by what they wait for.
	reads, restores, unlinks []*keyMove
	sent                     time.Time // the restores
	sizes                    []int     // of those that were restored
}

// connect makes sure that both connections stand.
func (w *worker) connect(ctx context.Context) (err error) {
	if w.src == nil {
		if w.src, err = link.DialWire(ctx, w.m.dialer, w.m.source, w.m.cfg.CallTimeout); err != nil {
			return joberr.At(joberr.Source, err)
		}
	}
	if w.dst == nil {
		w.dst, err = link.DialWire(ctx, w.m.dialer, w.m.target, w.m.cfg.CallTimeout)
		w.m.locks.SetAway(err != nil)
		if err != nil {
			return joberr.At(joberr.Target, err)
		}
		text := durabilityText(w.m.assurance.durability, w.dst.Info)
		w.m.assurance.now.Store(&text)
	}
	w.object = objectWord(w.src.Info, w.dst.Info)
	return nil
}

func (w *worker) close() {
	w.src.Close()
	w.dst.Close()
	w.src, w.dst = nil, nil
}

// lostSource and lostTarget throw a connection away and return its name.
func (w *worker) lostSource() string {
	name := w.src.Name
	w.src.Close()
	w.src = nil
	return name
}

func (w *worker) lostTarget() string {
	name := w.dst.Name
	w.dst.Close()
	w.dst = nil
	return name
}

// run drives locked keys of one database until each is final, or an error stops it; those
// that are not final then are left, with their step. It releases the locks of those that
// are. The first refusal of a key (say OOM) is returned although the others went well.
func (w *worker) run(ctx context.Context, db int, moves []*keyMove) (left []*keyMove, err error) {
	for len(moves) > 0 {
		if small, big := w.apart(moves); len(big) > 0 && len(moves) > 1 {
			return w.oneByOne(ctx, db, small, big)
		}
		stop, e := w.round(ctx, db, moves)
		if err == nil {
			err = e
		}
		if moves = w.m.settle(moves); stop {
			return moves, err
		}
	}
	return nil, err
}

// apart parts the big values that are about to be restored from the rest.
func (w *worker) apart(moves []*keyMove) (rest, big []*keyMove) {
	for _, mv := range moves {
		if mv.step == Restore && int64(len(mv.dump)) >= w.m.cfg.BigKeyBytes {
			big = append(big, mv)
		}
	}
	if len(big) == 0 {
		return moves, nil
	}
	for _, mv := range moves {
		if mv.step != Restore || int64(len(mv.dump)) < w.m.cfg.BigKeyBytes {
			rest = append(rest, mv)
		}
	}
	return rest, big
}

// oneByOne keeps big values from holding up the keys that happen to be in their batch:
// those are brought to their end first, and each big one then goes by itself.
func (w *worker) oneByOne(ctx context.Context, db int, small, big []*keyMove) (left []*keyMove, err error) {
	left, err = w.run(ctx, db, small)
	for i, mv := range big {
		if w.src == nil || w.dst == nil { // an end was lost
			return append(left, big[i:]...), err
		}
		l, e := w.run(ctx, db, []*keyMove{mv})
		left = append(left, l...)
		if err == nil {
			err = e
		}
	}
	return left, err
}

// round takes every key one step further, or those of them whose step goes first. Keys
// that are to be read, restored and unlinked share a round, in which both ends work at
// the same time:
//
//	source ◄─ UNLINK of what was restored last round, then reads for the next ─► replies
//	target ◄─ RESTORE of what was read last round                             ─► replies
//
// A refused RESTORE is that key's matter; stop says that anything else went wrong.
func (w *worker) round(ctx context.Context, db int, moves []*keyMove) (stop bool, err error) {
	w.reads, w.restores, w.unlinks = w.reads[:0], w.restores[:0], w.unlinks[:0]
	for _, mv := range moves {
		switch mv.step {
		case Read:
			w.reads = append(w.reads, mv)
		case Restore:
			w.restores = append(w.restores, mv)
		case Unlink:
			w.unlinks = append(w.unlinks, mv)
		case FenceTarget, FenceSource, Probe, Persist:
			return w.single(ctx, db, mv.step, moves)
		}
	}
	// What is restored points into the buffer of the source's connection: it is sent first.
	dstErr := w.askTarget(ctx, db)
	srcErr := w.askSource(ctx, db)
	if srcErr == nil {
		srcErr = w.hearSource(ctx)
	}
	if dstErr == nil {
		dstErr = w.hearTarget(ctx)
	}
	err = joberr.At(joberr.Source, srcErr)
	w.m.errs.add(err)
	if dstErr = joberr.At(joberr.Target, dstErr); dstErr != nil {
		w.m.errs.add(dstErr)
		if err == nil {
			err = dstErr
		}
	}
	return srcErr != nil || w.dst == nil, err
}

func hit(moves []*keyMove, point string) {
	if len(moves) > 0 {
		failpoint.Hit(point)
	}
}
