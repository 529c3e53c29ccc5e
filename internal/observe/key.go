package observe

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/router"
)

// lookBound is how long one server may take to answer about a key.
const lookBound = 2 * time.Second

// Key is what is known of one key. At has one entry for the group that owns its slot; while
// that moves, one for the group that keys go to and then one for the group that they leave.
type Key struct {
	DB    int     `json:"db"`
	Key   string  `json:"key"`
	Slot  int     `json:"slot"`
	State string  `json:"state"` // as of topology.SlotState
	Job   string  `json:"job,omitempty"`
	At    []Found `json:"at"`
}

// Found is a key as one group has it.
type Found struct {
	Group    string `json:"group"`
	Role     string `json:"role"` // owner; source and target of the way that keys go at present
	Exists   bool   `json:"exists"`
	Type     string `json:"type,omitempty"`
	Encoding string `json:"encoding,omitempty"`
	TTLMs    int64  `json:"ttl_ms"` // -1: it does not expire
	Bytes    int64  `json:"bytes"`  // MEMORY USAGE, sampled; -1: not known
	Elements int64  `json:"elements"`
	Error    string `json:"error,omitempty"`
}

// Look asks the servers about one key. Errors: the database does not exist; that a server
// does not answer is told in Found.
func (o *Observer) Look(ctx context.Context, db int, key string) (Key, error) {
	st := o.c.Control.State()
	if db < 0 || db >= st.Databases {
		return Key{}, fmt.Errorf("database %d: want 0 to %d", db, st.Databases-1)
	}
	scheme, err := router.ParseScheme(st.Scheme)
	if err != nil {
		return Key{}, err
	}
	v := st.SlotView(scheme.Slot([]byte(key)))
	k := Key{DB: db, Key: key, Slot: v.First, State: string(v.State), Job: v.Job, At: []Found{}}
	switch {
	case v.Moves():
		k.At = append(k.At, o.lookAt(ctx, &st, v.To, "target", db, key), o.lookAt(ctx, &st, v.From, "source", db, key))
	case v.State == topology.Stable:
		k.At = append(k.At, o.lookAt(ctx, &st, v.Owner, "owner", db, key))
	}
	return k, nil
}

func (o *Observer) lookAt(ctx context.Context, st *topology.State, group, role string, db int, key string) Found {
	g, _ := st.Group(group)
	c := o.c.Dialer.Client(upstream.Target{Endpoint: g.Endpoint, DB: db}, lookBound)
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	f := Found{Group: group, Role: role, TTLMs: -1, Bytes: -1}
	typ, err := c.Type(ctx, key).Result()
	if err != nil {
		f.Error = err.Error()
		return f
	}
	if typ == "none" {
		return f
	}
	f.Exists, f.Type = true, typ
	if ttl, err := c.Do(ctx, "PTTL", key).Int64(); err == nil {
		f.TTLMs = max(ttl, -1)
	}
	if n, err := c.MemoryUsage(ctx, key, 5).Result(); err == nil {
		f.Bytes = n
	}
	f.Encoding, _ = c.ObjectEncoding(ctx, key).Result()
	f.Elements = elements(ctx, c, typ, key)
	return f
}

func elements(ctx context.Context, c *redis.Client, typ, key string) int64 {
	cmd := map[string]string{"string": "STRLEN", "list": "LLEN", "hash": "HLEN", "set": "SCARD", "zset": "ZCARD", "stream": "XLEN"}[typ]
	if cmd == "" {
		return -1
	}
	n, err := c.Do(ctx, cmd, key).Int64()
	if err != nil {
		return -1
	}
	return n
}
