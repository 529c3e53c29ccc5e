package proxy

import (
	"time"

	"keyferry/proxy/parking"
	"keyferry/proxy/stats"
	"keyferry/router"
	"keyferry/slotlock"
)

// motion is what a request on a moving slot carries besides. Whether, where and when it runs
// is decided by the loop's parking.Lot; this file sends it there and takes it from there:
//
//	move ─► Lot.Enter ─┬───────────────────────────► Run ─► sendTo ─► reply or failure: Release
//	                   └─ parked ─┬─ Woken, … ─────► Run
//	                              ├─ tick: Expire ─► Expired
//	                              └─ teardown, CLIENT UNBLOCK: Withdraw
//
// Only the loop's goroutine touches it. It lives as long as its request waits for one answer:
// a client that blocks and is placed again gets a new one.
//
// Lifetime: as its request's need of a moving slot. A client that blocks and is placed again
// gets another one.
type motion struct {
	parking.Command
	db int
}

// newMotion is for a slot that the present table says moves.
func (l *loop) newMotion(slot, db int) *motion {
	route, _ := routes{l.table}.Route(slot)
	return &motion{Command: parking.Command{Route: route}, db: db}
}

// move runs a request on a moving slot, or parks it. It may have been answered, and freed, when
// this returns.
func (l *loop) move(r *request, m *motion, frame []byte) {
	r.motion, m.Request = m, r
	if l.parking.Enter(&m.Command, frame, l.now) {
		l.rec.N[stats.ParkedEver]++
		l.turns.wantTick.Store(true)
	}
}

// Run implements parking.Request. The table may be another than when the request was parked: its
// groups are looked up again, by their ids.
//
// The frame is parking's copy if the command was parked, else the client's own bytes.
func (r *request) Run(at slotlock.Verdict, frame []byte) {
	l := r.s.l
	switch at {
	case slotlock.Source:
		l.rec.N[stats.AtSource]++
		l.sendTo(r, r.motion.Source, frame)
	case slotlock.Target:
		l.rec.N[stats.AtTarget]++
		l.sendTo(r, r.motion.Target, frame)
	case slotlock.Full:
		l.rec.N[stats.TryAgain]++
		r.Fail(errParkedFull, false)
	}
}

// Patient implements parking.Request.
func (r *request) Patient(now time.Time) bool {
	return r.op != nil && r.op.patient(now)
}

// Expired implements parking.Request: -TRYAGAIN, or what a client hears that has blocked for
// as long as it wanted to.
func (r *request) Expired() {
	if r.op != nil && r.op.expire(r) {
		return
	}
	r.s.l.rec.N[stats.TryAgain]++
	r.Fail(errLockDeadline, false)
}

// sendTo sends a request to a group of its job.
//
// By id and not by index: the command may have been parked, and the table another one since.
func (l *loop) sendTo(r *request, group string, frame []byte) {
	if i := l.table.UpstreamOf(group); i >= 0 {
		r.sendTo(l, i, frame)
		return
	}
	r.Fail(errGroupGone, false) // a group of a job can't be removed; kept total all the same
}

// isParked reports that the request waits for keys that are being moved.
func (r *request) isParked() bool { return r.motion != nil && r.motion.Parked() }

// unpark withdraws a parked command; those behind it go on.
func (l *loop) unpark(r *request) { l.parking.Resume(l.parking.Withdraw(&r.motion.Command)) }

// releaseHolds gives back what a request has at the source, if it was on a moving slot at all.
func (l *loop) releaseHolds(r *request) {
	if r.motion != nil {
		r.motion.Release()
	}
}

// Wake implements slotlock.Waiter; any goroutine calls it. The mail keeps the order of what lock
// tables say, and of tables that are handed over: a command that has been decided before a job
// ends has run before the loop leaves the job's routes.
func (l *loop) Wake(t *slotlock.Table, k slotlock.Key, v slotlock.Verdict) {
	l.post(func() { l.parking.Woken(t, k, v) })
}

// WholeChanged implements slotlock.WholeWaiter; any goroutine calls it.
func (l *loop) WholeChanged(w *slotlock.Whole, slot int) {
	l.post(func() { l.parking.SlotChanged(w, slot) })
}

// Arm implements parking.Loop: a turn's end settles what is due.
func (l *loop) Arm() { l.arm() }

// parkingLimits are those of the options in force.
func (o *Options) parkingLimits() parking.Limits {
	return parking.Limits{Commands: o.MaxParked, Deadline: o.LockDeadline}
}

// routes is a table as parking sees it.
type routes struct{ *router.Table }

// Route implements parking.Table.
func (t routes) Route(slot int) (parking.Route, bool) {
	s := t.Slots[slot]
	if s.Job < 0 {
		return parking.Route{}, false
	}
	j := &t.Jobs[s.Job]
	return parking.Route{Locks: j.Locks, Whole: j.Whole, Slot: slot,
		Source: t.Groups[s.Owner].ID, Target: t.Groups[s.Target].ID}, true
}

// Has implements parking.Table.
func (t routes) Has(locks *slotlock.Table) bool {
	for i := range t.Jobs {
		if t.Jobs[i].Locks == locks {
			return true
		}
	}
	return false
}
