package bench

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/testredis"
)

// ran is an oracle that has run against a server for a moment.
func ran(t *testing.T, s *testredis.Server, cfg OracleConfig) *Oracle {
	t.Helper()
	cfg.Addr, cfg.Keys, cfg.Clients, cfg.Pipeline, cfg.Prefix = s.Addr, 800, 4, 4, "o:"
	cfg.Seed = uint64(time.Now().UnixNano())
	t.Logf("seed %d", cfg.Seed)
	o := NewOracle(cfg)
	if err := o.Preload(context.Background()); err != nil {
		t.Fatal(err)
	}
	o.Phase("run")
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if err := o.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return o
}

func verdictOf(t *testing.T, o *Oracle, s *testredis.Server) Verdict {
	t.Helper()
	v, err := o.Verify(context.Background(), s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestOracleIsContentWithRedis(t *testing.T) {
	s := testredis.StartT(t)
	o := ran(t, s, OracleConfig{DBs: []int{0, 3}})
	if v := verdictOf(t, o, s); !v.Clean() || v.KeysChecked != 800 || v.InDoubt != 0 {
		t.Errorf("%+v", v)
	}
	if n := o.Snapshot(); n.Ops < 2000 || n.Errors+n.Losses != 0 {
		t.Errorf("%+v", n)
	}
	if l := o.Latencies()["run"]; l.Count == 0 || l.P99 < l.P50 || l.Max < l.P99 {
		t.Errorf("%+v", l)
	}
}

// first finds a key of a kind whose present state passes.
func (o *Oracle) first(k kind, ok func(*state) bool) *key {
	for _, c := range o.clients {
		for _, x := range c.keys {
			if x.kind == k && !x.parked && ok(x.states[0]) {
				return x
			}
		}
	}
	return nil
}

// TestOracleBites tampers with the server behind the oracle's back: each must be found,
// under its right name.
func TestOracleBites(t *testing.T) {
	ctx := context.Background()
	exists := func(s *state) bool { return s.seq > 1 }
	for name, c := range map[string]struct {
		kind   kind
		when   func(*state) bool
		tamper func(*redis.Client, *key)
		want   Verdict
	}{
		"acknowledged key deleted": {plainString, exists, func(c *redis.Client, k *key) { c.Del(ctx, k.name) }, Verdict{Lost: 1}},
		"older value back":         {plainString, exists, func(c *redis.Client, k *key) { c.Set(ctx, k.name, k.value(k.states[0].seq-1), 0) }, Verdict{Stale: 1}},
		"deleted key back": {plainString, func(s *state) bool { return s.seq == 0 },
			func(c *redis.Client, k *key) { c.Set(ctx, k.name, k.value(1), 0) }, Verdict{Resurrected: 1}},
		"expiry lost":  {ttlString, exists, func(c *redis.Client, k *key) { c.Persist(ctx, k.name) }, Verdict{WrongTTL: 1}},
		"expiry added": {plainString, exists, func(c *redis.Client, k *key) { c.Expire(ctx, k.name, time.Hour) }, Verdict{WrongTTL: 1}},
		"increment lost": {counter, func(s *state) bool { return s.n > 1 },
			func(c *redis.Client, k *key) { c.Decr(ctx, k.name) }, Verdict{Stale: 1}},
		"element lost": {list, func(s *state) bool { return len(s.items) > 1 },
			func(c *redis.Client, k *key) { c.RPop(ctx, k.name) }, Verdict{Lost: 1}},
		"field back": {hash, func(s *state) bool { return len(s.elems) > 0 && len(s.elems) < elemRange },
			func(c *redis.Client, k *key) {
				for e := range elemRange {
					c.HSetNX(ctx, k.name, elemName(e), "x")
				}
			}, Verdict{Resurrected: 1}},
		"entry lost": {stream, func(s *state) bool { return s.n > 1 },
			func(c *redis.Client, k *key) { c.XTrimMaxLen(ctx, k.name, 1) }, Verdict{Lost: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := testredis.StartT(t)
			o := ran(t, s, OracleConfig{})
			k := o.first(c.kind, c.when)
			if k == nil {
				t.Fatal("no such key came about")
			}
			rc := s.Client()
			defer rc.Close()
			c.tamper(rc, k)
			v := verdictOf(t, o, s)
			if v.Lost != c.want.Lost || v.Stale != c.want.Stale || v.Resurrected != c.want.Resurrected || v.WrongTTL != c.want.WrongTTL {
				t.Errorf("got %+v, want %+v", v, c.want)
			}
		})
	}
}

// TestOracleToleratesDoubt kills a server that loses nothing (AOF, every write) while
// commands are in flight: they are in doubt, and nothing is wrong.
func TestOracleToleratesDoubt(t *testing.T) {
	s := testredis.StartT(t, "--appendonly", "yes", "--appendfsync", "always")
	o := NewOracle(OracleConfig{Addr: s.Addr, Keys: 500, Clients: 4, Pipeline: 8, Prefix: "o:", Seed: 1, Reconnect: true})
	if err := o.Preload(context.Background()); err != nil {
		t.Fatal(err)
	}
	o.Phase("run")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	for o.Snapshot().Ops < 2000 {
		time.Sleep(5 * time.Millisecond)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	n := o.Snapshot().Ops
	for o.Snapshot().Ops < n+500 {
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	v := verdictOf(t, o, s)
	if !v.Clean() || v.InDoubt == 0 {
		t.Errorf("%+v", v)
	}
}

func TestLoadCounts(t *testing.T) {
	s := testredis.StartT(t)
	r, err := Load(context.Background(), LoadConfig{Addr: s.Addr, Clients: 7, Pipeline: 3, Requests: 1000, ValueBytes: 10, KeySpace: 50, Op: "set", Prefix: "l:"})
	if err != nil || r.Ops != 1000 || r.Errors != 0 || r.Latency.Count != 1000 {
		t.Fatalf("%+v %v", r, err)
	}
	c := s.Client()
	defer c.Close()
	if n := c.DBSize(context.Background()).Val(); n < 30 || n > 50 {
		t.Errorf("%d keys, want about 50", n)
	}
	c.Do(context.Background(), "LPUSH", "l:list", "x")
	for _, op := range []string{"get", "mixed", "mget"} {
		if r, err := Load(context.Background(), LoadConfig{Addr: s.Addr, Clients: 2, Pipeline: 5, Requests: 100, KeySpace: 50, Op: op, Prefix: "l:"}); err != nil || r.Ops != 100 || r.Errors != 0 {
			t.Errorf("%s: %+v %v", op, r, err)
		}
	}
	if _, err := Load(context.Background(), LoadConfig{Addr: s.Addr, Op: "nonsense", Requests: 1}); err == nil {
		t.Error("an unknown op was accepted")
	}
}

func TestCompareMeasuresCPU(t *testing.T) {
	s := testredis.StartT(t)
	rep, err := Compare(context.Background(), CompareConfig{Peers: []Peer{{Name: "redis", Addr: s.Addr, PIDs: []int{s.PID()}}}, Ops: []string{"get"},
		Clients: 4, Pipelines: []int{1}, Rounds: 1, Seconds: 0.5, ValueBytes: 10, KeySpace: 100}, func(string) {})
	if err != nil || len(rep.Rows) != 1 || rep.Rows[0].OpsPerS <= 0 || rep.Rows[0].CPUus <= 0 || rep.Rows[0].Errors != 0 {
		t.Fatalf("%+v %v", rep, err)
	}
	if rep.Table() == "" || rep.JSON() == "" {
		t.Error("empty report")
	}
}
