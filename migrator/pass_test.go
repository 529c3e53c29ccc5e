package migrator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/flow"
	"keyferry/migrator/joberr"
	"keyferry/migrator/keymove"
	"keyferry/migrator/link"
	"keyferry/router"
	"keyferry/slotlock"
)

// ferry is a mover between two servers, of all slots.
type ferry struct {
	*mover
	t        *testing.T
	src, dst *testredis.Server
}

func newFerry(t *testing.T, change func(*Config)) *ferry {
	t.Helper()
	return newFerryVia(t, change, func(target string) string { return target })
}

// newFerryVia has the mover reach its target where via says: the mover's goroutines read that
// from the start.
func newFerryVia(t *testing.T, change func(*Config), via func(target string) string) *ferry {
	t.Helper()
	src, dst := testredis.StartT(t), testredis.StartT(t)
	cfg := &Config{BatchMaxKeys: 300, LockHoldTarget: 5 * time.Millisecond, MoverPatience: 5 * time.Millisecond, BigKeyBytes: 100_000,
		ScanCount: 500, BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond, CallTimeout: 30 * time.Second, MemoryLimit: 64 << 20}
	if change != nil {
		change(cfg)
	}
	scheme, err := router.ParseScheme("redis")
	if err != nil {
		t.Fatal(err)
	}
	text := src.Client().Info(context.Background()).Val()
	m := &mover{cfg: cfg, log: zap.NewNop(),
		ends: ends{job: "j", source: topology.Group{ID: "a", Endpoint: topology.Endpoint{Addr: src.Addr}}, target: topology.Group{ID: "b", Endpoint: topology.Endpoint{Addr: via(dst.Addr)}},
			sourceRunID: link.ReadInfo(text).Life(), dialer: upstream.NewDialer("ferry", 1),
			ledger: keymove.NewLedger(func(name []byte) int { return scheme.Slot(name) }, keymove.Account{}, false)},
		scope: scope{slots: topology.NewSlotSet([]topology.Range{{First: 0, Last: 16383}}), scheme: scheme, databases: 2,
			locks: slotlock.New(slotlock.Options{MaxWaiting: 100})},
		admission: newAdmission(cfg), hooks: hooks{fenceOthers: func(context.Context) error { return nil }, keep: func(context.Context, keymove.Account) error { return nil }}, open: newUndecided(),
		fenced: fencing{done: make(chan struct{})}, errs: &errorLog{}, talk: &talk{}}
	m.gate = &flow.Gate{}
	m.env = m.newEnv("", 0)
	m.bound(topology.Job{JobLimits: topology.JobLimits{Parallel: 3}})
	m.stats.init(cfg.BigKeyBytes, m.gov.Sized)
	m.start()
	t.Cleanup(m.close)
	return &ferry{m, t, src, dst}
}

// fill writes keys of every type, some large, some with a TTL, to both databases, and
// gives their DUMPs.
func (f *ferry) fill(n int) map[string]string {
	f.t.Helper()
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(7, uint64(n)))
	want := make(map[string]string)
	for db := range 2 {
		c := f.src.ClientDB(db)
		p := c.Pipeline()
		var names []string
		for i := range n / 2 {
			k := "k" + strconv.Itoa(i) + string([]byte{0, '\r', '\n', byte(i)})
			names = append(names, k)
			switch i % 5 {
			case 0:
				p.Set(ctx, k, make([]byte, rng.IntN(300)), 0)
			case 1:
				p.HSet(ctx, k, "a", i, "b", "x")
			case 2:
				p.RPush(ctx, k, 1, 2, i)
			case 3:
				p.ZAdd(ctx, k, redis.Z{Score: float64(i), Member: "m"})
			case 4:
				p.Set(ctx, k, i, time.Hour)
			}
		}
		for i := range 5 { // beyond the big key limit: DUMP can't compress them
			k := fmt.Sprint("big", i)
			b := make([]byte, 150_000)
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			p.Set(ctx, k, b, 0)
			names = append(names, k)
		}
		if _, err := p.Exec(ctx); err != nil {
			f.t.Fatal(err)
		}
		for _, k := range names {
			p.Dump(ctx, k)
		}
		dumps, err := p.Exec(ctx)
		if err != nil {
			f.t.Fatal(err)
		}
		for i, k := range names {
			want[fmt.Sprint(db, k)] = dumps[i].(*redis.StringCmd).Val()
		}
	}
	return want
}

// compare checks that the target has exactly what was filled, and the source nothing.
func (f *ferry) compare(want map[string]string) {
	f.t.Helper()
	ctx := context.Background()
	var total int64
	for db := range 2 {
		if n := f.src.ClientDB(db).DBSize(ctx).Val(); n != 0 {
			f.t.Errorf("%d keys left at the source's database %d", n, db)
		}
		total += f.dst.ClientDB(db).DBSize(ctx).Val()
	}
	if total != int64(len(want)) {
		f.t.Errorf("%d keys at the target, want %d", total, len(want))
	}
	wrong := 0
	for name, dump := range want {
		db, k := int(name[0]-'0'), name[1:]
		c := f.dst.ClientDB(db)
		if got := c.Dump(ctx, k).Val(); got != dump {
			wrong++
		}
	}
	if wrong > 0 {
		f.t.Errorf("%d keys differ", wrong)
	}
	if s := f.locks.Stats(); s.Waiting != 0 || s.Commits < int64(len(want)) || len(f.open.inDoubt()) > 0 {
		f.t.Errorf("locks %+v, in doubt %q", s, f.open.inDoubt())
	}
}

func TestPassMovesEverything(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config)
	}{
		{"as usual", nil},
		{"one by one", func(c *Config) { c.BatchMaxKeys = 1 }},
		{"small pages", func(c *Config) { c.ScanCount = 3 }},
		{"large pages", func(c *Config) { c.ScanCount = 100_000 }},
		{"all are big", func(c *Config) { c.BigKeyBytes = 1 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFerry(t, test.change)
			want := f.fill(3000)
			var last position
			found, err := f.pass(context.Background(), position{}, func(p position) {
				if p.db < last.db || p.runID != f.sourceRunID {
					t.Errorf("%+v after %+v", p, last)
				}
				last = p
			})
			if err != nil || found < int64(len(want)) {
				t.Fatalf("%d found, %v", found, err)
			}
			f.compare(want)
			if n := f.stats.keys.Load(); n != int64(len(want)) {
				t.Errorf("%d keys counted, want %d", n, len(want))
			}
			if ttl := f.dst.ClientDB(1).PTTL(context.Background(), "k4\x00\r\n\x04").Val(); ttl < 50*time.Minute || ttl > time.Hour {
				t.Errorf("a TTL of %v", ttl)
			}
			if test.change == nil && f.stats.big.count.Load() != 10 {
				t.Errorf("%d big keys, want 10", f.stats.big.count.Load())
			}
		})
	}
}

// TestPassWithLostConnections kills connections at both ends again and again: every key
// whose fate becomes unknown must be found at the target, once, in the end.
func TestPassWithLostConnections(t *testing.T) {
	f := newFerry(t, nil)
	want := f.fill(6000)
	f.limit.SetLimit(1500) // so that none passes unharmed
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Minute)
	defer stop()
	killed := make(chan struct{})
	killing, enough := context.WithCancel(ctx)
	go func() {
		defer close(killed)
		rng := rand.New(rand.NewPCG(3, 3))
		for n := 0; killing.Err() == nil; n++ {
			c := []*testredis.Server{f.src, f.dst}[rng.IntN(2)].Client()
			_ = c.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err()
			select {
			case <-time.After(time.Duration(1+rng.IntN(12)) * time.Millisecond):
			case <-killing.Done():
			}
			if n == 150 {
				return
			}
		}
	}()
	failures := 0
	for ctx.Err() == nil {
		found, err := f.pass(ctx, position{}, func(position) {})
		if err != nil {
			failures++
			f.limit.SetLimit(rate.Inf)
			continue
		}
		if found == 0 && len(f.open.inDoubt()) == 0 {
			break
		}
	}
	enough()
	<-killed
	if failures == 0 {
		t.Error("no pass failed: the test tested nothing")
	}
	f.compare(want)
}

// TestPassIntoAFullTarget: the refusal is the pass's error, no key is lost or locked, and
// the rest goes when there is room.
func TestPassIntoAFullTarget(t *testing.T) {
	f := newFerry(t, nil)
	want := f.fill(2000)
	ctx := context.Background()
	full := f.dst.Client()
	if err := full.ConfigSet(ctx, "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.pass(ctx, position{}, func(position) {}); !joberr.IsOOM(err) {
		t.Fatalf("%v", err)
	}
	if n := f.src.ClientDB(0).DBSize(ctx).Val() + f.src.ClientDB(1).DBSize(ctx).Val(); n != int64(len(want)) {
		t.Errorf("%d keys at the source, want all %d", n, len(want))
	}
	if err := full.ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.pass(ctx, position{}, func(position) {}); err != nil {
		t.Fatal(err)
	}
	f.compare(want)
}

// TestPassStops: what is under way is brought to its end, and the pass says that it was
// stopped. What the checkpoint says is done is done.
func TestPassStops(t *testing.T) {
	f := newFerry(t, func(c *Config) { c.ScanCount, c.BatchMaxKeys = 50, 20 })
	f.limit = rate.NewLimiter(1000, 20)
	want := f.fill(4000)
	ctx, stop := context.WithCancel(context.Background())
	var at position
	go func() {
		defer stop()
		for f.stats.keys.Load() <= 500 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}()
	_, err := f.pass(ctx, position{}, func(p position) { at = p })
	stop()
	if moved := f.stats.keys.Load(); !errors.Is(err, context.Canceled) || moved >= int64(len(want)) {
		t.Fatalf("%v after %d of %d keys", err, moved, len(want))
	}
	if len(f.open.inDoubt()) > 0 {
		t.Errorf("a planned stop left keys in doubt: %q", f.open.inDoubt())
	}
	f.limit.SetLimit(rate.Inf)
	if _, err := f.pass(context.Background(), at, func(position) {}); err != nil {
		t.Fatal(err)
	}
	f.compare(want)
}

// waiterFunc is a client that waits for a key.
type waiterFunc func(v slotlock.Verdict)

func (w waiterFunc) Wake(_ *slotlock.Table, _ slotlock.Key, v slotlock.Verdict) { w(v) }

// TestPassLeavesHeldKeysAlone: a key in use is left where it is, and everything else goes;
// when its holder is done, the key follows.
func TestPassLeavesHeldKeysAlone(t *testing.T) {
	f := newFerry(t, func(c *Config) { c.MoverPatience = time.Hour })
	want := f.fill(500)
	ctx := context.Background()
	held := slotlock.Key{DB: 0, Name: "big1"}
	if v := f.locks.Admit(held.DB, []byte(held.Name), waiterFunc(func(slotlock.Verdict) {})); v != slotlock.Source {
		t.Fatal(v)
	}
	if _, err := f.pass(ctx, position{}, func(position) {}); err != nil {
		t.Fatal(err)
	}
	if n := f.src.ClientDB(0).DBSize(ctx).Val(); n != 1 || f.src.Client().Exists(ctx, "big1").Val() != 1 || f.dst.Client().Exists(ctx, "big1").Val() != 0 {
		t.Errorf("%d keys left at the source", n)
	}
	woken := make(chan slotlock.Verdict, 1)
	if v := f.locks.Admit(held.DB, []byte(held.Name), waiterFunc(func(v slotlock.Verdict) { woken <- v })); v != slotlock.Wait {
		t.Fatal(v)
	}
	f.locks.Release(held)
	if v := <-woken; v != slotlock.Target {
		t.Errorf("woken with %v", v)
	}
	f.compare(want)
}

// TestPassWaitsForReplicas: with a replica that acknowledges, everything goes; with one
// that is silent no key is unlinked at the source before it is safe.
func TestPassWaitsForReplicas(t *testing.T) {
	f := newFerry(t, func(c *Config) { c.CallTimeout = time.Second })
	ctx := context.Background()
	replica, err := testredis.Start(testredis.Options{Args: []string{"--replicaof", fmt.Sprintf("127.0.0.1 %d", f.dst.Port), "--repl-diskless-sync-delay", "0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = replica.Stop() })
	for end := time.Now().Add(time.Minute); f.dst.Client().Do(ctx, "WAIT", 1, 500).Val() != int64(1); {
		if time.Now().After(end) {
			t.Fatal("the replica does not come up")
		}
	}
	want := f.fill(400)
	if err := replica.Pause(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.pass(ctx, position{}, func(position) {}); err == nil {
		t.Error("the pass did not fail")
	}
	if n := f.src.ClientDB(0).DBSize(ctx).Val() + f.src.ClientDB(1).DBSize(ctx).Val(); n != int64(len(want)) {
		t.Errorf("%d keys left at the source, want all %d", n, len(want))
	}
	if err := replica.Continue(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		found, err := f.pass(ctx, position{}, func(position) {})
		if err == nil && found == 0 && len(f.open.inDoubt()) == 0 {
			break
		}
	}
	f.compare(want)
}
