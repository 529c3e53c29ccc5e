package proxy

import (
	"slices"
	"time"

	"keyferry/slotlock"
)

// motion is what a request on a moving slot carries besides.
type motion struct {
	r       *request
	locks   *slotlock.Table
	owner   string // group ids and not indexes: the table may change while it is parked
	target  string
	db      int
	whole   *slotlock.Whole // decides instead of locks, where the slot is moved in one piece
	slot    int
	inside  bool // holds its slot at the source
	unnamed bool // it may use keys that it does not name
	late    int  // times that its deadline was put off
	keys    []slotlock.Key
	bring   bool                      // to the target, whatever would do for a plain command
	home    []bool                    // keys[i] is known to live at the target; never goes back
	held    []slotlock.Key            // shared holds at the source
	waits   map[slotlock.Key]struct{} // of several keys, those of which the lock table will say more

	frame    []byte // own copy, while parked
	parked   bool
	deadline time.Time
}

// keyQueue holds the commands of this loop that wait for one key, in the order in which
// they came. A command with several keys stands in the queue of each.
type keyQueue struct {
	locks *slotlock.Table
	list  []*request
}

func (l *loop) newMotion(slot, db int) *motion {
	s := l.table.Slots[slot]
	return &motion{
		locks: l.table.Jobs[s.Job].Locks, whole: l.table.Jobs[s.Job].Whole, slot: slot, db: db,
		owner: l.table.Groups[s.Owner].ID, target: l.table.Groups[s.Target].ID,
	}
}

// move runs a request on a moving slot, or parks it.
func (l *loop) move(r *request, m *motion, frame []byte) {
	r.motion, m.r = m, r
	m.home = make([]bool, len(m.keys))
	for _, k := range m.keys {
		if l.parked[k] != nil {
			l.park(r, frame) // behind those that came before it
			return
		}
	}
	if v := l.decide(r); v == slotlock.Wait {
		l.park(r, frame)
	} else {
		l.execute(r, v, frame)
	}
}

// execute does what was decided about a request that need not wait.
func (l *loop) execute(r *request, v slotlock.Verdict, frame []byte) {
	switch v {
	case slotlock.Source:
		l.n.atSource++
		l.sendTo(r, r.motion.owner, frame)
	case slotlock.Target:
		l.n.atTarget++
		l.sendTo(r, r.motion.target, frame)
	case slotlock.Full:
		l.n.tryAgain++
		r.Fail(errParkedFull, false)
	}
}

// decide asks the lock table about all keys of a request: Source means that all are
// held, Target that all live at the target. With keys on both sides those at the source
// are sent for, since one command can run on one side only.
func (l *loop) decide(r *request) slotlock.Verdict {
	m := r.motion
	switch m.whole.Enter(m.slot, m.unnamed, l) {
	case slotlock.Open:
		m.inside = true
		return slotlock.Source
	case slotlock.Closed:
		return slotlock.Wait
	case slotlock.Moved:
		return slotlock.Target
	}
	source, wait := 0, false
	for i, k := range m.keys {
		if m.home[i] || m.bring {
			continue
		}
		switch m.locks.Admit(k.DB, []byte(k.Name), l) {
		case slotlock.Source:
			m.held = append(m.held, k)
			source++
		case slotlock.Target:
			m.home[i] = true
		case slotlock.Wait:
			wait = true
			m.await(k)
		case slotlock.Full:
			l.releaseHolds(r)
			return slotlock.Full
		}
	}
	switch {
	case source == len(m.keys):
		return slotlock.Source
	case source == 0 && !wait && !m.bring:
		return slotlock.Target
	}
	l.releaseHolds(r)
	if wait {
		return slotlock.Wait
	}
	if m.bring && l.bring(r) {
		return slotlock.Source
	}
	for i, k := range m.keys {
		if m.home[i] {
			continue
		}
		switch m.locks.Resolve(k.DB, []byte(k.Name), l) {
		case slotlock.Target:
			m.home[i] = true
		case slotlock.Source: // the job has just been cancelled: so are they all
			m.held = append(m.held, k)
		case slotlock.Full:
			l.releaseHolds(r)
			return slotlock.Full
		default:
			wait = true
			m.await(k)
		}
	}
	switch {
	case len(m.held) == len(m.keys):
		return slotlock.Source
	case wait || len(m.held) > 0:
		l.releaseHolds(r)
		return slotlock.Wait
	}
	return slotlock.Target
}

// await notes that the lock table will say more of one of several keys. Until it has of all
// of them nothing is asked again: that would cost the square of their number.
func (m *motion) await(k slotlock.Key) {
	if len(m.keys) == 1 {
		return
	}
	if m.waits == nil {
		m.waits = make(map[slotlock.Key]struct{})
	}
	m.waits[k] = struct{}{}
}

// bring asks for all keys of a command that blocks to be at the target. True: they are
// held at the source, since the target is away.
func (l *loop) bring(r *request) bool {
	m := r.motion
	for i, k := range m.keys {
		if !m.home[i] && m.locks.Bring(k.DB, []byte(k.Name), l) == slotlock.Source {
			m.held = append(m.held, k)
		}
	}
	if len(m.held) == len(m.keys) {
		return true
	}
	l.releaseHolds(r)
	return false
}

// lateMax bounds how often the deadline of a command is put off while its slot is moved in
// one piece. That takes as long as all keys of the slot do and, for a script, as long as
// these are looked for at the source.
const lateMax = 10

func (m *motion) patient() bool {
	st, _ := m.whole.State(m.slot)
	if st != slotlock.Closed && (st != slotlock.Wanted || !m.unnamed) {
		return false
	}
	m.late++
	return m.late < lateMax
}

func (l *loop) releaseHolds(r *request) {
	m := r.motion
	for _, k := range m.held {
		m.locks.Release(k)
	}
	m.held = m.held[:0]
	if m.inside {
		m.inside = false
		m.whole.Leave(m.slot)
	}
}

// WholeChanged implements slotlock.WholeWaiter; any goroutine calls it.
func (l *loop) WholeChanged(w *slotlock.Whole, slot int) {
	l.post(func() {
		var keys []slotlock.Key
		for k, q := range l.parked {
			if m := q.list[0].motion; m.whole == w && m.slot == slot {
				keys = append(keys, k)
			}
		}
		l.runQueues(keys)
	})
}

func (l *loop) sendTo(r *request, group string, frame []byte) {
	for i, g := range l.table.Groups {
		if g.ID == group {
			if r.op != nil {
				r.op.send(l, r, int16(i), frame)
				return
			}
			p := l.pipe(int16(i), r.motion.db, r.s.proto)
			r.s.lastPipe = p
			l.send(r, p, frame)
			return
		}
	}
	r.Fail(errGroupGone, false) // a group of a job can't be removed; kept total all the same
}

// park lets r wait for its keys, with its own copy of the frame.
func (l *loop) park(r *request, frame []byte) {
	m := r.motion
	if l.nParked >= l.opt.MaxParked {
		for _, k := range m.keys {
			if l.parked[k] == nil {
				m.locks.Cancel(k, l)
			}
		}
		l.n.tryAgain++
		r.Fail(errParkedFull, false)
		return
	}
	m.frame = append([]byte(nil), frame...)
	m.parked = true
	m.deadline = l.now.Add(l.opt.LockDeadline)
	for _, k := range m.keys {
		q := l.parked[k]
		if q == nil {
			q = &keyQueue{locks: m.locks}
			l.parked[k] = q
		}
		if n := len(q.list); n == 0 || q.list[n-1] != r { // the same key twice in one command
			q.list = append(q.list, r)
		}
	}
	l.nParked++
	l.parkedBy[m.locks]++
	l.n.parkedEver++
	l.waiting = append(l.waiting, m)
	l.wantTick.Store(true)
}

// woken is the lock table's word about a key that this loop waits for.
func (l *loop) woken(t *slotlock.Table, k slotlock.Key, v slotlock.Verdict) {
	q := l.parked[k]
	if q != nil && q.locks == t {
		delete(q.list[0].motion.waits, k)
		l.runQueue(k, v == slotlock.Source)
	}
	if v == slotlock.Source {
		t.Release(k) // the hold that was taken for this loop
	}
}

// runQueue runs the commands that wait for k, oldest first, until one must wait again.
// granted: the caller holds k shared, so that commands on k alone may run at the source
// whatever the mode.
func (l *loop) runQueue(k slotlock.Key, granted bool) {
	for {
		q := l.parked[k]
		if q == nil {
			return
		}
		r := q.list[0]
		m := r.motion
		if len(m.waits) > 0 || !l.leadsAll(r) {
			return // it is run when it has the last of its keys and leads the last of its queues
		}
		v := slotlock.Source
		if granted && len(m.keys) == 1 && !m.unnamed {
			m.locks.Dup(k)
			m.held = append(m.held, k)
		} else if v = l.decide(r); v == slotlock.Wait {
			return
		}
		frame := m.frame
		others := l.dequeue(r)
		l.execute(r, v, frame)
		l.runQueues(slices.DeleteFunc(others, func(o slotlock.Key) bool { return o == k }))
	}
}

// runQueues is runQueue for several keys, that tries each command once.
func (l *loop) runQueues(keys []slotlock.Key) {
	tried := make(map[*motion]struct{})
	for _, k := range keys {
		q := l.parked[k]
		if q == nil {
			continue
		}
		m := q.list[0].motion
		if _, yes := tried[m]; !yes {
			tried[m] = struct{}{}
			l.runQueue(k, false)
		}
	}
}

// leadsAll reports whether r is first in the queue of each of its keys.
func (l *loop) leadsAll(r *request) bool {
	for _, k := range r.motion.keys {
		if q := l.parked[k]; q == nil || q.list[0] != r {
			return false
		}
	}
	return true
}

// dequeue takes r out of its queues and returns its keys that others wait for.
func (l *loop) dequeue(r *request) (others []slotlock.Key) {
	m := r.motion
	for _, k := range m.keys {
		q := l.parked[k]
		if q == nil {
			continue // the same key twice
		}
		for i, x := range q.list {
			if x == r {
				q.list = append(q.list[:i], q.list[i+1:]...)
				break
			}
		}
		if len(q.list) == 0 {
			delete(l.parked, k)
			m.locks.Cancel(k, l)
		} else {
			others = append(others, k)
		}
	}
	m.parked, m.frame = false, nil
	l.nParked--
	if l.parkedBy[m.locks]--; l.parkedBy[m.locks] == 0 {
		delete(l.parkedBy, m.locks)
		l.arm() // a table may wait for this
	}
	return others
}

// unpark withdraws a parked command; those behind it go on.
func (l *loop) unpark(r *request) { l.runQueues(l.dequeue(r)) }

// expireParked answers -TRYAGAIN to commands that have waited too long.
func (l *loop) expireParked() {
	for len(l.waiting) > 0 {
		m := l.waiting[0]
		if m.parked {
			r := m.r
			if m.deadline.After(l.now) {
				return
			}
			if x, ok := r.op.(*blocking); ok && x.patient(l.now) || m.patient() {
				l.waiting = append(l.waiting[1:], m)
				m.deadline = l.now.Add(l.opt.LockDeadline)
				continue
			}
			l.unpark(r)
			if x, ok := r.op.(*blocking); ok && x.timeout > 0 {
				x.expire(r)
			} else {
				l.n.tryAgain++
				r.Fail(errLockDeadline, false)
			}
		}
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
	}
	l.waiting = nil
}
