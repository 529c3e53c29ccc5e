package topology

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

// SlotViews describes every slot, in order, in runs that are as long as can be.
func (t *Topology) SlotViews() []SlotView {
	return mergeViews(t.eachView())
}

// SlotView describes one slot.
func (t *Topology) SlotView(slot int) SlotView {
	return t.eachView()[slot]
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

// eachView has one view for each slot.
func (t *Topology) eachView() []SlotView {
	views := make([]SlotView, t.SlotCount)
	for i := range views {
		views[i] = SlotView{Range: Range{i, i}, State: Unassigned}
	}
	for _, a := range t.Slots {
		for i := a.First; i <= a.Last; i++ {
			views[i].State, views[i].Owner = Stable, a.Group
		}
	}
	for _, m := range t.Moves {
		if m.To > 0 {
			continue
		}
		state, from, to := Moving, m.Source, m.Target
		if m.Back {
			state, from, to = Returning, to, from
		}
		for _, r := range m.Slots {
			for i := r.First; i <= r.Last; i++ {
				v := &views[i]
				v.State, v.From, v.To, v.Job = state, from, to, m.Job
			}
		}
	}
	return views
}

// mergeViews joins neighbours that differ in nothing but their slots.
func mergeViews(views []SlotView) []SlotView {
	out := views[:0:0]
	for _, v := range views {
		if n := len(out); n > 0 {
			last := &out[n-1]
			if same := *last; last.Last+1 == v.First {
				same.Range = v.Range
				if same == v {
					last.Last = v.Last
					continue
				}
			}
		}
		out = append(out, v)
	}
	return out
}
