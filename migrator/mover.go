package migrator

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/joberr"
	"keyferry/migrator/keymove"
	"keyferry/migrator/link"
	"keyferry/router"
	"keyferry/slotlock"
)

// mover moves the keys of one job in one direction. It lives from the moment that a runner
// finds its job published until the job has ended or turned round, or the gateway stops: close
// waits for all of its goroutines.
//
// Two kinds of worker share it: those of a pass, which come and go with the attempts, and
// the resolvers, which stay, because keys that clients touch and keys in doubt must be
// decided also while the job pauses or backs off.
//
// What is not said to be written by somebody is set before start and never again.
type mover struct {
	cfg *Config
	log *zap.Logger
	ends
	scope
	admission
	hooks

	sweeping sweeping
	open     undecided
	large    tooLarge
	slice    slicer // when passes end before they are through
	scripts  scriptServer

	env        *keymove.Env           // of all workers; see newEnv
	durableNow atomic.Pointer[string] // what can be had of DURABILITY; written by workers when they connect

	stats moverStats
	errs  *errorLog // of the job: it outlives the mover
	talk  *talk     // likewise

	fenced fencing
	wg     sync.WaitGroup // every goroutine of the mover
	life   context.Context
	stop   context.CancelFunc // ends life
}

// ends are the servers that keys go from and to. On the way back of a revert they are the
// job's, the other way round.
type ends struct {
	job         string // its id
	source      topology.Group
	target      topology.Group
	sourceRunID string // the source's life when the job began to move: see serverInfo.life
	dialer      *upstream.Dialer
	ledger      *keymove.Ledger // of what the target must have
}

// scope is which keys the mover is about, and the locks that it has to hold to touch one.
// The lock table and the whole slots are shared with the loops.
type scope struct {
	slots     *topology.SlotSet
	scheme    router.Scheme
	databases int
	locks     *slotlock.Table // nil once the runner has shut: see runner.shut
	whole     *slotlock.Whole // slots that are moved in one piece; nil: none are
}

// hooks are what the mover asks of the gateway around it.
type hooks struct {
	fenceOthers func(ctx context.Context) error               // no connection of a former process, or a fenced gateway, acts any more
	drained     func(ctx context.Context) error               // nothing is in flight at the source without a lock
	deadline    func() time.Duration                          // how long a command waits for a key; nil: nobody says
	settled     func(ctx context.Context, group string) error // what was sent to a group has been answered
	keep        func(context.Context, keymove.Account) error  // stores what the target has to show
	events      Events
}

// fencing is whether former selves and gateways that have gone are fenced. The first resolver writes it; passes
// and scripts wait for it, since an old connection might still act on any key.
type fencing struct {
	done chan struct{}         // closed when it is
	err  atomic.Pointer[error] // why it is not yet; nil: not known
}

// sweeping is a pass that looks for keys at both ends and moves none: see mover.sweep, which
// sets it. The workers of the pass read it.
type sweeping struct {
	on     atomic.Bool
	missed atomic.Bool // it has come by a key that was being moved

	// How far it is, for the status: both count keys of any slot.
	of   atomic.Int64 // that the server had when it began
	from atomic.Int64 // moverStats.scanned when it began
}

// begin is called by a pass.
func (s *sweeping) begin(at link.Info, scanned int64) {
	s.of.Store(at.Keys())
	s.from.Store(scanned)
}

// dialSource connects to where keys come from, dialTarget to where they go: on the way back of a
// revert these are the job's target and its source.
func (m *mover) dialSource(ctx context.Context) (*link.Link, error) {
	return link.Dial(ctx, m.dialer, m.source, m.cfg.CallTimeout)
}

func (m *mover) dialTarget(ctx context.Context) (*link.Link, error) {
	return link.Dial(ctx, m.dialer, m.target, m.cfg.CallTimeout)
}

// start runs the resolver.
func (m *mover) start() {
	ctx, cancel := context.WithCancel(context.Background())
	m.life, m.stop = ctx, cancel
	m.gov.Blind()
	m.room.ask()
	m.wg.Go(func() { m.resolvers(ctx) })
	m.wg.Go(func() { m.ping(ctx, 0, m.source) })
	m.wg.Go(func() { m.ping(ctx, 1, m.target) })
	m.wg.Go(func() { m.steer(ctx) })
	m.serveScripts()
}

// close stops the resolver and waits for it, at most for one call's time-out.
func (m *mover) close() {
	m.stop()
	m.wg.Wait()
	m.env.Comparer.Close()
}

// note keeps an error that the resolvers go on after.
func (m *mover) note(err error) {
	m.errs.add(err)
	m.stats.resolver.note(m.errs.tell(err))
}

// awaitReady waits until the gateway's former self has been fenced; when that takes long,
// its reason is an error of the attempt.
func (m *mover) awaitReady(ctx context.Context) error {
	t := time.NewTimer(m.cfg.CallTimeout)
	defer t.Stop()
	select {
	case <-m.fenced.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		if err := m.fenced.err.Load(); err != nil {
			return *err
		}
		return joberr.At(joberr.Gateway, errors.New("former connections are not fenced yet"))
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
