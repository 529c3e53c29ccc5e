package preflight

import (
	"context"
	"keyferry/router"
	"math"

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

// An estimate may be far off: keys are not spread evenly over slots, nor their sizes. It is shown
// as one, and decides nothing but the warning that memory may run short.

// KeyBytes is the mean MEMORY USAGE of some keys of a server, drawn at random; -1: it can't
// be told.
func KeyBytes(ctx context.Context, l *link.Link, databases int) float64 {
	sum, n := 0.0, 0
	for db := range databases {
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
				if name, ok := c.(*redis.StringCmd); ok && name.Err() == nil && !router.Reserved([]byte(name.Val())) {
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

// Expected is how long a job takes in seconds: by the newest that has moved enough to tell and was
// not held back by an operator, and never less than the job's own limits allow.
func Expected(st topology.State, keys, bytes int64, limits topology.JobLimits) int64 {
	s := float64(unlimited(st, keys, bytes))
	if r := limits.RateKeysPerS; r > 0 {
		s = max(s, float64(keys)/r)
	}
	if r := limits.RateBytesPerS; r > 0 {
		s = max(s, float64(bytes)/r)
	}
	if work := limits.Slice.Work; work > 0 {
		s *= float64(work+limits.Slice.Rest) / float64(work)
	}
	return int64(min(math.Ceil(s), 1<<62))
}

func unlimited(st topology.State, keys, bytes int64) int64 {
	for i := len(st.Jobs) - 1; i >= 0; i-- {
		j := &st.Jobs[i]
		ms := j.EndedAtMs - j.StartedAtMs
		if j.Phase == topology.Done && j.KeysMoved >= 1000 && ms > 0 && j.StartedAtMs > 0 && j.RateKeysPerS == 0 && j.RateBytesPerS == 0 && j.Slices == 0 {
			return max(1, keys*ms/j.KeysMoved/1000)
		}
	}
	return 1 + max(keys/expectKeysPerS, max(bytes, 0)/expectBytesPerS)
}
