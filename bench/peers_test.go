package bench

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keyferry/internal/testredis"
)

func TestParseProcStat(t *testing.T) {
	const stat = "4711 (odd) name (x)) S 1 4711 4711 0 -1 4194560 1 2 3 4 150 75 9 9 20 0 4 0 100 1 1"
	if got, err := parseProcStat([]byte(stat)); err != nil || got != 2250*time.Millisecond {
		t.Errorf("%v, %v; want utime 150 + stime 75 ticks", got, err)
	}
	for _, bad := range []string{"", "1 (a) S 1 2", strings.Replace(stat, "150", "x", 1)} {
		if _, err := parseProcStat([]byte(bad)); !errors.Is(err, errProcStat) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestProcessCPUCountsAllThreads(t *testing.T) {
	const work = 200 * time.Millisecond
	before, err := processCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { // on a thread of its own, which ends with it
		runtime.LockOSThread()
		var err error
		used := func() time.Duration {
			var u unix.Rusage
			err = unix.Getrusage(unix.RUSAGE_THREAD, &u)
			return time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
		for begun := used(); err == nil && used() < begun+work; {
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	after, err := processCPU(os.Getpid())
	if err != nil || after-before < work-4*clockTick {
		t.Errorf("%v of work cost %v (%v)", work, after-before, err)
	}
	if _, err := processCPU(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		sorted []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{1, 2}, 1.5}, {[]float64{1, 2, 9}, 2}} {
		if got := median(test.sorted); got != test.want {
			t.Errorf("median(%v) = %v", test.sorted, got)
		}
	}
}

func TestCompareDirectAndNutcracker(t *testing.T) {
	one, two := testredis.StartT(t), testredis.StartT(t)
	proxy, err := StartNutcracker(t.TempDir(), 0, []string{one.Addr, two.Addr})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := proxy.Stop(); err != nil {
			t.Error(err)
		}
	}()
	var lines []string
	report, err := Compare(context.Background(), CompareConfig{
		Peers:  []Peer{{Name: "redis", Addr: one.Addr, PID: one.PID()}, {Name: "nutcracker", Addr: proxy.Addr, PID: proxy.PID, Servers: []int{one.PID(), two.PID()}}},
		HalfOf: "nutcracker", Idle: []int{0, 50},
		Clients: 4, Pipelines: []int{1, 8}, Rounds: 2, SecondsPerRound: 0.3, KeySpace: 1000, Ops: []string{"get", "set", "mget"},
	}, func(line string) { lines = append(lines, line) })
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Rows) != 12 || len(lines) != 2+2*2*12+4 {
		t.Fatalf("%d rows and %d lines of progress", len(report.Rows), len(lines))
	}
	cpu := map[string]float64{} // of a short round it may be less than a tick of the clock
	for _, row := range report.Rows {
		cpu[row.Peer] += row.CPUUS
		cpu["generator"] += row.GeneratorCPUUS
		cpu[row.Peer+"'s servers"] += row.ServerCPUUS
		if row.Errors != 0 || row.OpsPerS <= 0 || row.OpsPerSMin > row.OpsPerS || row.OpsPerSMax < row.OpsPerS ||
			row.Latency.P50MS <= 0 || row.OfFirst <= 0 || row.FixedRate <= 0 || row.FixedLatency.P99MS <= 0 || row.Calls <= 0 {
			t.Errorf("%+v", row)
		}
	}
	for _, of := range []string{"redis", "nutcracker", "nutcracker's servers", "generator"} {
		if cpu[of] <= 0 {
			t.Errorf("no CPU time of %s: %v", of, cpu)
		}
	}
	for _, server := range []*testredis.Server{one, two} {
		if calls := commandCalls(t, server.Client()); calls["set"] == 0 || calls["get"] == 0 {
			t.Errorf("%s got no share: %v", server.Addr, calls)
		}
	}
	if len(report.Idle) != 4 || report.Idle[3].Clients != 50 || report.Idle[3].RSSMB <= 0 {
		t.Errorf("idle: %+v", report.Idle)
	}
	if got, err := json.Marshal(report); err != nil || !strings.Contains(string(got), `"cpu_us"`) {
		t.Errorf("%s, %v", got, err)
	}
	table := report.Table()
	t.Log("\n" + table)
	if strings.Count(table, "nutcracker") != 6+2 || strings.Count(table, "\n") != 3+12+2+4 {
		t.Errorf("table:\n%s", table)
	}
}

func TestCompareEndsWithItsContext(t *testing.T) {
	server := testredis.StartT(t)
	for _, cfg := range []CompareConfig{{KeySpace: 100, SecondsPerRound: 3600}, {KeySpace: keySpaceMax}} { // in a load, and while it fills
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		cfg.Peers = []Peer{{Name: "redis", Addr: server.Addr}}
		if _, err := Compare(ctx, cfg, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		cancel()
	}
	if _, err := Compare(context.Background(), CompareConfig{}, nil); !errors.Is(err, errConfig) {
		t.Errorf("without peers: %v", err)
	}
}

func TestNutcrackerSaysWhyItFailed(t *testing.T) {
	server := testredis.StartT(t)
	if _, err := StartNutcracker(t.TempDir(), 0, []string{"no address"}); !errors.Is(err, errNutcrackerEnded) {
		t.Errorf("bad server: %v", err)
	}
	if _, err := StartNutcracker(t.TempDir(), server.Port, []string{server.Addr}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("port taken: %v", err)
	}
	t.Setenv("PATH", "")
	if _, err := os.Stat("/usr/sbin/nutcracker"); err != nil {
		if _, err := StartNutcracker(t.TempDir(), 0, nil); !errors.Is(err, ErrNoNutcracker) {
			t.Errorf("missing: %v", err)
		}
	}
}
