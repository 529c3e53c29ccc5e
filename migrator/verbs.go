package migrator

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"keyferry/internal/topology"
	"keyferry/migrator/flow"
	"keyferry/migrator/job"
	"keyferry/slotlock"
)

// MoveRequest is what PROXY MIGRATE asks for.
type MoveRequest struct {
	Slots  []topology.Range
	Target string
	Limits job.Limits

	Purge     bool  // remove keys of the slots that the target holds
	PurgeKeys int64 // … if they are so many

	Durability  string  // job.DurabilityAuto and so on
	VerifyShare float64 // of the keys, 0 to 1, that are compared before the source gives them up
}

// Plan is one job before it is accepted.
type Plan struct {
	Source string           `json:"source"`
	Target string           `json:"target"`
	Slots  []topology.Range `json:"slots"`
	// What is expected; -1: not known. Keys are the source's by its share of slots, bytes
	// those of as many of a sample of its keys, seconds what earlier jobs took for as many.
	Keys    int64 `json:"estimated_keys"`
	Bytes   int64 `json:"estimated_bytes"`
	Seconds int64 `json:"estimated_seconds"`
}

// PlanMove says which jobs a request needs: one for each group that owns some of its
// slots. Slots that the target owns already are left out.
func PlanMove(st topology.State, q MoveRequest) ([]Plan, error) {
	if _, ok := st.Group(q.Target); !ok {
		return nil, fmt.Errorf("no such group %q", q.Target)
	}
	by := make(map[string][]topology.Range)
	for _, r := range q.Slots {
		for slot := r.First; slot <= r.Last; slot++ {
			owner, ok := st.OwnerOf(slot)
			if !ok {
				return nil, fmt.Errorf("slot %d is owned by nobody: use PROXY SLOT ASSIGN", slot)
			}
			if owner == q.Target {
				continue
			}
			rs := by[owner]
			if n := len(rs); n > 0 && rs[n-1].Last == slot-1 {
				rs[n-1].Last = slot
			} else {
				by[owner] = append(rs, topology.Range{First: slot, Last: slot})
			}
		}
	}
	switch {
	case len(by) == 0:
		return nil, fmt.Errorf("group %s owns these slots already", q.Target)
	case len(by) > 1 && q.Purge: // a number for all would say nothing of any
		return nil, fmt.Errorf("PURGE states how many keys one job will remove, and these slots need %d jobs, since they come from groups %s: DRYRUN without PURGE says what is in the way of each; MIGRATE the slots of each group by themselves",
			len(by), strings.Join(slices.Sorted(maps.Keys(by)), ", "))
	}
	var out []Plan
	for source, rs := range by {
		out = append(out, Plan{Source: source, Target: q.Target, Slots: rs, Keys: -1, Bytes: -1, Seconds: -1})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Source < out[j].Source })
	return out, nil
}

// Submit stores jobs for the plans; they start at once. It returns their ids.
//
// All jobs of a request are stored in one transaction, or none is: half a rebalance is nothing
// that anybody has asked for.
func (m *Manager) Submit(ctx context.Context, plans []Plan, q MoveRequest) ([]string, error) {
	if why := m.Refusal(); why != "" {
		return nil, fmt.Errorf("no keys are moved now: %s", why)
	}
	var ids []string
	st, err := topology.Update(ctx, m.store, func(s *topology.State) error {
		ids = ids[:0]
		for _, p := range plans {
			var j topology.Job
			j.JobRequest = topology.JobRequest{Slots: p.Slots, Source: p.Source, Target: p.Target, Durability: q.Durability, VerifyShare: q.VerifyShare,
				Purge: q.Purge, PurgeKeys: q.PurgeKeys, MaxAttempts: m.cfg.MaxAttempts, CreatedAtMs: time.Now().UnixMilli()}
			j.JobLimits, j.Phase = m.limited(q.Limits), topology.Queued
			j.Owner = cmp.Or(s.LeastBusy(""), m.control.Gateway())
			id, err := s.AddJob(j)
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// Whoever asks about the job next, by the id that is returned here, finds it.
	if err := m.control.Await(ctx, func() bool { return m.control.Revision() >= st.Revision }); err != nil {
		return ids, fmt.Errorf("%s been stored and will begin, but the gateway has not come to it yet: %w", jobsHave(ids), err)
	}
	for _, id := range ids {
		at := time.Now().UnixMilli()
		if j := st.Job(id); j != nil { // the runner may have begun since
			at = j.CreatedAtMs
		}
		m.record(ctx, topology.JobEvent{Job: id, AtMs: at, Event: "submitted", To: topology.Queued})
	}
	return ids, nil
}

// jobsHave begins a sentence about jobs.
func jobsHave(ids []string) string {
	switch n := len(ids); {
	case n == 1:
		return "job " + ids[0] + " has"
	case n > 5:
		return fmt.Sprintf("%d jobs, %s to %s, have", n, ids[0], ids[n-1])
	}
	return "jobs " + strings.Join(ids, ", ") + " have"
}

// limited are the limits that a new job has.
func (m *Manager) limited(by job.Limits) topology.JobLimits {
	j := topology.Job{JobLimits: topology.JobLimits{Slice: m.cfg.Slice}}
	by.Apply(&j)
	return j.JobLimits
}

// Pause, Resume and Cancel change a job; they return when the change is stored. Cancel
// ends a job that has moved nothing; another is left as it is, paused.
func (m *Manager) Pause(ctx context.Context, id string) error {
	return m.tell(ctx, id, job.Event{Kind: job.PauseBy}, nil)
}

func (m *Manager) Resume(ctx context.Context, id string) error {
	return m.tell(ctx, id, job.Event{Kind: job.ResumeBy}, nil)
}

// Forward is Resume to the target: also of a job on its way back, whether it waits or not.
func (m *Manager) Forward(ctx context.Context, id string) error {
	return m.tell(ctx, id, job.Event{Kind: job.ResumeBy, Forward: true}, nil)
}

func (m *Manager) Cancel(ctx context.Context, id string) error {
	return m.tell(ctx, id, job.Event{Kind: job.CancelBy}, nil)
}

// Revert ends a job by bringing back what has moved; it returns when that is stored as the
// job's intent. Of a job that has moved nothing it is Cancel. It is refused, and the job goes on
// as it was, if the source would not take the keys back. warning is what stands in its way that an
// operator can mend while it goes on; "": nothing is known.
func (m *Manager) Revert(ctx context.Context, id string) (warning string, err error) {
	warning, refusal := m.refuseRevert(ctx, id)
	return warning, m.tell(ctx, id, job.Event{Kind: job.CancelBy, Revert: true}, refusal)
}

// tell hands an operator's event to who runs the job. Without a runner the job has ended, or this
// process has not come to it yet. Saying CANCEL or REVERT again is no error: whoever got no answer
// the first time, because the gateway was restarted say, has to be able to ask again.
//
// refusal is what an event that makes sense is answered with, and not stored; but a job of which
// nothing has moved is cancelled all the same.
func (m *Manager) tell(ctx context.Context, id string, ev job.Event, refusal error) error {
	m.mu.Lock()
	r := m.runner(id)
	m.mu.Unlock()
	j, known := m.control.Job(id)
	if known && !j.Phase.Ended() && !m.control.Mine(j.Owner) {
		return m.tellOwner(ctx, j, ev, refusal)
	}
	switch {
	case r != nil:
		if err := r.do(ctx, ev, refusal); err != nil {
			return err
		}
		// Of an end the runner knows before the State has come round: who asks next, as CANCEL
		// itself does to say what it came to, sees it.
		return m.control.Await(ctx, func() bool {
			j, known := m.control.Job(id)
			return !known || j.Phase.Ended() || !r.copyJob().Phase.Ended()
		})
	case known && ev.Kind == job.CancelBy && (j.Phase == topology.Cancelled || ev.Revert && j.Phase == topology.Reverted):
		return nil // said twice
	case known && j.Phase.Ended():
		return fmt.Errorf("job %s is %s", id, j.Phase)
	case known:
		// Its runner is about to begin: the gateway has just started, or the job is this new.
		if err := m.control.Await(ctx, func() bool { return m.followed(id) }); err != nil {
			return fmt.Errorf("the gateway is starting and does not run job %s yet: %w", id, err)
		}
		return m.tell(ctx, id, ev, refusal)
	}
	return fmt.Errorf("no such job %q", id)
}

// followed reports that a job has a runner, or will have none: it has ended or is forgotten.
func (m *Manager) followed(id string) bool {
	j, known := m.control.Job(id)
	m.mu.Lock()
	defer m.mu.Unlock()
	return !known || j.Phase.Ended() || m.runner(id) != nil
}

// Status is a job with its live numbers.
type Status struct {
	topology.Job
	AtMs      int64  `json:"at_ms"` // when this was read
	SlotsText string `json:"slots_text"`
	SlotCount int    `json:"slot_count"`
	Returned  int64  `json:"keys_returned,omitempty"` // moved back by a revert
	Live      bool   `json:"live"`                    // this process moves it now

	Epochs
	Seen
	Speed
	Holding
	RecentErrors
	LastProgress int64       `json:"last_progress_ms,omitempty"` // Unix time
	Throttle     string      `json:"throttle,omitempty"`         // what holds the mover back
	Flow         flow.Status `json:"flow"`
	Certain
	Trouble
}

// Jobs lists every job that is remembered, oldest first.
func (m *Manager) Jobs() []Status {
	st := m.control.State()
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Status
	for _, j := range st.Jobs {
		out = append(out, m.statusOf(j, st.MoveOf(j.ID)))
	}
	return out
}

// JobStatus is one job; false if there is none of that id.
func (m *Manager) JobStatus(id string) (Status, bool) {
	j, mv, ok := m.control.JobAndMove(id)
	if !ok {
		return Status{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.statusOf(j, mv), true
}

// statusOf is status with the move, or what the owner has last said of its job. mu is held.
func (m *Manager) statusOf(j topology.Job, mv topology.Move) Status {
	s, ok := m.remote.status[j.ID]
	if !ok || j.Phase.Ended() || s.Owner != j.Owner {
		s = m.status(j)
	}
	s.Epochs = epochs(mv)
	return s
}

// returned is how many keys a revert has brought back: the count of moved keys goes on growing.
func returned(j topology.Job) int64 {
	if !j.Back {
		return 0
	}
	return j.KeysMoved - j.MovedForth
}

// status is called with mu held.
//
// Numbers are read one after the other, while the mover goes on: keys moved may be ahead of keys
// scanned. None of them is read back by anything that decides.
func (m *Manager) status(j topology.Job) Status {
	r := m.runner(j.ID)
	j = m.jobs[j.ID].record(j)
	s := Status{Job: j.Clone(), AtMs: time.Now().UnixMilli(), SlotsText: topology.FormatRanges(j.Slots), SlotCount: topology.CountSlots(j.Slots)}
	s.KeysLeft, s.EtaS = -1, -1
	s.Returned = returned(j)
	if r == nil {
		return s
	}
	s.Findings = r.findings
	s.Stalled = r.stall(time.Now())
	s.Advice = r.advice(s.Stalled)
	var counts map[string]int64
	s.NowFirstErr, s.NowLastErr, counts = r.errs.peek()
	s.ErrorCounts = job.AddCounts(s.ErrorCounts, counts)
	if r.mover == nil {
		return s
	}
	mv := r.mover
	st := &mv.stats
	s.Live = !j.Phase.Ended()
	s.KeysMoved, s.BytesMoved = st.total()
	s.Returned = returned(s.Job)
	s.Pass, s.Scanned, s.Touched, s.MetBusy, s.StaleDropped = st.pass.Load(), st.scanned.Load(), st.touched.Load(), st.busy.Load(), st.stale.Load()
	s.BatchKeys, s.BigKeys, s.LastProgress = mv.batch.Keys(), st.big.count.Load(), st.lastProgress.Load()
	s.InDoubt = mv.open.inDoubt()
	if r.locks != nil {
		s.Waiting = r.locks.Stats().Waiting
	}
	if s.Flow = mv.gov.Status(); s.Live {
		s.Throttle = mv.throttle(s.Flow)
		s.Doing = mv.doing()
	}
	if job.Resting(&s.Job) {
		s.Throttle = job.RestText(s.Job)
	}
	s.Verified, s.Differing = st.verified.Load(), st.differing.Load()
	if text := mv.durableNow.Load(); text != nil {
		s.DurableNow = *text
	}
	s.RateNow = st.rate.of(st.keys.Load(), time.Now())
	if est := st.estimate.Load(); est > 0 && s.Live {
		s.KeysLeft = max(0, est-st.keys.Load())
		s.EtaS = eta(s.KeysLeft, s.RateNow, s.JobLimits, float64(st.bytes.Load())/float64(max(st.keys.Load(), 1)))
		if d, ok := mv.slice.Eta(time.Now(), s.Slice.Rest, s.KeysLeft, st.keys.Load()); ok {
			s.EtaS = int64(d.Seconds())
		}
	}
	s.HoldP50us, s.HoldP99us, s.HoldMaxUs = st.holds.quantiles()
	s.BigKeyList = st.big.all()
	if s.Live {
		s.ResolverErr = st.resolver.get()
	}
	return s
}

// eta is how many seconds so many keys take at the present rate, or at what the job's limits have
// allowed since, if that is less; -1: not known.
func eta(keys, rate int64, limits topology.JobLimits, keyBytes float64) int64 {
	perS := float64(rate)
	if r := limits.RateKeysPerS; r > 0 {
		perS = min(perS, r)
	}
	if r := limits.RateBytesPerS; r > 0 && keyBytes > 0 {
		perS = min(perS, r/keyBytes)
	}
	if perS <= 0 {
		return -1
	}
	return int64(float64(keys) / perS)
}

// Lock is a key that somebody has or wants in the lock table of a job.
type Lock struct {
	Job string
	slotlock.HeldKey
}

// Locks lists up to n keys of all jobs that are locked, wanted or in use.
func (m *Manager) Locks(n int) []Lock {
	m.mu.Lock()
	tables := make(map[string]*slotlock.Table)
	for id, lj := range m.jobs {
		if lj.moving != nil {
			tables[id] = lj.moving.locks
		}
	}
	m.mu.Unlock()
	var out []Lock
	for _, id := range slices.Sorted(maps.Keys(tables)) {
		for _, h := range tables[id].Held(n - len(out)) {
			out = append(out, Lock{id, h})
		}
	}
	return out
}
