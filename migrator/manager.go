package migrator

import (
	"cmp"
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/control"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/flow"
	"keyferry/migrator/keymove"
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
	StampEvery      time.Duration // from one look at the stamps of all groups to the next; 0: stampEvery
}

func (c *Config) stampEvery() time.Duration { return cmp.Or(c.StampEvery, stampEvery) }

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
	gate      flow.Gate        // every batch of every mover goes through it
	places    *flow.Places     // … and those of passes take places at both ends
	plane     plane
	ctx       context.Context // of all that is run; set by Begin
	wg        sync.WaitGroup  // all that is run

	mu       sync.Mutex          // protects what follows; control is never called with it held
	jobs     map[string]*liveJob // by id
	changers map[string]bool     // names of the connections of dialChanger that stand

	remote      remote      // what is known of jobs of other gateways
	stamps      *stampBook  // what the groups' servers show
	subscribers subscribers // who wants to hear of jobs
}

// plane is what the rest of the gateway tells the Manager. It is set before Begin and does
// not change; a nil function is not asked.
type plane struct {
	scripted   func(slot int) bool                           // scripts have run in the slot
	opsOfSlots func() []float32                              // commands a second, by slot; nil: not known
	clients    ClientLatency                                 // how long clients wait
	deadline   func() time.Duration                          // how long a command waits for a key
	settled    func(ctx context.Context, group string) error // returns when all commands sent to the group are answered
	events     Events
	peers      Peers                                             // nil: there are none
	seen       func(topology.Group) (runID string, at time.Time) // what a group's server has said last that it is
	refuse     func(why string)                                  // has writes refused, or served again
}

// Events is what the data plane knows of keyspace events.
type Events struct {
	Wanted func() bool                                 // some client listens
	Heard  func(ctx context.Context, groups ...string) // returns when those that groups have had until now are with who listens
}

// SetEvents gives the Manager the data plane's word on who listens to keyspace events. Call it before
// Begin.
func (m *Manager) SetEvents(e Events) { m.plane.events = e }

// New makes the Manager of the cluster that ctl has opened.
func New(store topology.Store, cfg Config, ctl *control.Control, dialer *upstream.Dialer, log *zap.Logger) (*Manager, error) {
	st := ctl.State()
	scheme, err := router.ParseScheme(st.Scheme)
	if err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg, log: log, store: store, control: ctl, dialer: dialer, scheme: scheme, databases: st.Databases,
		places: flow.NewPlaces(flowDepth * cfg.GroupParallel), jobs: make(map[string]*liveJob), changers: make(map[string]bool),
		stamps: newStampBook(st)}
	return m, nil
}

// Begin implements control.Migrator.
func (m *Manager) Begin(ctx context.Context) {
	m.ctx = ctx
	m.wg.Go(func() { m.tellProgress(ctx) })
	m.wg.Go(func() { m.watch(ctx) })
	m.wg.Go(func() { m.followRemote(ctx) })
	m.stamps.begin()
	m.wg.Go(func() { m.keepStamps(ctx) })
	m.lookForStrays(ctx)
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

// moveOf is the Move that a published job has, or will have when the State that publishes it
// has come round, as far as moving needs it.
func moveOf(j *topology.Job) topology.Move {
	return topology.Move{Job: j.ID, Slots: j.Slots, Source: j.Source, Target: j.Target, Back: j.Back}
}

// ends are a job's groups as they are stored now, since its addresses may have been changed until
// the moment that it is published.
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
		ends: ends{job: j.ID, source: source, target: target, sourceRunID: j.SourceRunID, dialer: m.dialer,
			ledger: m.newLedger(j, r.live.recovered)},
		scope:     scope{slots: topology.NewSlotSet(j.Slots), scheme: m.scheme, databases: m.databases, locks: r.locks, whole: x.whole},
		admission: newAdmission(&m.cfg), open: newUndecided(),
		errs: r.errs, talk: r.talk, fenced: fencing{done: make(chan struct{})}}
	mv.gate, mv.places, mv.clients = &m.gate, m.places, m.plane.clients
	mv.events = m.plane.events
	r.errs.reverse(j.Back)
	if j.Back {
		mv.gov.Back()
	}
	mv.env = mv.newEnv(assurance(j))
	mv.bound(j)
	mv.drained, mv.settled, mv.deadline = r.awaitDrained, m.plane.settled, m.plane.deadline
	mv.keep = func(ctx context.Context, a keymove.Account) error {
		return m.saveAccount(ctx, accountOf(j.ID, j.Back), a)
	}
	mv.fenceOthers = func(ctx context.Context) error {
		if !r.live.recovered && !m.control.HasOthers() {
			return m.stampEnds(ctx, source, target)
		}
		// A gateway that does not acknowledge is taken out in the end; only then its connections are
		// known to be of the fenced.
		if err := r.awaitDrained(ctx); err != nil {
			return err
		}
		if err := m.fenceOthers(ctx, source, target); err != nil {
			return err
		}
		return m.stampEnds(ctx, source, target)
	}
	mv.stats.init(m.cfg.BigKeyBytes, mv.gov.Sized)
	mv.stats.firstKeys, mv.stats.firstBytes = j.KeysMoved, j.BytesMoved
	// The job is stored with each phase, the checkpoint more often: it knows better.
	if cp, ok, err := m.store.LoadCheckpoint(context.Background(), j.ID); err == nil && ok {
		mv.stats.firstKeys, mv.stats.firstBytes = max(j.KeysMoved, cp.KeysMoved), max(j.BytesMoved, cp.BytesMoved)
	}
	return mv
}
