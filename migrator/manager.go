package migrator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/flow"
	"keyferry/router"
	"keyferry/slotlock"
)

// Config are the migrator's settings. Times are those of one call or one pause.
type Config struct {
	Gateway         string
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

// Manager owns the control plane of one gateway: it turns stored States into routing
// tables and stored jobs into runners.
type Manager struct {
	cfg         Config
	log         *zap.Logger
	store       topology.Store
	incarnation uint64
	scheme      router.Scheme
	databases   int
	dialer      *upstream.Dialer
	old         map[string]bool // jobs that were published before this process began
	gate        flow.Gate       // every batch of every mover goes through it
	places      *flow.Places    // … and those of passes take places at both ends
	scripted    func(slot int) bool
	opsOfSlots  func() []float32
	clients     ClientLatency
	settled     func(ctx context.Context, group string) error

	mu       sync.Mutex // protects what follows
	locks    map[string]*slotlock.Table
	wholes   map[string]*slotlock.Whole
	drains   map[string]<-chan struct{} // by published job: closed when none of its commands is unlocked
	runners  map[string]*runner
	state    topology.State  // newest seen
	acked    uint64          // epoch that every loop routes by
	news     chan struct{}   // closed and replaced when acked or state change
	changers map[string]bool // names of the connections of dialChanger that stand
	wg       sync.WaitGroup

	feed feed // who wants to hear of jobs
}

// Open takes over the cluster in the store, as a new incarnation of the gateway. If there
// is none, create makes it.
func Open(ctx context.Context, store topology.Store, cfg Config, create topology.State, log *zap.Logger) (*Manager, error) {
	if _, err := store.Load(ctx); errors.Is(err, topology.ErrNotFound) {
		if err := topology.Create(ctx, store, create); err != nil && !errors.Is(err, topology.ErrConflict) {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg, log: log, store: store, locks: make(map[string]*slotlock.Table), drains: make(map[string]<-chan struct{}),
		runners: make(map[string]*runner), wholes: make(map[string]*slotlock.Whole), changers: make(map[string]bool), old: make(map[string]bool), news: make(chan struct{})}
	st, err := topology.Update(ctx, store, func(s *topology.State) error {
		m.incarnation = s.SetGateway(cfg.Gateway)
		return nil
	})
	if err != nil {
		return nil, err
	}
	m.dialer = upstream.NewDialer(cfg.Gateway, m.incarnation)
	if m.scheme, err = router.ParseScheme(st.Scheme); err != nil {
		return nil, err
	}
	m.databases, m.state = st.Databases, st
	m.places = flow.NewPlaces(flowDepth * cfg.GroupParallel)
	for _, j := range st.Jobs {
		if j.Published {
			m.old[j.ID] = true
		}
	}
	return m, nil
}

// Incarnation is this process's number among the gateway's.
func (m *Manager) Incarnation() uint64 { return m.incarnation }

// Dialer makes the connections of this incarnation to servers. Whoever else in this process
// talks to a server does so by it, too.
func (m *Manager) Dialer() *upstream.Dialer { return m.dialer }

// State is the newest State that this gateway has seen.
func (m *Manager) State() topology.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Clone()
}

// Epoch is the one that every loop has acknowledged.
func (m *Manager) Epoch() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.acked
}

// Table is the routing table of the present State: what the data plane begins with.
func (m *Manager) Table() (*router.Table, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.build(m.state.Topology)
}

// build makes the table, and lock tables for jobs newly published. mu is held.
func (m *Manager) build(top topology.Topology) (*router.Table, error) {
	return router.Build(top, func(id string) (*slotlock.Table, *slotlock.Whole) {
		if t := m.locks[id]; t != nil {
			return t, m.wholes[id]
		}
		mode := slotlock.Filtered
		if m.old[id] {
			mode = slotlock.Resolve // this table does not know what had moved before
		}
		o := m.lockOptions()
		o.Mode, o.Closed = mode, !m.old[id]
		t := slotlock.New(o)
		m.locks[id] = t
		for _, mv := range top.Moves {
			if mv.Job == id {
				m.wholes[id] = m.wholeSlots(mv, m.old[id])
			}
		}
		return t, m.wholes[id]
	})
}

func (m *Manager) lockOptions() slotlock.Options {
	return slotlock.Options{ExpectedKeys: 1 << 15, MaxWaiting: m.cfg.MaxWaiting}
}

// Publish gives a table to the data plane: it returns when every loop routes by it, and a
// channel that is closed when nothing is in flight unlocked on slots that begin to move.
type Publish func(context.Context, *router.Table) (drained <-chan struct{}, err error)

// Run follows the store until ctx ends: each State is published to the data plane, and
// its jobs are run. It returns when every runner has stopped.
func (m *Manager) Run(ctx context.Context, publish Publish) error {
	defer m.wg.Wait()
	m.wg.Go(func() { m.tellProgress(ctx) })
	m.wg.Go(func() { m.watch(ctx) })
	published := uint64(0) // the epoch of the newest table that the loops have been given
	for st := range m.store.Watch(ctx) {
		m.mu.Lock()
		m.state = st
		m.mu.Unlock()
		if st.Epoch == published { // a job went on, and routes are as before
			m.startRunners(ctx, st)
			m.tellNews()
			m.forgetJobs(ctx, st)
			continue
		}
		m.mu.Lock()
		table, err := m.build(st.Topology)
		m.mu.Unlock()
		if err != nil {
			return err
		}
		m.startRunners(ctx, st)
		m.tellNews()
		drained, err := publish(ctx, table)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			return err
		}
		published = st.Epoch
		m.mu.Lock()
		m.acked = st.Epoch
		for _, j := range table.Jobs {
			if m.drains[j.ID] == nil {
				m.drains[j.ID] = drained
				m.wg.Go(func() {
					select {
					case <-drained:
						j.Locks.Open()
					case <-ctx.Done():
					}
				})
			}
		}
		m.mu.Unlock()
		m.forgetJobs(ctx, st)
		m.tellNews()
	}
	return ctx.Err()
}

// forgetJobs drops what is kept of jobs that don't need it any more.
func (m *Manager) forgetJobs(ctx context.Context, st topology.State) {
	m.mu.Lock()
	for id := range m.locks {
		// The runner may have published its job already in a State newer than st.
		r := m.runners[id]
		if j := st.Job(id); (j == nil || !j.Published) && (r == nil || !r.job.Published) {
			delete(m.locks, id)
			delete(m.drains, id)
			delete(m.wholes, id)
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
		_ = m.store.DropEvents(ctx, id) // they cost room and nothing else
	}
}

func (m *Manager) tellNews() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.news)
	m.news = make(chan struct{})
}

func (m *Manager) startRunners(ctx context.Context, st topology.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range st.Jobs {
		if m.runners[j.ID] != nil || j.Phase.Ended() {
			continue
		}
		r := &runner{m: m, job: j, locks: m.locks[j.ID], complete: !m.old[j.ID], recovered: m.old[j.ID],
			cmds: make(chan command), relimited: make(chan struct{}, 1), done: make(chan struct{}), errs: &errorLog{}, talk: &talk{}}
		r.progressMs.Store(time.Now().UnixMilli())
		m.runners[j.ID] = r
		m.wg.Go(func() { r.run(ctx) })
	}
}

// AwaitEpoch waits until every loop routes by epoch or a later one.
func (m *Manager) AwaitEpoch(ctx context.Context, epoch uint64) error {
	if err := m.await(ctx, func() bool { return m.acked >= epoch }); err != nil {
		return fmt.Errorf("epoch %d is not acknowledged: %w", epoch, err)
	}
	return nil
}

// await waits until cond, which is called with mu held, is true.
func (m *Manager) await(ctx context.Context, cond func() bool) error {
	for {
		m.mu.Lock()
		ok, news := cond(), m.news
		m.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
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
	m.mu.Lock()
	defer m.mu.Unlock()
	j := r.job
	if r.locks == nil {
		// The State that published it may not have come round yet.
		if _, err := m.build(topology.Topology{Scheme: m.state.Scheme, SlotCount: m.state.SlotCount, Databases: m.databases, Groups: m.state.Groups,
			Moves: []topology.Move{{Job: j.ID, Slots: j.Slots, Source: j.Source, Target: j.Target, Back: j.Back}}}); err != nil {
			panic(err) // only a published job without a lock table is an error, and this makes one
		}
		r.locks = m.locks[j.ID]
	}
	source, _ := m.state.Group(j.Source)
	target, _ := m.state.Group(j.Target)
	if j.Back {
		source, target = target, source
	}
	mv := &mover{cfg: &m.cfg, log: m.log,
		ends:      ends{job: j.ID, source: source, target: target, sourceRunID: j.SourceRunID, dialer: m.dialer},
		scope:     scope{slots: topology.NewSlotSet(j.Slots), scheme: m.scheme, databases: m.databases, locks: r.locks, whole: m.wholes[j.ID]},
		admission: newAdmission(&m.cfg), open: newUndecided(),
		errs: r.errs, talk: r.talk, fenced: fencing{done: make(chan struct{})}}
	mv.gate, mv.places, mv.clients = &m.gate, m.places, m.clients
	r.errs.turn(j.Back)
	if j.Back {
		mv.gov.Back()
	}
	mv.env = mv.newEnv(assurance(j))
	mv.bound(j)
	mv.drained, mv.settled = r.awaitDrained, m.settled
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
