package keymove

import (
	"context"
	"strings"
	"time"

	"keyferry/internal/failpoint"
	"keyferry/migrator/link"
)

// Worker moves keys over a pair of connections, which it makes when they are needed and
// throws away when one breaks. One goroutine uses it; Close ends it.
type Worker struct {
	env    *Env
	src    Source // nil: none
	dst    Target // nil: none
	life   string // of the target that dst leads to
	object string // see objectWord; set by Connect

	// The keys of the round under way, by what they wait for.
	reads, restores, unlinks []*Key
	sent                     time.Time // the restores
	sending                  int       // bytes of them
	sizes                    []int     // of those that were restored
	before                   look      // what had been given up when they were sent
}

// NewWorker makes one that is not connected. env stays as it is from here on.
func NewWorker(env *Env) *Worker { return &Worker{env: env} }

// Connect makes sure that both connections stand.
func (w *Worker) Connect(ctx context.Context) (err error) {
	if w.src == nil {
		if w.src, err = w.env.DialSource(ctx); err != nil {
			w.src = nil
			return fromSource(err)
		}
	}
	if w.dst == nil {
		w.dst, err = w.env.DialTarget(ctx)
		w.env.Locks.SetAway(err != nil)
		if err != nil {
			w.dst = nil
			return fromTarget(err)
		}
		if err = w.env.Ledger.Meet(ctx, w.dst.Info(), w.dst.Mark); err != nil {
			w.lostTarget()
			return fromTarget(err)
		}
		w.life = w.dst.Info().Life()
		w.env.Listener.Durable(durabilityText(w.env.Durability, w.dst.Info()))
	}
	w.object = objectWord(w.src.Info(), w.dst.Info())
	return nil
}

// Connected reports that both connections stand.
func (w *Worker) Connected() bool { return w.src != nil && w.dst != nil }

// Close ends the connections. The worker may connect again.
func (w *Worker) Close() {
	if w.src != nil {
		w.lostSource()
	}
	if w.dst != nil {
		w.lostTarget()
	}
}

// lostSource and lostTarget throw a connection away and return its name.
func (w *Worker) lostSource() string {
	name := w.src.Name()
	w.src.Close()
	w.src = nil
	return name
}

func (w *Worker) lostTarget() string {
	name := w.dst.Name()
	w.dst.Close()
	w.dst = nil
	return name
}

// objectWord is what to ask OBJECT about a key: what an eviction policy of either end goes
// by, or nothing, because each word about each key costs the source.
func objectWord(source, target link.Info) string {
	switch {
	case strings.Contains(source.Policy, "lfu"):
		return "FREQ"
	case strings.Contains(source.Policy, "lru") || strings.Contains(target.Policy, "lru"):
		return "IDLETIME"
	}
	return ""
}

// Run drives locked keys of one database until each is final, or an error stops it; those
// that are not final then are left, with their step. It releases the locks of those that
// are. The first refusal of a key (say OOM) is returned although the others went well.
//
// What Run returns in left is locked still, and its Step says where to go on: whoever calls Run
// hands them to somebody who does, or clients wait for ever.
func (w *Worker) Run(ctx context.Context, db int, moves []*Key) (left []*Key, err error) {
	for len(moves) > 0 {
		if small, big := w.Apart(moves); len(big) > 0 && len(moves) > 1 {
			return w.oneByOne(ctx, db, small, big)
		}
		stop, e := w.Round(ctx, db, moves)
		if err == nil {
			err = e
		}
		if moves = w.env.Settle(moves); stop {
			return moves, err
		}
	}
	return nil, err
}

// Apart parts the big values that are about to be restored from the rest.
func (w *Worker) Apart(moves []*Key) (rest, big []*Key) {
	for _, mv := range moves {
		if mv.Step == Restore && int64(mv.Bytes()) >= w.env.BigKeyBytes {
			big = append(big, mv)
		}
	}
	if len(big) == 0 {
		return moves, nil
	}
	for _, mv := range moves {
		if mv.Step != Restore || int64(mv.Bytes()) < w.env.BigKeyBytes {
			rest = append(rest, mv)
		}
	}
	return rest, big
}

// oneByOne keeps big values from holding up the keys that happen to be in their batch:
// those are brought to their end first, and each big one then goes by itself.
func (w *Worker) oneByOne(ctx context.Context, db int, small, big []*Key) (left []*Key, err error) {
	left, err = w.Run(ctx, db, small)
	for i, mv := range big {
		if w.src == nil || w.dst == nil { // an end was lost
			return append(left, big[i:]...), err
		}
		l, e := w.Run(ctx, db, []*Key{mv})
		left = append(left, l...)
		if err == nil {
			err = e
		}
	}
	return left, err
}

// Round takes every key one step further, or those of them whose step goes first. Keys
// that are to be read, restored and unlinked share a round, in which both ends work at
// the same time:
//
//	source ◄─ UNLINK of what was restored last round, then reads for the next ─► replies
//	target ◄─ RESTORE of what was read last round                             ─► replies
//
// A refused RESTORE is that key's matter; stop says that anything else went wrong.
func (w *Worker) Round(ctx context.Context, db int, moves []*Key) (stop bool, err error) {
	w.reads, w.restores, w.unlinks = w.reads[:0], w.restores[:0], w.unlinks[:0]
	for _, mv := range moves {
		switch mv.Step {
		case Read:
			w.reads = append(w.reads, mv)
		case Restore:
			w.restores = append(w.restores, mv)
		case Unlink:
			w.unlinks = append(w.unlinks, mv)
		case FenceTarget, FenceSource, Probe, Persist:
			return w.single(ctx, db, mv.Step, moves)
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
	if w.dst != nil && len(w.unlinks) > 0 {
		if err := w.settleDue(ctx, db); dstErr == nil {
			dstErr = err
		}
	}
	err = fromSource(srcErr)
	w.env.Listener.Failed(err)
	if dstErr = fromTarget(dstErr); dstErr != nil {
		w.env.Listener.Failed(dstErr)
		if err == nil {
			err = dstErr
		}
	}
	return srcErr != nil || w.dst == nil, err
}

// hit is a failpoint of a command about keys: without keys there is none.
func hit(moves []*Key, point string) {
	if len(moves) > 0 {
		failpoint.Hit(point)
	}
}
