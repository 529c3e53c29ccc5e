package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testredis"
)

// verify returns the verdict, with errors fatal.
func verify(t *testing.T, o *Oracle) Verdict {
	t.Helper()
	v, err := o.Verify(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustPreload(t *testing.T, o *Oracle) {
	t.Helper()
	if err := o.Preload(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func runFor(t *testing.T, o *Oracle, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if err := o.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// start runs the oracle until end is called.
func start(t *testing.T, o *Oracle) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// runUntil runs the oracle for d or longer, until enough has come of it.
func runUntil(t *testing.T, o *Oracle, d time.Duration, enough func(OracleStats) bool) {
	t.Helper()
	end, begun := start(t, o), time.Now()
	await(t, "enough to come of a run", func() bool { return time.Since(begun) >= d && enough(o.Snapshot()) })
	end()
}

// awaitOps waits until n more commands have been answered.
func awaitOps(t *testing.T, o *Oracle, n int64) {
	t.Helper()
	before := o.Snapshot().Ops
	await(t, fmt.Sprintf("%d more commands", n), func() bool { return o.Snapshot().Ops >= before+n })
}

func TestOracleFindsNothingWrongWithARedis(t *testing.T) {
	server := testredis.StartT(t)
	for name, cfg := range map[string]OracleConfig{
		"pipelined":      {Clients: 6, Keys: 600, Pipeline: 16, DBs: []int{0, 3}, BigKeys: 5, BigElements: 3000},
		"one at a time":  {Clients: 4, Keys: 200},
		"one hot client": {Clients: 1, Keys: 8, Pipeline: 50},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Addr, cfg.IncludeDeletes, cfg.Seed, cfg.Rate = server.Addr, true, time.Now().UnixNano(), 20_000
			t.Logf("seed %d", cfg.Seed)
			o := NewOracle(cfg)
			mustPreload(t, o)
			o.Phase("before")
			// Past many a short TTL.
			runUntil(t, o, 3500*time.Millisecond, func(s OracleStats) bool { return s.Reads >= 1000 && s.Writes >= 1000 })
			stats, verdict := o.Snapshot(), verify(t, o)
			if !verdict.OK() || verdict.InDoubt != 0 || verdict.KeysChecked != cfg.Keys+cfg.BigKeys {
				t.Errorf("verdict: %v", verdict)
			}
			if stats.Errors+stats.ConnErrors != 0 || stats.FirstError != "" || stats.Reads < 1000 || stats.Writes < 1000 {
				t.Errorf("stats: %+v", stats)
			}
			if phases := o.Phases(); len(phases) != 1 || phases[0].Name != "before" || phases[0].Ops != stats.Ops || phases[0].Latency.P50MS <= 0 {
				t.Errorf("phases: %+v of %d ops", phases, stats.Ops)
			}
		})
	}
}

// Without a Preload keys begin absent, and with none of the types but these.
func TestOracleOfSomeTypesWithoutPreload(t *testing.T) {
	server := testredis.StartT(t)
	o := NewOracle(OracleConfig{Addr: server.Addr, Keys: 100, Seconds: 0.3, Types: []string{"string", "zset"}, Pipeline: 4})
	if err := o.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if v := verify(t, o); !v.OK() {
		t.Error(v)
	}
	for _, name := range server.Client().Keys(context.Background(), "*").Val() {
		if !strings.Contains(name, ":string:") && !strings.Contains(name, ":zset:") {
			t.Errorf("key %s of an unwanted type", name)
		}
	}
}

// TestPhasesMeasureApart: while the server is frozen clients wait for longer than the phases
// before and after have lasted. What these have measured is within their own time.
func TestPhasesMeasureApart(t *testing.T) {
	const rate = 500
	server := testredis.StartT(t)
	o := NewOracle(OracleConfig{Addr: server.Addr, Clients: 1, Keys: 100, Rate: rate})
	o.Phase("quiet")
	begun := time.Now()
	end := start(t, o)
	awaitOps(t, o, 20)
	o.Phase("frozen")
	quiet := time.Since(begun)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	seen := 0.0
	await(t, "the wait of clients to show", func() bool { seen = o.Snapshot().LongestStallMS; return seen >= 500 })
	thawed := time.Now()
	if err := server.Continue(); err != nil {
		t.Fatal(err)
	}
	due := int64(rate*thawed.Sub(begun).Seconds()) + 1
	await(t, "all that was due until then", func() bool { return o.Snapshot().Ops >= due })
	o.Phase("after")
	awaitOps(t, o, 20)
	end()
	after := time.Since(thawed)
	phases := o.Phases()
	if len(phases) != 3 {
		t.Fatalf("%+v", phases)
	}
	if p := phases[1]; p.LongestStallMS < seen || p.Latency.MaxMS < 0.99*seen {
		t.Errorf("somebody has waited for %g ms, and the phase has %+v", seen, p)
	}
	for i, most := range map[int]time.Duration{0: quiet, 2: after} {
		if p := phases[i]; p.LongestStallMS > milliseconds(most) || p.Latency.MaxMS > 1.01*milliseconds(most) {
			t.Errorf("within %v: %+v", most, p)
		}
	}
	if v := verify(t, o); !v.OK() {
		t.Error(v)
	}
}

// The server is killed and restarted twice in mid run. It answers only what is
// on disk, so nothing acknowledged may be missing.
func TestOracleSurvivesKillsOfADurableServer(t *testing.T) {
	server := testredis.StartT(t, "--appendonly", "yes", "--appendfsync", "always")
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	o := NewOracle(OracleConfig{
		Addr: server.Addr, Clients: 8, Keys: 400, Pipeline: 8, Seed: seed,
		IncludeDeletes: true, ReconnectOnError: true,
	})
	mustPreload(t, o)
	end := start(t, o)
	for range 2 {
		await(t, "all clients to be connected", func() bool {
			info := server.Client().Info(context.Background(), "clients").Val()
			return strings.Contains(info, "connected_clients:9\r\n") // one is the test's
		})
		awaitOps(t, o, 500)
		time.Sleep(300 * time.Millisecond)
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if err := server.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	awaitOps(t, o, 500)
	await(t, "all clients to have noticed", func() bool { return o.Snapshot().ConnErrors >= 16 })
	end()
	stats, v := o.Snapshot(), verify(t, o)
	if !v.OK() {
		t.Error(v)
	}
	if stats.ConnErrors < 16 || stats.InDoubt == 0 || stats.LongestOutageMS < 100 || int64(v.InDoubt) != stats.InDoubt {
		t.Errorf("two kills of 8 clients' server are not to be seen: %+v, %d in doubt", stats, v.InDoubt)
	}
}

// A server that forgets what it acknowledged is found out after its restart,
// while the oracle still runs.
func TestOracleFindsAForgetfulServer(t *testing.T) {
	server := testredis.StartT(t)
	o := NewOracle(OracleConfig{Addr: server.Addr, Clients: 2, Keys: 100, ReconnectOnError: true, Types: []string{"string", "hash"}})
	mustPreload(t, o)
	end := start(t, o)
	awaitOps(t, o, 200)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	await(t, "the loss that a restart without persistence is", func() bool { return o.Snapshot().Lost > 0 })
	end()
	if v := verify(t, o); v.Lost < 40 || v.WhileRunning == 0 || v.WhileRunning < o.Snapshot().Lost {
		t.Errorf("%v; %+v", v, o.Snapshot())
	}
}

func TestRefusalsLeaveTheModelAsItWas(t *testing.T) {
	server := testredis.StartT(t)
	o := NewOracle(OracleConfig{Addr: server.Addr, Clients: 4, Keys: 200, Pipeline: 4, Types: []string{"hash", "counter", "list", "ttl"}})
	mustPreload(t, o)
	if err := server.Client().ConfigSet(context.Background(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	runUntil(t, o, 300*time.Millisecond, func(s OracleStats) bool { return s.Errors > 0 })
	if stats := o.Snapshot(); stats.Errors == 0 || !strings.HasPrefix(stats.FirstError, "OOM ") || stats.InDoubt != 0 || stats.ConnErrors != 0 {
		t.Errorf("%+v", stats)
	}
	if v := verify(t, o); !v.OK() || v.InDoubt != 0 {
		t.Error(v)
	}
}

func TestRunEndsWithTheConnectionUnlessToldToReconnect(t *testing.T) {
	server := testredis.StartT(t)
	o := NewOracle(OracleConfig{Addr: server.Addr, Clients: 4, Keys: 40})
	done := make(chan error, 1)
	go func() { done <- o.Run(context.Background()) }()
	awaitOps(t, o, 1)
	server.Client().ClientKillByFilter(context.Background(), "TYPE", "normal", "SKIPME", "yes")
	if err := <-done; err == nil {
		t.Error("Run lost its connections and returned no error")
	}
	if v := verify(t, o); !v.OK() {
		t.Error(v)
	}
}

func TestOracleRefusesWhatCannotRun(t *testing.T) {
	for _, cfg := range []OracleConfig{{Types: []string{"bitmap"}}, {Keys: 3}, {Pipeline: -1}, {Rate: -1}, {ReadPercent: 101}, {Elements: -1}} {
		o := NewOracle(cfg)
		if err := o.Run(context.Background()); !errors.Is(err, errConfig) {
			t.Errorf("Run of %+v: %v", cfg, err)
		}
		if _, err := o.Verify(context.Background(), ""); !errors.Is(err, errConfig) {
			t.Errorf("Verify of %+v: %v", cfg, err)
		}
	}
	server := testredis.StartT(t)
	o := NewOracle(OracleConfig{Addr: server.Addr})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- o.Run(ctx) }()
	for o.Snapshot().Ops == 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := o.Verify(ctx, ""); !errors.Is(err, ErrBusy) {
		t.Errorf("Verify during Run: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
