package migrator

import (
	"context"
	"fmt"
	"math"

	"keyferry/internal/topology"
)

// Measure is what a rebalance makes equal.
type Measure string

const (
	BySlots  Measure = "SLOTS"
	ByKeys   Measure = "KEYS"
	ByMemory Measure = "MEMORY"
)

// Rebalance plans moves after which every group has about the same share of the measure,
// taking the keys of a group as spread evenly over its slots. load is the measure of each
// group. Only surplus moves: a slot moves at most once, and none between two groups that
// both have too much or too little. Pure.
func Rebalance(st topology.State, load map[string]int64) []Plan {
	if len(st.Groups) < 2 {
		return nil
	}
	total := 0.0
	perSlot := make(map[string]float64)
	have := make(map[string]float64)
	for _, g := range st.Groups {
		slots := topology.CountSlots(st.SlotsOf(g.ID))
		if slots == 0 {
			continue
		}
		// A group without keys still has slots to give: they count for a little, so that
		// empty clusters balance by slots.
		perSlot[g.ID] = math.Max(float64(load[g.ID]), 1e-3*float64(slots)) / float64(slots)
		have[g.ID] = perSlot[g.ID] * float64(slots)
		total += have[g.ID]
	}
	share := total / float64(len(st.Groups))
	var plans []Plan
	for _, to := range st.Groups {
		for _, from := range st.Groups {
			room := share - have[to.ID]
			surplus := have[from.ID] - share
			if from.ID == to.ID || perSlot[from.ID] == 0 {
				continue
			}
			n := int(math.Floor(math.Min(room, surplus)/perSlot[from.ID] + 0.5))
			if n <= 0 {
				continue
			}
			slots := takeSlots(&st, from.ID, n)
			moved := perSlot[from.ID] * float64(topology.CountSlots(slots))
			have[from.ID] -= moved
			have[to.ID] += moved
			plans = append(plans, Plan{Source: from.ID, Target: to.ID, Slots: slots, Keys: -1})
		}
	}
	return plans
}

// takeSlots removes the last n slots of a group from st and returns them in order.
func takeSlots(st *topology.State, group string, n int) []topology.Range {
	var out []topology.Range
	kept := append([]topology.Assignment(nil), st.Slots...)
	for i := len(kept) - 1; i >= 0 && n > 0; i-- {
		a := &kept[i]
		if a.Group != group {
			continue
		}
		size := a.Last - a.First + 1
		k := min(n, size)
		out = append([]topology.Range{{First: a.Last - k + 1, Last: a.Last}}, out...)
		a.Last -= k
		n -= k
		if a.Last < a.First {
			a.Group = ""
		}
	}
	st.Slots = st.Slots[:0:0]
	for _, a := range kept {
		if a.Group != "" {
			st.Slots = append(st.Slots, a)
		}
	}
	return out
}

// PlanRebalance measures the groups and plans. Errors: a group can't be measured, slots
// are in motion already, or some slots have no owner.
func (m *Manager) PlanRebalance(ctx context.Context, by Measure) ([]Plan, error) {
	st := m.State()
	for _, j := range st.Jobs {
		if !j.Phase.Ended() {
			return nil, fmt.Errorf("job %s is %s: rebalance when no job is open", j.ID, j.Phase)
		}
	}
	if free := st.Unassigned(); len(free) > 0 {
		return nil, fmt.Errorf("slots %s have no owner: use PROXY SLOT ASSIGN first", topology.FormatRanges(free))
	}
	load := make(map[string]int64)
	if by == BySlots {
		for _, g := range st.Groups {
			load[g.ID] = int64(topology.CountSlots(st.SlotsOf(g.ID)))
		}
	} else {
		load = m.measure(ctx, st, by)
		for _, g := range st.Groups {
			if _, ok := load[g.ID]; !ok {
				return nil, fmt.Errorf("group %s (%s) can't be measured: not reachable", g.ID, g.Addr)
			}
		}
	}
	plans := Rebalance(st, load)
	m.Estimate(ctx, plans)
	return plans, nil
}

// measure asks each group; one that does not answer is missing in the result.
func (m *Manager) measure(ctx context.Context, st topology.State, by Measure) map[string]int64 {
	out := make(map[string]int64)
	for _, g := range st.Groups {
		c, cancel := context.WithTimeout(ctx, m.cfg.CallTimeout)
		if l, err := dial(c, g, m.connName(), m.cfg.CallTimeout); err == nil {
			if by == ByMemory {
				out[g.ID] = l.info.usedBytes
			} else if n, err := countKeys(c, l); err == nil {
				out[g.ID] = n
			}
			l.close()
		}
		cancel()
	}
	return out
}

// countKeys sums the databases, from INFO keyspace.
func countKeys(ctx context.Context, l *link) (int64, error) {
	text, err := l.conn.Info(ctx, "keyspace").Result()
	if err != nil {
		return 0, err
	}
	return keyspaceTotal(text), nil
}
