package bench

import (
	"context"
	"errors"
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
			runFor(t, o, 3500*time.Millisecond) // past many a short TTL
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

func TestPhasesMeasureApart(t *testing.T) {
	server := testredis.StartT(t)
	o := NewOracle(OracleConfig{Addr: server.Addr, Clients: 2, Keys: 100, Seconds: 1, Rate: 1000})
	done := make(chan error)
	o.Phase("quiet")
	go func() { done <- o.Run(context.Background()) }()
	time.Sleep(300 * time.Millisecond)
	o.Phase("frozen")
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if stall := o.Snapshot().LongestStallMS; stall < 150 {
		t.Errorf("clients have been waiting for 300 ms, and the snapshot says %v", stall)
	}
	if err := server.Continue(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	o.Phase("after")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	phases := o.Phases()
	if len(phases) != 3 {
		t.Fatalf("%+v", phases)
	}
	for i, slow := range []bool{false, true, false} {
		if got := phases[i].LongestStallMS > 200 && phases[i].Latency.MaxMS > 200; got != slow {
			t.Errorf("phase %+v: slow is %v, want %v", phases[i], got, slow)
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
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- o.Run(ctx) }()
	for range 2 {
		time.Sleep(700 * time.Millisecond)
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if err := server.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(700 * time.Millisecond)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
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
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- o.Run(ctx) }()
	time.Sleep(200 * time.Millisecond)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); o.Snapshot().Lost == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a server without persistence was restarted, and nothing is lost")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
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
	runFor(t, o, 300*time.Millisecond)
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
	time.AfterFunc(100*time.Millisecond, func() {
		server.Client().ClientKillByFilter(context.Background(), "TYPE", "normal", "SKIPME", "yes")
	})
	if err := o.Run(context.Background()); err == nil {
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
