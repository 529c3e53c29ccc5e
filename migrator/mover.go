package migrator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"keyferry/internal/failpoint"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/flow"
	"keyferry/router"
	"keyferry/slotlock"
)

// mover moves the keys of one job. It lives as long as the job's slots are published.
//
// Two kinds of worker share it: those of a pass, which come and go with the attempts, and
// the resolvers, which stay, because keys that clients touch and keys in doubt must be
// decided also while the job pauses or backs off.
type mover struct {
	cfg         *Config
	gate        *flow.Gate
	places      *flow.Places
	crowded     atomic.Int64 // workers that wait for places
	log         *zap.Logger
	job         string
	source      topology.Group
	target      topology.Group
	sourceRunID string // the source's process when the job began to move
	slots       *topology.SlotSet
	scheme      router.Scheme
	databases   int
	locks       *slotlock.Table
	whole       *slotlock.Whole // slots that are moved in one piece
	limit       *rate.Limiter   // keys per second
	byteLimit   *rate.Limiter   // bytes of DUMPs per second
	gov         *flow.Governor  // how much may be in flight
	slice       slicer          // when passes end before they are through
	clients     ClientLatency
	wantClients atomic.Bool               // MAXP99 is not off, and there is somebody to ask
	memory      atomic.Pointer[fullError] // of the target, as last seen
	mustWeigh   atomic.Bool               // it is to be looked at now
	parallel    atomic.Int64              // workers of a pass
	sweeping    atomic.Bool               // passes look for keys at both ends and move none
	missed      atomic.Bool               // … and one has come by a key that was being moved
	dialer      *upstream.Dialer
	comparer    *comparer              // VERIFY
	durability  string                 // see persist
	durableNow  atomic.Pointer[string] // what of it is had
	fenceFirst  func(ctx context.Context) error
	drained     func(ctx context.Context) error               // nothing is in flight at the source without a lock
	settled     func(ctx context.Context, group string) error // what was sent to a group has been answered
	stats       moverStats
	errs        *errorLog
	talk        *talk

	mu        sync.Mutex            // protects what follows up to bell
	pending   []*keyMove            // in doubt, or not yet unlinked; locked
	pool      *pool                 // of the pass under way; nil: none
	batches   map[int64]*keyMove    // one key of each batch that is locked
	doubts    map[*keyMove]struct{} // keys that were pending and are not decided yet
	nextBatch int64
	bell      chan struct{} // capacity 1: pending gained a key

	batch *flow.BatchSize // adapted to the lock hold target
	ready chan struct{}   // closed when the former self has been fenced
	wg    sync.WaitGroup
	life  context.Context // of the mover
	stop  context.CancelFunc

	serving     chan struct{} // closed when demands has ended
	stopServing context.CancelFunc
}

func (m *mover) dialSource(ctx context.Context) (*link, error) {
	return dial(ctx, m.dialer, m.source, m.cfg.CallTimeout)
}

func (m *mover) dialTarget(ctx context.Context) (*link, error) {
	return dial(ctx, m.dialer, m.target, m.cfg.CallTimeout)
}

// start runs the resolver.
func (m *mover) start() {
	ctx, cancel := context.WithCancel(context.Background())
	m.life, m.stop = ctx, cancel
	m.gov.Blind()
	m.mustWeigh.Store(true)
	m.wg.Go(func() { m.resolvers(ctx) })
	m.wg.Go(func() { m.probe(ctx, 0, m.source) })
	m.wg.Go(func() { m.probe(ctx, 1, m.target) })
	m.wg.Go(func() { m.steer(ctx) })
	m.startDemands()
}

// close stops the resolver and waits for it, at most for one call's time-out.
func (m *mover) close() {
	m.stop()
	m.wg.Wait()
	m.comparer.close()
}

// note keeps an error that the resolvers go on after.
func (m *mover) note(err error) {
	m.errs.add(err)
	m.stats.note(m.errs.tell(err))
}

// settle releases the keys whose move is over, and returns the others.
func (m *mover) settle(moves []*keyMove) []*keyMove {
	now := time.Now()
	rest := moves[:0]
	var since time.Time // of the keys counted in n
	n := int64(0)
	for _, mv := range moves {
		if !mv.step.Final() {
			rest = append(rest, mv)
			continue
		}
		if n > 0 && mv.since != since {
			m.stats.held(now.Sub(since), n)
			n = 0
		}
		since = mv.since
		n++
		mv.dump = nil
		if mv.doubted {
			m.mu.Lock()
			delete(m.doubts, mv)
			m.mu.Unlock()
		}
		if failpoint.On(failpoint.PlantNoCreated) && mv.step == Committed && mv.ttl == 0 { // there was nothing to move
			m.locks.CommitForgetting(mv.key)
		} else if mv.step == Committed {
			m.locks.Commit(mv.key)
		} else {
			m.locks.Abort(mv.key, mv.step == Stays)
		}
		if mv.batch != nil {
			mv.batch.left--
		}
	}
	if n > 0 {
		m.stats.held(now.Sub(since), n)
	}
	return rest
}

// leave hands keys that could not be decided to the resolver.
func (m *mover) leave(moves []*keyMove) {
	for _, mv := range moves {
		if mv.step <= Restore { // nothing of it has been sent to the target
			mv.step = Released
		}
	}
	keep := m.settle(moves)
	for _, mv := range keep {
		mv.batch = nil // its part in that is over
	}
	if len(keep) == 0 {
		return
	}
	m.mu.Lock()
	m.pending = append(m.pending, keep...)
	for _, mv := range keep {
		mv.doubted = true
		m.doubts[mv] = struct{}{}
	}
	m.mu.Unlock()
	select {
	case m.bell <- struct{}{}:
	default:
	}
}

func (m *mover) takePending() []*keyMove {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pending
	m.pending = nil
	return p
}

// inDoubt are the keys whose place is not proven at the moment.
func (m *mover) inDoubt() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for mv := range m.doubts {
		out = append(out, mv.key.Name)
	}
	slices.Sort(out)
	return out
}

// Resolvers are several and their batches small, because a key that takes long (a big one,
// say) must not hold up the touches of others.
const (
	resolverCount = 8
	touchBatch    = 8
)

// resolvers fence the former self, then decide touched keys and pending ones for as long
// as the mover lives.
func (m *mover) resolvers(ctx context.Context) {
	pause := m.cfg.BackoffMin
	for {
		err := m.fenceFirst(ctx)
		if err == nil {
			break
		}
		m.note(err)
		m.stats.fenceErr.Store(&err)
		if !m.backOff(ctx, &pause) {
			return
		}
	}
	close(m.ready)
	for i := range resolverCount {
		m.wg.Go(func() { m.resolver(ctx, fmt.Sprint("resolver", i)) })
	}
}

// backOff waits with jitter and doubles the pause; false when ctx has ended.
func (m *mover) backOff(ctx context.Context, pause *time.Duration) bool {
	t := time.NewTimer(*pause/2 + rand.N(*pause/2+1))
	defer t.Stop()
	*pause = min(2**pause, time.Second)
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (m *mover) resolver(ctx context.Context, id string) {
	w := &worker{m: m, id: id}
	defer w.close()
	pause := m.cfg.BackoffMin
	for ctx.Err() == nil {
		err := m.resolveOnce(ctx, w)
		if err == nil {
			pause = m.cfg.BackoffMin
			select {
			case <-m.locks.Touched():
			case <-m.bell:
			case <-ctx.Done():
			}
			continue
		}
		if ctx.Err() == nil {
			m.note(err)
			if ok, skipped := m.talk.may(time.Now()); ok {
				m.log.Warn("resolver: will try again", zap.String("job", m.job), zap.Error(err), zap.Duration("in", pause), zap.Int("lines_left_out", skipped))
			}
		}
		if !m.backOff(ctx, &pause) {
			return
		}
	}
}

// resolveOnce works until nothing is touched or pending.
func (m *mover) resolveOnce(ctx context.Context, w *worker) error {
	for ctx.Err() == nil {
		if pending := m.takePending(); len(pending) > 0 {
			if err := m.drive(ctx, w, pending); err != nil {
				return err
			}
			continue
		}
		// Connect before taking keys: while an end is away they wait locked, each for its
		// client's own deadline, and no retry spins.
		if m.locks.Stats().Waiting > 0 {
			if err := w.connect(ctx); err != nil {
				return err
			}
		}
		keys := m.locks.Take(touchBatch)
		if len(keys) == 0 {
			return nil
		}
		moves := make([]*keyMove, len(keys))
		for i, k := range keys {
			moves[i] = &keyMove{key: k, since: time.Now()}
		}
		m.stats.touched.Add(int64(len(keys)))
		if err := m.drive(ctx, w, moves); err != nil && !isOOM(err) {
			return err
		}
	}
	return nil
}

// drive runs moves of any databases and leaves what could not be decided.
func (m *mover) drive(ctx context.Context, w *worker, moves []*keyMove) error {
	if err := enterGate(ctx, m.gate); err != nil {
		m.leave(moves)
		return err
	}
	defer m.gate.Leave()
	byDB := make(map[int][]*keyMove)
	for _, mv := range moves {
		byDB[mv.key.DB] = append(byDB[mv.key.DB], mv)
	}
	var first error
	for db, group := range byDB {
		if first != nil {
			m.leave(group)
			continue
		}
		if err := w.connect(ctx); err != nil {
			m.leave(group)
			first = err
			continue
		}
		over := m.locked(group)
		left, err := w.run(ctx, db, group)
		m.leave(left)
		over()
		if err != nil {
			first = err
		}
	}
	return first
}

// awaitReady waits until the gateway's former self has been fenced; when that takes long,
// its reason is an error of the attempt.
func (m *mover) awaitReady(ctx context.Context) error {
	t := time.NewTimer(m.cfg.CallTimeout)
	defer t.Stop()
	select {
	case <-m.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		if err := m.stats.fenceErr.Load(); err != nil {
			return *err
		}
		return at(fromGateway, errors.New("former connections are not fenced yet"))
	}
}

// nudge wants keys that are in use. What becomes free in time goes to the resolver; for
// the rest the wish is withdrawn, and a later pass comes by again.
func (m *mover) nudge(busy []slotlock.Key) {
	locks := m.locks // the job may be over when the patience is
	var wanted []slotlock.Key
	for _, k := range busy {
		if locks.Want(k) {
			wanted = append(wanted, k)
		}
	}
	m.stats.busy.Add(int64(len(busy)))
	time.AfterFunc(m.cfg.MoverPatience, func() {
		for _, k := range wanted {
			locks.Unwant(k)
		}
	})
}
