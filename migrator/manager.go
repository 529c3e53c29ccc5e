package migrator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/control"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/flow"
	"keyferry/migrator/link"
	"keyferry/router"
	"keyferry/slotlock"
)

// Config are the migrator's settings. Times are those of one call or one pause.
type Config struct {
	Parallel        int // workers of a pass, unless the job says otherwise
	GroupParallel   int // … of all jobs together at one group; 0: no bound
	BatchMaxKeys    int
	LockHoldTarget  time.Duration  // batches are sized so that a lock is held about this long
	MoverPatience   time.Duration  // how long newcomers wait behind the mover's wish for a key in use
	MaxP99Auto      bool           // jobs make way for clients that wait longer than before, unless they say otherwise
	Slice           topology.Slice // of jobs that say nothing else when they begin
	BigKeyBytes     int64
	MemoryLimit     int64 // bytes of keys in flight, per job
	ScanCount       int64
	CheckpointEvery time.Duration
	MaxAttempts     int // failed attempts in a row, then the job is failed; 0: never
	BackoffMin      time.Duration
	BackoffMax      time.Duration
	CallTimeout     time.Duration // of one call to a server
	StalledAfter    time.Duration // without progress
	MaxWaiting      int           // keys waited for by clients, per job
}

// Manager carries out the jobs of one gateway: it runs those of each State that the control
// plane shows it, and keeps the lock tables of their slots. It lives as long as the gateway:
// New, the Set methods, and then what control.Migrator says.
type Manager struct {
	cfg       Config
	log       *zap.Logger
	store     topology.Store
	control   *control.Control
	scheme    router.Scheme
	databases int
	dialer    *upstream.Dialer // of every connection to a server
	old       map[string]bool  // jobs that were published before this process began; never changes
	gate      flow.Gate        // every batch of every mover goes through it
	places    *flow.Places     // … and those of passes take places at both ends
	plane     plane
	ctx       context.Context // of all that is run; set by Begin
	wg        sync.WaitGroup  // all that is run

	mu       sync.Mutex // protects what follows; control is never called with it held
	moves    map[string]*moving
	runners  map[string]*runner
	changers map[string]bool // names of the connections of dialChanger that stand

	feed feed // who wants to hear of jobs
}

// plane is what the rest of the gateway tells the Manager. It is set before Begin and does
// not change; a nil function is not asked.
type plane struct {
	scripted   func(slot int) bool                           // scripts have run in the slot
	opsOfSlots func() []float32                              // commands a second, by slot; nil: not known
	clients    ClientLatency                                 // how long clients wait
	settled    func(ctx context.Context, group string) error // returns when all commands sent to the group are answered
}

// moving is what the data plane has of one job whose slots move. It is made when the job's
// Move is first seen, by the control plane or by the runner that has stored it, and kept
// until no loop routes by it. Manager.mu protects routed; the rest does not change.
type moving struct {
	locks   *slotlock.Table
	whole   *slotlock.Whole // the slots that are moved in one piece; nil: none
	routed  bool            // every loop routes by it
	drained chan struct{}   // closed when, besides, none of its commands is unlocked
}

// New makes the Manager of the cluster that ctl has opened.
func New(store topology.Store, cfg Config, ctl *control.Control, dialer *upstream.Dialer, log *zap.Logger) (*Manager, error) {
	st := ctl.State()
	scheme, err := router.ParseScheme(st.Scheme)
	if err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg, log: log, store: store, control: ctl, dialer: dialer, scheme: scheme, databases: st.Databases, old: make(map[string]bool),
		places: flow.NewPlaces(flowDepth * cfg.GroupParallel), moves: make(map[string]*moving), runners: make(map[string]*runner), changers: make(map[string]bool)}
	for _, mv := range st.Moves {
		if mv.To == 0 {
			m.old[mv.Job] = true
		}
	}
	return m, nil
}

// Begin implements control.Migrator.
func (m *Manager) Begin(ctx context.Context) {
	m.ctx = ctx
	m.wg.Go(func() { m.tellProgress(ctx) })
	m.wg.Go(func() { m.watch(ctx) })
}

// Wait implements control.Migrator.
func (m *Manager) Wait() { m.wg.Wait() }

// LocksOf implements control.Migrator.
func (m *Manager) LocksOf(mv topology.Move) (*slotlock.Table, *slotlock.Whole) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.moving(mv)
	return x.locks, x.whole
}

// moving finds what the data plane has of a move, or makes it. mu is held.
func (m *Manager) moving(mv topology.Move) *moving {
	if x := m.moves[mv.Job]; x != nil {
		return x
	}
	old := m.old[mv.Job]
	o := m.lockOptions()
	o.Mode, o.Closed = slotlock.Filtered, !old
	if old {
		o.Mode = slotlock.Resolve // this table does not know what had moved before
	}
	x := &moving{locks: slotlock.New(o), whole: m.wholeSlots(mv, old), drained: make(chan struct{})}
	m.moves[mv.Job] = x
	return x
}

// moveOf is the Move that a published job has, or will have when the State that publishes it
// has come round, as far as moving needs it.
func moveOf(j *topology.Job) topology.Move {
	return topology.Move{Job: j.ID, Slots: j.Slots, Source: j.Source, Target: j.Target, Back: j.Back}
}

func (m *Manager) lockOptions() slotlock.Options {
	return slotlock.Options{ExpectedKeys: 1 << 15, MaxWaiting: m.cfg.MaxWaiting}
}

// Follow implements control.Migrator: it runs the jobs that are new.
func (m *Manager) Follow(st topology.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range st.Jobs {
		if m.runners[j.ID] != nil || j.Phase.Ended() {
			continue
		}
		r := &runner{m: m, job: j, complete: !m.old[j.ID], recovered: m.old[j.ID],
			cmds: make(chan command), relimited: make(chan struct{}, 1), done: make(chan struct{}), errs: &errorLog{}, talk: &talk{}}
		if x := m.moves[j.ID]; x != nil {
			r.locks = x.locks
		}
		r.progressMs.Store(time.Now().UnixMilli())
		m.runners[j.ID] = r
		m.wg.Go(func() { r.run(m.ctx) })
	}
}

// Routed implements control.Migrator: it opens the lock tables of new moves when they are
// drained, and drops what is kept of jobs that don't need it any more.
func (m *Manager) Routed(st topology.State, drained <-chan struct{}) {
	m.mu.Lock()
	for _, mv := range st.Moves {
		if x := m.moves[mv.Job]; drained != nil && mv.To == 0 && !x.routed {
			x.routed = true
			m.wg.Go(func() {
				select {
				case <-drained:
					x.locks.Open()
					close(x.drained)
				case <-m.ctx.Done():
				}
			})
		}
	}
	for id := range m.moves {
		// The runner may have published its job already in a State newer than st.
		r := m.runners[id]
		if j := st.Job(id); (j == nil || !j.Published) && (r == nil || !r.job.Published) {
			delete(m.moves, id)
		}
	}
	var forgotten []string
	for id := range m.runners { // jobs so old that the State has forgotten them
		if st.Job(id) == nil {
			delete(m.runners, id)
			forgotten = append(forgotten, id)
		}
	}
	m.mu.Unlock()
	for _, id := range forgotten {
		_ = m.store.DropEvents(m.ctx, id) // they cost room and nothing else
	}
}

// CheckPrimary implements control.Migrator.
func (m *Manager) CheckPrimary(ctx context.Context, g topology.Group) error {
	l, err := link.Dial(ctx, m.dialer, g, m.cfg.CallTimeout)
	if err != nil {
		return fmt.Errorf("%s: %w", g.Addr, err)
	}
	defer l.Close()
	switch {
	case l.Info.Role != "master":
		return fmt.Errorf("%s is a %s: a group's address must be its primary", g.Addr, l.Info.Role)
	case l.Info.Loading:
		return fmt.Errorf("%s still loads its data", g.Addr)
	}
	return nil
}

func (m *Manager) ends(ctx context.Context, j topology.Job) (source, target topology.Group, err error) {
	st, err := m.store.Load(ctx)
	if err != nil {
		return source, target, err
	}
	source, _ = st.Group(j.Source)
	target, _ = st.Group(j.Target)
	return source, target, nil
}

// newMover is called once a job is published; its groups can't change any more.
func (m *Manager) newMover(r *runner) *mover {
	st := m.control.State()
	m.mu.Lock()
	defer m.mu.Unlock()
	j := r.job
	x := m.moving(moveOf(&j)) // the State that published it may not have come round yet
	r.locks = x.locks
	source, _ := st.Group(j.Source)
	target, _ := st.Group(j.Target)
	if j.Back {
		source, target = target, source
	}
	mv := &mover{cfg: &m.cfg, log: m.log,
		ends:      ends{job: j.ID, source: source, target: target, sourceRunID: j.SourceRunID, dialer: m.dialer},
		scope:     scope{slots: topology.NewSlotSet(j.Slots), scheme: m.scheme, databases: m.databases, locks: r.locks, whole: x.whole},
		admission: newAdmission(&m.cfg), open: newUndecided(),
		errs: r.errs, talk: r.talk, fenced: fencing{done: make(chan struct{})}}
	mv.gate, mv.places, mv.clients = &m.gate, m.places, m.plane.clients
	r.errs.turn(j.Back)
	if j.Back {
		mv.gov.Back()
	}
	mv.env = mv.newEnv(assurance(j))
	mv.bound(j)
	mv.drained, mv.settled = r.awaitDrained, m.plane.settled
	mv.fenceFormer = func(ctx context.Context) error {
		if !r.recovered {
			return nil
		}
		return m.fenceFormer(ctx, source, target)
	}
	mv.stats.init(m.cfg.BigKeyBytes, mv.gov.Sized)
	mv.stats.firstKeys, mv.stats.firstBytes = j.KeysMoved, j.BytesMoved
	// The job is stored with each phase, the checkpoint more often: it knows better.
	if cp, ok, err := m.store.LoadCheckpoint(context.Background(), j.ID); err == nil && ok {
		mv.stats.firstKeys, mv.stats.firstBytes = max(j.KeysMoved, cp.KeysMoved), max(j.BytesMoved, cp.BytesMoved)
	}
	return mv
}
