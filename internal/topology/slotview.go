package topology

import "slices"

// SlotState says whether slots stay where they are.
type SlotState string

const (
	Unassigned SlotState = "unassigned" // no group owns them
	Stable     SlotState = "stable"     // all their keys are at their owner
	Moving     SlotState = "moving"     // their keys move from their owner to another group
	Returning  SlotState = "returning"  // the job has turned round: their keys move back to their owner
)

// SlotView is where a run of slots is served and which way its keys move. It is a value
// derived from one Topology and as old as that; whoever routes, counts or shows slots derives
// it, so that no two can disagree.
//
// Invariant: From, To and Job are set if and only if Moves; one of From and To is then the
// Owner.
type SlotView struct {
	Range
	State SlotState
	Owner string // the group that owns them until a job is done, on the way back too; "": nobody
	From  string // the group that keys leave, which may still hold some
	To    string // the group that keys go to; where it has a key, its copy is the key
	Job   string // the job that moves them
}

// Moves reports that keys may be at either of two groups.
func (v SlotView) Moves() bool { return v.State == Moving || v.State == Returning }

// Other is the group besides the owner that may hold keys of slots that move: the target
// of their job, whichever way that goes. "" where they don't.
func (v SlotView) Other() string {
	if v.State == Returning {
		return v.From
	}
	return v.To
}

// Count is how many slots the run has.
func (v SlotView) Count() int { return v.Last - v.First + 1 }

// SlotViews describes every slot, in order, in runs that are as long as can be. It costs by the
// number of runs and not of slots: dashboards and scrapes ask for it all the time.
func (t *Topology) SlotViews() []SlotView {
	moving := t.movingRuns()
	views := make([]SlotView, 0, len(t.Slots)+2*len(moving)+1)
	owned := t.Slots
	for first := 0; first < t.SlotCount; first = views[len(views)-1].Last + 1 {
		v := SlotView{Range: Range{first, t.SlotCount - 1}, State: Unassigned}
		for len(owned) > 0 && owned[0].Last < first {
			owned = owned[1:]
		}
		if len(owned) > 0 && v.cut(owned[0].Range) {
			v.State, v.Owner = Stable, owned[0].Group
		}
		for len(moving) > 0 && moving[0].Last < first {
			moving = moving[1:]
		}
		if len(moving) > 0 && v.cut(moving[0].Range) {
			m := moving[0]
			v.State, v.From, v.To, v.Job = m.State, m.From, m.To, m.Job
		}
		views = appendRun(views, v)
	}
	return views
}

// SlotView describes one slot.
func (t *Topology) SlotView(slot int) SlotView {
	views := t.SlotViews()
	i, _ := slices.BinarySearchFunc(views, slot, func(v SlotView, slot int) int { return v.Last - slot })
	v := views[i]
	v.Range = Range{slot, slot}
	return v
}

// SlotsMoving is how many slots move, either way.
func (t *Topology) SlotsMoving() (n int) {
	for _, v := range t.SlotViews() {
		if v.Moves() {
			n += v.Count()
		}
	}
	return n
}

// movingRuns are the slots that move, in order, without their owner. No slot is part of two moves.
func (t *Topology) movingRuns() (runs []SlotView) {
	for _, m := range t.Moves {
		if m.To > 0 {
			continue
		}
		run := SlotView{State: Moving, From: m.Source, To: m.Target, Job: m.Job}
		if m.Back {
			run.State, run.From, run.To = Returning, m.Target, m.Source
		}
		for _, run.Range = range m.Slots {
			runs = append(runs, run)
		}
	}
	slices.SortFunc(runs, func(a, b SlotView) int { return a.First - b.First })
	return runs
}

// cut makes the view, of slots up to anywhere, end where next does, or before next begins. It
// reports whether the view's slots are in next, which ends at or behind their first.
func (v *SlotView) cut(next Range) bool {
	if next.First > v.First {
		v.Last = min(v.Last, next.First-1)
		return false
	}
	v.Last = min(v.Last, next.Last)
	return true
}

// appendRun adds a view, which becomes part of the last one where the two differ in nothing but
// their slots.
func appendRun(views []SlotView, v SlotView) []SlotView {
	if n := len(views); n > 0 {
		last := &views[n-1]
		same := *last
		same.Range = v.Range
		if same == v {
			last.Last = v.Last
			return views
		}
	}
	return append(views, v)
}
