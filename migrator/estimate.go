package migrator

import (
	"context"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/topology"
	"keyferry/migrator/link"
)

const (
	sampledKeys = 64 // of each source, for the size of its keys
	// What a job is taken to move in a second, where no job here has shown it yet.
	expectKeysPerS  = 20_000
	expectBytesPerS = 60 << 20
)

// Estimate fills in how many keys and bytes the plans move, and how long that takes.
func (m *Manager) Estimate(ctx context.Context, plans []Plan) {
	m.estimateKeys(ctx, plans)
	st := m.State()
	each := make(map[string]float64)
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
		p.Seconds = expected(st, p.Keys, p.Bytes)
	}
}

// estimateKeys fills in how many keys the plans move, by the keys of their sources and the
// share of slots.
func (m *Manager) estimateKeys(ctx context.Context, plans []Plan) {
	st := m.State()
	sizes := m.measure(ctx, st, ByKeys)
	for i := range plans {
		p := &plans[i]
		if n, ok := sizes[p.Source]; ok {
			p.Keys = n * int64(topology.CountSlots(p.Slots)) / int64(max(1, topology.CountSlots(st.SlotsOf(p.Source))))
		}
	}
}

// keyBytes is the mean MEMORY USAGE of some keys of a group, drawn at random; -1: it can't
// be told.
func (m *Manager) keyBytes(ctx context.Context, st topology.State, group string) float64 {
	g, _ := st.Group(group)
	ctx, cancel := context.WithTimeout(ctx, m.cfg.CallTimeout)
	defer cancel()
	l, err := link.Dial(ctx, m.dialer, g, m.cfg.CallTimeout)
	if err != nil {
		return -1
	}
	defer l.Close()
	sum, n := 0.0, 0
	for db := range m.databases {
		if l.Use(ctx, db) != nil {
			break
		}
		names, _ := l.Conn.Pipelined(ctx, func(p redis.Pipeliner) error {
			for range sampledKeys {
				p.RandomKey(ctx)
			}
			return nil
		})
		usage, _ := l.Conn.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, c := range names {
				if name, ok := c.(*redis.StringCmd); ok && name.Err() == nil {
					p.MemoryUsage(ctx, name.Val(), 5)
				}
			}
			return nil
		})
		for _, c := range usage {
			if size, ok := c.(*redis.IntCmd); ok && size.Err() == nil {
				sum += float64(size.Val())
				n++
			}
		}
	}
	if n == 0 {
		return -1
	}
	return sum / float64(n)
}

// expected is how long a job takes, by the newest that has moved enough to tell.
func expected(st topology.State, keys, bytes int64) int64 {
	for i := len(st.Jobs) - 1; i >= 0; i-- {
		j := &st.Jobs[i]
		ms := j.EndedAtMs - j.StartedAtMs
		if j.Phase == topology.Done && j.KeysMoved >= 1000 && ms > 0 && j.StartedAtMs > 0 && j.RateKeysPerS == 0 && j.RateBytesPerS == 0 {
			return max(1, keys*ms/j.KeysMoved/1000)
		}
	}
	return 1 + max(keys/expectKeysPerS, max(bytes, 0)/expectBytesPerS)
}
