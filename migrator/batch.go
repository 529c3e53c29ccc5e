package migrator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/failpoint"
	"keyferry/slotlock"
)

// keyMove is one key under its lock.
type keyMove struct {
	key    slotlock.Key
	step   MoveStep
	since  time.Time // locked at
	dump   string
	ttl    time.Duration // remaining at readAt; < 0: none
	readAt time.Time
	idleS  int64 // OBJECT IDLETIME, seconds; -1: not known
	freq   int64 // OBJECT FREQ; -1: not known
	fence  string
}

// worker moves batches over a pair of connections. One goroutine uses it.
type worker struct {
	m        *mover
	id       string
	src, dst *link
}

// connect makes sure that both connections stand.
func (w *worker) connect(ctx context.Context) (err error) {
	if w.src == nil {
		if w.src, err = w.m.dialSource(ctx); err != nil {
			return at(fromSource, err)
		}
	}
	if w.dst == nil {
		w.dst, err = w.m.dialTarget(ctx)
		w.m.locks.SetAway(err != nil)
		if err != nil {
			return at(fromTarget, err)
		}
	}
	return nil
}

func (w *worker) close() {
	w.src.close()
	w.dst.close()
	w.src, w.dst = nil, nil
}

// run drives locked keys of one database until each is final, or an error stops it; those
// that are not final then are left in moves with their step. It releases the locks of
// those that are. The first refusal of a key (say OOM) is returned although the others
// went well.
func (w *worker) run(ctx context.Context, db int, moves []*keyMove) (left []*keyMove, err error) {
	keep := func(e error) {
		if err == nil {
			err = e
		}
	}
	for len(moves) > 0 {
		step := moves[0].step
		for _, mv := range moves {
			step = min(step, mv.step)
		}
		var now, rest []*keyMove
		for _, mv := range moves {
			if mv.step == step {
				now = append(now, mv)
			} else {
				rest = append(rest, mv)
			}
		}
		if step == Restore {
			if small, big := w.bySize(now); len(big) > 0 && len(moves) > 1 {
				return w.oneByOne(ctx, db, append(small, rest...), big)
			}
		}
		stop := false
		if e := w.do(ctx, db, step, now); e != nil {
			keep(e)
			// A refused RESTORE is that key's matter; anything else ends the batch here.
			stop = step != Restore || !refused(e)
		}
		moves = rest
		for _, mv := range now {
			if mv.step.Final() {
				w.m.settle(mv)
			} else {
				moves = append(moves, mv)
			}
		}
		if stop {
			return moves, err
		}
	}
	return nil, err
}

func (w *worker) bySize(moves []*keyMove) (small, big []*keyMove) {
	for _, mv := range moves {
		if int64(len(mv.dump)) < w.m.cfg.BigKeyBytes {
			small = append(small, mv)
		} else {
			big = append(big, mv)
		}
	}
	return small, big
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

// do runs one step for keys that all stand there, and advances each.
func (w *worker) do(ctx context.Context, db int, step MoveStep, moves []*keyMove) error {
	ctx, cancel := context.WithTimeout(ctx, w.m.cfg.CallTimeout)
	defer cancel()
	failpoint.Hit("move." + step.String() + ".before")
	var err error
	began, size := time.Now(), dumped(moves)
	switch step {
	case Read:
		err = w.read(ctx, db, moves)
	case Restore:
		err = w.restore(ctx, db, moves)
	case FenceTarget, FenceSource:
		err = w.fence(ctx, step, moves)
	case Probe:
		err = w.probe(ctx, db, moves)
	case Persist:
		err = w.persist(ctx, moves)
	case Unlink:
		err = w.unlink(ctx, db, moves)
	}
	if step == Restore {
		w.m.gov.restored(time.Now(), time.Since(began), len(moves), size)
	}
	failpoint.Hit("move." + step.String() + ".after")
	w.m.errs.add(err)
	return err
}

// dumped is how many bytes of DUMPs are held.
func dumped(moves []*keyMove) (n int) {
	for _, mv := range moves {
		n += len(mv.dump)
	}
	return n
}

// lostSource and lostTarget throw a connection away and return its name.
func (w *worker) lostSource() string {
	name := w.src.name
	w.src.close()
	w.src = nil
	return name
}

func (w *worker) lostTarget() string {
	name := w.dst.name
	w.dst.close()
	w.dst = nil
	return name
}

// read takes the keys as they are. Nothing else touches them, so what is read needs no
// transaction: only the passing of time can come between PTTL and DUMP, and a key that
// expires there is gone as it should be. OBJECT goes first, because DUMP counts as an
// access.
func (w *worker) read(ctx context.Context, db int, moves []*keyMove) error {
	all := func(o Outcome) {
		for _, mv := range moves {
			mv.step = mv.step.Next(o)
		}
	}
	if err := w.src.use(ctx, db); err != nil {
		all(Unknown)
		w.lostSource()
		return at(fromSource, err)
	}
	lfu := strings.Contains(w.src.info.policy, "lfu")
	meta := make([]*redis.Cmd, len(moves))
	ttl := make([]*redis.Cmd, len(moves))
	dump := make([]*redis.StringCmd, len(moves))
	p := w.src.conn.Pipeline()
	for i, mv := range moves {
		word := "IDLETIME"
		if lfu {
			word = "FREQ"
		}
		meta[i] = p.Do(ctx, "OBJECT", word, mv.key.Name)
		ttl[i] = p.Do(ctx, "PTTL", mv.key.Name)
		dump[i] = p.Dump(ctx, mv.key.Name)
	}
	_, _ = p.Exec(ctx) // each command has its own error
	readAt := time.Now()
	stale := w.src.info.runID != w.m.sourceRunID
	var first error
	broken := false
	for i, mv := range moves {
		o := OK
		switch err := dump[i].Err(); {
		case errors.Is(err, redis.Nil):
			o = Absent
		case err != nil:
			o = Refused
			if !refused(err) {
				o, broken = Unknown, true
			}
			if first == nil {
				first = err
			}
		case stale && w.m.locks.MaybeMoved(mv.key):
			o = Stale
			w.m.stats.stale.Add(1)
		default:
			mv.dump, mv.readAt, mv.idleS, mv.freq = dump[i].Val(), readAt, -1, -1
			if n, err := meta[i].Int64(); err == nil && lfu {
				mv.freq = n
			} else if err == nil {
				mv.idleS = n
			}
			n, err := ttl[i].Int64()
			if err != nil && first == nil {
				first = err
			}
			mv.ttl = time.Duration(n) * time.Millisecond
			if err != nil {
				o = Refused
			} else if n == -2 { // it has expired between the two
				o = Absent
			}
		}
		mv.step = mv.step.Next(o)
	}
	if broken {
		w.lostSource()
	}
	return at(fromSource, first)
}

// restore is the commit point of each key.
func (w *worker) restore(ctx context.Context, db int, moves []*keyMove) error {
	if err := w.dst.use(ctx, db); err != nil {
		for _, mv := range moves { // nothing was sent
			mv.step = Released
		}
		w.lostTarget()
		return at(fromTarget, err)
	}
	cmds := make([]*redis.Cmd, len(moves))
	p := w.dst.conn.Pipeline()
	for i, mv := range moves {
		args := []any{"RESTORE", mv.key.Name, mv.ttlMs(), mv.dump}
		if mv.idleS > 0 {
			args = append(args, "IDLETIME", mv.idleS)
		}
		if mv.freq >= 0 {
			args = append(args, "FREQ", mv.freq)
		}
		cmds[i] = p.Do(ctx, args...)
	}
	_, _ = p.Exec(ctx)
	var first, lost error
	for i, mv := range moves {
		o := OK
		switch err := cmds[i].Err(); {
		case err == nil:
			w.m.stats.moved(mv)
		case !refused(err):
			o, lost = Unknown, err
			mv.fence = w.dst.name
		case strings.HasPrefix(err.Error(), "BUSYKEY"):
			o = Busy
		default:
			o = Refused
			if first == nil {
				first = fmt.Errorf("RESTORE %q: %w", mv.key.Name, err)
			}
		}
		mv.step = mv.step.Next(o)
		mv.dump = ""
	}
	if lost != nil {
		w.m.errs.add(at(fromTarget, first)) // what was answered before the connection broke
		w.lostTarget()
		return at(fromTarget, lost)
	}
	return at(fromTarget, first)
}

// ttlMs is the TTL argument of RESTORE: what is left, less the time since it was read. 0
// would mean no expiry, so a key that is due gets one millisecond.
func (mv *keyMove) ttlMs() int64 {
	if mv.ttl < 0 {
		return 0
	}
	return max((mv.ttl - time.Since(mv.readAt)).Milliseconds(), 1)
}

// fence kills the connections on which the fate of the keys is open.
func (w *worker) fence(ctx context.Context, step MoveStep, moves []*keyMove) error {
	g, origin := w.m.target, fromTarget
	if step == FenceSource {
		g, origin = w.m.source, fromSource
	}
	done := make(map[string]bool)
	for _, mv := range moves {
		if !done[mv.fence] {
			if err := fence(ctx, g, w.m.name(), mv.fence); err != nil {
				return at(origin, err)
			}
			done[mv.fence] = true
		}
		mv.step = mv.step.Next(OK)
	}
	return nil
}

func (w *worker) probe(ctx context.Context, db int, moves []*keyMove) error {
	if err := w.dst.use(ctx, db); err != nil {
		w.lostTarget()
		return at(fromTarget, err)
	}
	cmds := make([]*redis.IntCmd, len(moves))
	p := w.dst.conn.Pipeline()
	for i, mv := range moves {
		cmds[i] = p.Exists(ctx, mv.key.Name)
	}
	_, _ = p.Exec(ctx)
	var first error
	for i, mv := range moves {
		n, err := cmds[i].Result()
		switch {
		case err != nil:
			if first == nil {
				first = err
			}
		case n == 1:
			mv.step = mv.step.Next(OK)
		default:
			mv.step = mv.step.Next(Absent)
		}
	}
	if first != nil && !refused(first) {
		w.lostTarget()
	}
	return at(fromTarget, first)
}

// persist waits until a replica of the target has what was restored, if it has replicas.
func (w *worker) persist(ctx context.Context, moves []*keyMove) error {
	if w.dst.info.replicas > 0 {
		n, err := w.dst.conn.Do(ctx, "WAIT", 1, w.m.cfg.CallTimeout.Milliseconds()/2).Int64()
		if err == nil && n < 1 {
			err = errors.New("no replica acknowledged the restored keys in time")
		} else if err != nil && !refused(err) {
			w.lostTarget()
		}
		if err != nil {
			return at(fromTarget, err)
		}
	}
	for _, mv := range moves {
		mv.step = mv.step.Next(OK)
	}
	return nil
}

func (w *worker) unlink(ctx context.Context, db int, moves []*keyMove) error {
	if err := w.src.use(ctx, db); err != nil {
		w.lostSource()
		return at(fromSource, err)
	}
	args := make([]any, 1, len(moves)+1)
	args[0] = "UNLINK"
	for _, mv := range moves {
		args = append(args, mv.key.Name)
	}
	err := w.src.conn.Do(ctx, args...).Err()
	o := OK
	if err != nil {
		if o = Refused; !refused(err) {
			o = Unknown
			name := w.lostSource()
			for _, mv := range moves {
				mv.fence = name
			}
		}
	}
	for _, mv := range moves {
		mv.step = mv.step.Next(o)
	}
	return at(fromSource, err)
}
