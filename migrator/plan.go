package migrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"keyferry/internal/topology"
	"keyferry/migrator/link"
)

// Measure is what a rebalance makes equal.
type Measure string

const (
	BySlots  Measure = "SLOTS"
	ByKeys   Measure = "KEYS"
	ByMemory Measure = "MEMORY"
	ByOps    Measure = "OPS"
)

// Load is what a rebalance knows of the groups.
type Load struct {
	Group   map[string]int64   // the measure of each group
	Slot    []float64          // … of each slot, where it is known; nil: a group's is spread evenly over its slots
	Weights map[string]float64 // the part that a group is to have, beside the others'; 1 where there is none, 0 empties it
}

// weight is the part that a group is to have, beside the others'.
func (l *Load) weight(group string) float64 {
	if w, ok := l.Weights[group]; ok {
		return w
	}
	return 1
}

// perSlot is the measure of every slot. A group without load still has slots to give:
// they count for a little, so that empty clusters balance by slots.
func (l *Load) perSlot(st topology.State) []float64 {
	out := make([]float64, st.SlotCount)
	for _, g := range st.Groups {
		rs := st.SlotsOf(g.ID)
		n := topology.CountSlots(rs)
		if n == 0 {
			continue
		}
		even := math.Max(float64(l.Group[g.ID]), 1e-3*float64(n)) / float64(n)
		for _, r := range rs {
			for s := r.First; s <= r.Last; s++ {
				if out[s] = even; l.Slot != nil {
					out[s] = math.Max(l.Slot[s], 1e-6)
				}
			}
		}
	}
	return out
}

// Rebalance plans moves after which every group has about the share of the measure that
// its weight gives it. Only surplus moves: a slot moves at most once, and none between two
// groups that both have too much or too little. Pure.
//
// A rebalance is greedy, group by group: it moves from whoever has too much to whoever has too
// little, until nobody has both. That moves no more than has to be moved, and as few pairs of
// groups as the order allows; it need not find the fewest jobs there could be. A group of weight 0
// gives every slot: what is left of it, since shares seldom end where slots do, goes to whoever
// lacks most.
func Rebalance(st topology.State, load Load) []Plan {
	total, weights := 0.0, 0.0
	have := make(map[string]float64)
	each := load.perSlot(st)
	for _, g := range st.Groups {
		weights += load.weight(g.ID)
		for _, r := range st.SlotsOf(g.ID) {
			for s := r.First; s <= r.Last; s++ {
				have[g.ID] += each[s]
			}
		}
		total += have[g.ID]
	}
	if len(st.Groups) < 2 || weights <= 0 {
		return nil
	}
	share := func(g topology.Group) float64 { return total * load.weight(g.ID) / weights }
	var plans []Plan
	for _, to := range st.Groups {
		for _, from := range st.Groups {
			want := math.Min(share(to)-have[to.ID], have[from.ID]-share(from))
			if from.ID == to.ID || want <= 0 {
				continue
			}
			slots, moved := takeSlots(&st, from.ID, want, each)
			if len(slots) == 0 {
				continue
			}
			have[from.ID] -= moved
			have[to.ID] += moved
			plans = append(plans, Plan{Source: from.ID, Target: to.ID, Slots: slots, Keys: -1, Bytes: -1, Seconds: -1})
		}
	}
	for _, from := range st.Groups {
		if load.weight(from.ID) > 0 {
			continue
		}
		for _, r := range st.SlotsOf(from.ID) { // that fitted nowhere as a whole
			for s := r.First; s <= r.Last; s++ {
				to := slices.MaxFunc(st.Groups, func(a, b topology.Group) int {
					return cmp.Or(cmp.Compare(sign(load.weight(a.ID)), sign(load.weight(b.ID))), cmp.Compare(share(a)-have[a.ID], share(b)-have[b.ID]))
				})
				have[to.ID] += each[s]
				plans = planSlot(plans, from.ID, to.ID, s)
			}
		}
	}
	return plans
}

func sign(x float64) int { return cmp.Compare(x, 0) }

// planSlot adds a slot to the plan of two groups, which may be new.
func planSlot(plans []Plan, from, to string, slot int) []Plan {
	i := slices.IndexFunc(plans, func(p Plan) bool { return p.Source == from && p.Target == to })
	if i < 0 {
		return append(plans, Plan{Source: from, Target: to, Slots: []topology.Range{{First: slot, Last: slot}}, Keys: -1, Bytes: -1, Seconds: -1})
	}
	all := append(plans[i].Slots, topology.Range{First: slot, Last: slot})
	slices.SortFunc(all, func(a, b topology.Range) int { return cmp.Compare(a.First, b.First) })
	merged := all[:1]
	for _, r := range all[1:] {
		if last := &merged[len(merged)-1]; last.Last+1 == r.First {
			last.Last = r.Last
		} else {
			merged = append(merged, r)
		}
	}
	plans[i].Slots = merged
	return plans
}

// takeSlots removes slots of a group from st, from its last one downwards, until they come
// as near to want as whole slots can. It returns them in order, and their measure.
func takeSlots(st *topology.State, group string, want float64, each []float64) (out []topology.Range, took float64) {
	kept := append([]topology.Assignment(nil), st.Slots...)
	for i := len(kept) - 1; i >= 0; i-- {
		a := &kept[i]
		if a.Group != group {
			continue
		}
		last := a.Last
		for a.Last >= a.First && took+each[a.Last]/2 <= want {
			took += each[a.Last]
			a.Last--
		}
		if a.Last < last {
			out = append([]topology.Range{{First: a.Last + 1, Last: last}}, out...)
		}
		if a.Last >= a.First {
			break
		}
		a.Group = ""
	}
	st.Slots = st.Slots[:0:0]
	for _, a := range kept {
		if a.Group != "" {
			st.Slots = append(st.Slots, a)
		}
	}
	return out, took
}

// PlanRebalance measures the groups and plans. Errors: a group can't be measured, slots
// are in motion already, or some slots have no owner.
func (m *Manager) PlanRebalance(ctx context.Context, by Measure, weights map[string]float64) ([]Plan, error) {
	st := m.control.State()
	for _, j := range st.Jobs {
		if !j.Phase.Ended() {
			return nil, fmt.Errorf("job %s is %s: rebalance when no job is open", j.ID, j.Phase)
		}
	}
	if free := st.Unassigned(); len(free) > 0 {
		return nil, fmt.Errorf("slots %s have no owner: use PROXY SLOT ASSIGN first", topology.FormatRanges(free))
	}
	for id := range weights {
		if _, ok := st.Group(id); !ok {
			return nil, fmt.Errorf("no such group %q", id)
		}
	}
	load := Load{Group: make(map[string]int64), Weights: weights}
	if !slices.ContainsFunc(st.Groups, func(g topology.Group) bool { return load.weight(g.ID) > 0 }) {
		return nil, errors.New("every group would be emptied: give at least one a weight above 0")
	}
	switch by {
	case BySlots:
		for _, g := range st.Groups {
			load.Group[g.ID] = int64(topology.CountSlots(st.SlotsOf(g.ID)))
		}
	case ByOps:
		if load.Slot = m.slotOps(st.SlotCount); load.Slot == nil {
			return nil, errors.New("how much slots are used is not known: set hotkeys.sample-every, and wait some seconds")
		}
	default:
		load.Group = m.measure(ctx, st, by)
		for _, g := range st.Groups {
			if _, ok := load.Group[g.ID]; !ok {
				return nil, fmt.Errorf("group %s (%s) can't be measured: not reachable", g.ID, g.Addr)
			}
		}
	}
	return Rebalance(st, load), nil
}

// SetSlotOps gives the manager a way to know how much each slot is used: commands a second,
// or nil. Before Begin.
func (m *Manager) SetSlotOps(f func() []float32) { m.plane.opsOfSlots = f }

// slotOps is nil where nobody counts, or where the count is of another number of slots: a plan by
// half a measure would move what need not be moved.
func (m *Manager) slotOps(slots int) []float64 {
	if m.plane.opsOfSlots == nil {
		return nil
	}
	now := m.plane.opsOfSlots()
	if len(now) != slots {
		return nil
	}
	out := make([]float64, slots)
	for i, n := range now {
		out[i] = float64(n)
	}
	return out
}

// measure asks each group; one that does not answer is missing in the result.
func (m *Manager) measure(ctx context.Context, st topology.State, by Measure) map[string]int64 {
	out := make(map[string]int64)
	for _, g := range st.Groups {
		c, cancel := context.WithTimeout(ctx, m.cfg.CallTimeout)
		if l, err := link.Dial(c, m.dialer, g, m.cfg.CallTimeout); err == nil {
			if by == ByMemory {
				out[g.ID] = l.Info.UsedBytes
			} else {
				out[g.ID] = l.Info.Keys()
			}
			l.Close()
		}
		cancel()
	}
	return out
}
