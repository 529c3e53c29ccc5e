package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Peer is an endpoint to compare, with the process that serves it.
type Peer struct {
	Name string
	Addr string
	PIDs []int // whose CPU time counts
}

// CompareConfig describes a comparison. Every peer gets the same load in turn, Rounds
// times, so that a change of the machine's speed meets all alike.
type CompareConfig struct {
	Peers      []Peer
	Ops        []string
	Clients    int
	Pipelines  []int
	Rounds     int
	Seconds    float64 // of each load
	ValueBytes int
	KeySpace   int
}

// Row is the median of one peer under one load.
type Row struct {
	Peer     string  `json:"peer"`
	Op       string  `json:"op"`
	Clients  int     `json:"clients"`
	Pipeline int     `json:"pipeline"`
	OpsPerS  float64 `json:"ops_per_s"`
	CPUus    float64 `json:"cpu_us_per_request"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Errors   int64   `json:"errors"`
}

// Report is a comparison.
type Report struct {
	Rounds  int     `json:"rounds"`
	Seconds float64 `json:"seconds_per_load"`
	Rows    []Row   `json:"rows"`
}

// Compare runs a comparison. Keys are set before reads are measured.
func Compare(ctx context.Context, cfg CompareConfig, progress func(string)) (Report, error) {
	rep := Report{Rounds: cfg.Rounds, Seconds: cfg.Seconds}
	for _, p := range cfg.Peers {
		if _, err := Load(ctx, LoadConfig{Addr: p.Addr, Clients: 20, Pipeline: 50, Requests: int64(4 * cfg.KeySpace), ValueBytes: cfg.ValueBytes,
			KeySpace: cfg.KeySpace, Op: "set", Prefix: "bench:"}); err != nil {
			return rep, fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	for _, op := range cfg.Ops {
		for _, pipeline := range cfg.Pipelines {
			rows := make(map[string][]Row)
			for round := range cfg.Rounds {
				for _, p := range cfg.Peers {
					row, err := measure(ctx, cfg, p, op, pipeline, uint64(round))
					if err != nil {
						return rep, fmt.Errorf("%s: %w", p.Name, err)
					}
					rows[p.Name] = append(rows[p.Name], row)
				}
			}
			for _, p := range cfg.Peers {
				m := median(rows[p.Name])
				rep.Rows = append(rep.Rows, m)
				progress(fmt.Sprintf("%-10s %-5s pipeline %-3d %9.0f ops/s %7.2f µs CPU/request", m.Peer, op, pipeline, m.OpsPerS, m.CPUus))
			}
		}
	}
	return rep, nil
}

func measure(ctx context.Context, cfg CompareConfig, p Peer, op string, pipeline int, seed uint64) (Row, error) {
	before, err := cpuOf(p.PIDs)
	if err != nil {
		return Row{}, err
	}
	r, err := Load(ctx, LoadConfig{Addr: p.Addr, Clients: cfg.Clients, Pipeline: pipeline, Duration: time.Duration(cfg.Seconds * float64(time.Second)),
		ValueBytes: cfg.ValueBytes, KeySpace: cfg.KeySpace, Op: op, Prefix: "bench:", Seed: seed})
	if err != nil {
		return Row{}, err
	}
	after, err := cpuOf(p.PIDs)
	if err != nil {
		return Row{}, err
	}
	return Row{Peer: p.Name, Op: op, Clients: cfg.Clients, Pipeline: pipeline, OpsPerS: r.OpsPerS,
		CPUus: float64((after - before).Microseconds()) / float64(max(r.Ops, 1)), P50: r.Latency.P50, P99: r.Latency.P99, Errors: r.Errors}, nil
}

// median takes each figure's own.
func median(rows []Row) Row {
	m := rows[0]
	pick := func(f func(Row) float64) float64 {
		var v []float64
		for _, r := range rows {
			v = append(v, f(r))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	m.OpsPerS = pick(func(r Row) float64 { return r.OpsPerS })
	m.CPUus = pick(func(r Row) float64 { return r.CPUus })
	m.P50 = pick(func(r Row) float64 { return r.P50 })
	m.P99 = pick(func(r Row) float64 { return r.P99 })
	m.Errors = 0
	for _, r := range rows {
		m.Errors += r.Errors
	}
	return m
}

// cpuOf is the user and system time of processes, all their threads, from /proc.
func cpuOf(pids []int) (time.Duration, error) {
	total := time.Duration(0)
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		// The name in parentheses may have spaces; utime and stime are fields 14 and 15.
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
		if len(f) < 13 {
			return 0, fmt.Errorf("/proc/%d/stat is not as expected", pid)
		}
		for _, s := range f[11:13] {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return 0, err
			}
			total += time.Duration(n) * (time.Second / 100) // USER_HZ is 100 on Linux
		}
	}
	return total, nil
}

// Table is the report for people: each peer beside the first one.
func (r Report) Table() string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "OP\tPIPELINE\tPEER\tOPS/S\t× FIRST\tCPU µs/REQ\tP50 ms\tP99 ms\tERRORS")
	var first Row
	for _, row := range r.Rows {
		if row.Op != first.Op || row.Pipeline != first.Pipeline {
			first = row
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%d\n", row.Op, row.Pipeline, row.Peer, row.OpsPerS, row.OpsPerS/first.OpsPerS, row.CPUus, row.P50, row.P99, row.Errors)
	}
	_ = t.Flush()
	return b.String()
}

// JSON is the report for programs.
func (r Report) JSON() string {
	b, _ := json.MarshalIndent(r, "", "  ") // of plain numbers and texts: can't fail
	return string(b)
}

// NutcrackerCommand writes a configuration into dir and gives the command that runs
// Debian's nutcracker (twemproxy) over the servers on addr.
func NutcrackerCommand(dir, addr string, servers []string) (*exec.Cmd, error) {
	bin, err := exec.LookPath("nutcracker")
	if err != nil {
		return nil, fmt.Errorf("nutcracker is not installed: apt-get install nutcracker")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "bench:\n  listen: %s\n  hash: crc16\n  distribution: modula\n  redis: true\n  servers:\n", addr)
	for _, s := range servers {
		fmt.Fprintf(&b, "   - %s:1\n", s)
	}
	path := filepath.Join(dir, "nutcracker.yml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return nil, err
	}
	stats, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := stats.Addr().(*net.TCPAddr).Port
	_ = stats.Close()
	return exec.Command(bin, "-c", path, "-o", filepath.Join(dir, "nutcracker.log"), "-s", strconv.Itoa(port), "-m", "16384"), nil
}

// AwaitPort waits until something accepts connections on addr.
func AwaitPort(ctx context.Context, addr string) error {
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("nothing listens on %s: %w", addr, err)
		}
	}
}
