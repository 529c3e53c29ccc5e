package migrator

import (
	"context"

	"keyferry/internal/topology"
	"keyferry/migrator/job"
	"keyferry/migrator/link"
	"keyferry/migrator/preflight"
)

// Estimate fills in how many keys and bytes the plans move, and how long that takes.
func (m *Manager) Estimate(ctx context.Context, plans []Plan, limits job.Limits) {
	m.estimateKeys(ctx, plans)
	st := m.control.State()
	each := make(map[string]float64)
	own := m.limited(limits)
	for i := range plans {
		p := &plans[i]
		if p.Keys < 0 {
			continue
		}
		if _, have := each[p.Source]; !have {
			each[p.Source] = m.keyBytes(ctx, st, p.Source)
		}
		if each[p.Source] >= 0 {
			p.Bytes = int64(each[p.Source] * float64(p.Keys))
		}
		p.Seconds = preflight.Expected(st, p.Keys, p.Bytes, own)
	}
}

// estimateKeys fills in how many keys the plans move, by the keys of their sources and the
// share of slots.
func (m *Manager) estimateKeys(ctx context.Context, plans []Plan) {
	st := m.control.State()
	sizes := m.measure(ctx, st, ByKeys)
	for i := range plans {
		p := &plans[i]
		if n, ok := sizes[p.Source]; ok {
			p.Keys = n * int64(topology.CountSlots(p.Slots)) / int64(max(1, topology.CountSlots(st.SlotsOf(p.Source))))
		}
	}
}

// keyBytes is the mean size of some keys of a group; -1: it can't be told.
func (m *Manager) keyBytes(ctx context.Context, st topology.State, group string) float64 {
	g, _ := st.Group(group)
	ctx, cancel := context.WithTimeout(ctx, m.cfg.CallTimeout)
	defer cancel()
	l, err := link.Dial(ctx, m.dialer, g, m.cfg.CallTimeout)
	if err != nil {
		return -1
	}
	defer l.Close()
	return preflight.KeyBytes(ctx, l, m.databases)
}
