package bench

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// Peer is an endpoint to compare; PID is the process that serves Addr, whose CPU
// is measured, or 0.
type Peer struct {
	Name string
	Addr string
	PID  int
}

// CompareConfig says what Compare runs. Zero fields take the defaults given here.
type CompareConfig struct {
	Peers           []Peer
	Password        string
	Clients         int      // 50
	Pipelines       []int    // {1, 16}
	Rounds          int      // 3
	SecondsPerRound float64  // 3, for each peer, pipeline and ops
	ValueBytes      int      // 64
	KeySpace        int      // 100,000
	Ops             []string // as in LoadConfig; {"get", "set"}
}

// Report is the result of a comparison.
type Report struct {
	CPUs            int       `json:"cpus"` // of the machine, which the load generator shares
	Clients         int       `json:"clients"`
	ValueBytes      int       `json:"value_bytes"`
	Rounds          int       `json:"rounds"`
	SecondsPerRound float64   `json:"seconds_per_round"`
	Rows            []PeerRow `json:"rows"`
}

// PeerRow is one peer under one kind of load. Every figure but the errors is the
// median of the rounds.
type PeerRow struct {
	Peer       string      `json:"peer"`
	Ops        string      `json:"ops"`
	Pipeline   int         `json:"pipeline"`
	OpsPerS    float64     `json:"ops_per_s"`
	OpsPerSMin float64     `json:"ops_per_s_min"` // slowest round
	OpsPerSMax float64     `json:"ops_per_s_max"` // fastest round
	OfFirst    float64     `json:"of_first"`      // OpsPerS relative to the first peer's
	Latency    Percentiles `json:"latency"`
	// CPUUS is CPU time of the peer's process per request, in microseconds; 0
	// when its PID is not known. GeneratorCPUUS is our own.
	CPUUS          float64 `json:"cpu_us"`
	GeneratorCPUUS float64 `json:"generator_cpu_us"`
	Errors         int64   `json:"errors"` // of all rounds
	FirstError     string  `json:"first_error"`
}

func (cfg *CompareConfig) setDefaults() error {
	setDefault(&cfg.Clients, 50)
	setDefault(&cfg.Rounds, 3)
	setDefault(&cfg.SecondsPerRound, 3)
	setDefault(&cfg.ValueBytes, 64)
	setDefault(&cfg.KeySpace, 100_000)
	if len(cfg.Pipelines) == 0 {
		cfg.Pipelines = []int{1, 16}
	}
	if len(cfg.Ops) == 0 {
		cfg.Ops = []string{"get", "set"}
	}
	if len(cfg.Peers) == 0 || cfg.Rounds < 0 || cfg.SecondsPerRound < 0 {
		return fmt.Errorf("%w: no peers, or negative rounds or seconds", errConfig)
	}
	return nil
}

// round is what one round measured of one peer.
type round struct {
	LoadResult
	cpuUS, generatorCPUUS float64
}

// Compare runs the same load against every peer in turn, all peers in every
// round, so that what else the machine does falls on all of them alike. The order
// turns from round to round. progress, when not nil, gets a line before each load.
func Compare(ctx context.Context, cfg CompareConfig, progress func(string)) (Report, error) {
	if err := cfg.setDefaults(); err != nil {
		return Report{}, err
	}
	if progress == nil {
		progress = func(string) {}
	}
	for _, peer := range cfg.Peers {
		progress("filling " + peer.Name)
		if err := fillPeer(ctx, &cfg, peer); err != nil {
			return Report{}, fmt.Errorf("bench: fill %s: %w", peer.Name, err)
		}
	}
	report := Report{
		CPUs: runtime.NumCPU(), Clients: cfg.Clients, ValueBytes: cfg.ValueBytes,
		Rounds: cfg.Rounds, SecondsPerRound: cfg.SecondsPerRound,
	}
	for _, ops := range cfg.Ops {
		for _, pipeline := range cfg.Pipelines {
			rows, err := compareOne(ctx, &cfg, ops, pipeline, progress)
			if err != nil {
				return report, err
			}
			report.Rows = append(report.Rows, rows...)
		}
	}
	return report, nil
}

// loadConfig is the load of one round.
func (cfg *CompareConfig) loadConfig(peer Peer, ops string, pipeline int) LoadConfig {
	return LoadConfig{
		Addr: peer.Addr, Password: cfg.Password, Clients: cfg.Clients, Pipeline: pipeline, Ops: ops,
		ValueBytes: cfg.ValueBytes, KeySpace: cfg.KeySpace, Prefix: "peers:",
		Duration: time.Duration(cfg.SecondsPerRound * float64(time.Second)),
	}
}

func fillPeer(ctx context.Context, cfg *CompareConfig, peer Peer) error {
	load := cfg.loadConfig(peer, cfg.Ops[0], cfg.Pipelines[0])
	if err := load.setDefaults(); err != nil {
		return err
	}
	return fillKeys(ctx, load)
}

// compareOne runs all rounds of one kind of load.
func compareOne(ctx context.Context, cfg *CompareConfig, ops string, pipeline int, progress func(string)) ([]PeerRow, error) {
	rounds := make([][]round, len(cfg.Peers))
	for r := range cfg.Rounds {
		for i := range cfg.Peers {
			p := (i + r) % len(cfg.Peers)
			peer := cfg.Peers[p]
			progress(fmt.Sprintf("%s, pipeline %d, round %d of %d: %s", ops, pipeline, r+1, cfg.Rounds, peer.Name))
			one, err := runRound(ctx, cfg.loadConfig(peer, ops, pipeline), peer)
			if err != nil {
				return nil, fmt.Errorf("bench: %s: %w", peer.Name, err)
			}
			rounds[p] = append(rounds[p], one)
		}
	}
	var rows []PeerRow
	for p, peer := range cfg.Peers {
		row := newPeerRow(rounds[p])
		row.Peer, row.Ops, row.Pipeline, row.OfFirst = peer.Name, ops, pipeline, 1
		if p > 0 && rows[0].OpsPerS > 0 {
			row.OfFirst = row.OpsPerS / rows[0].OpsPerS
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func runRound(ctx context.Context, cfg LoadConfig, peer Peer) (round, error) {
	before, err := cpuOf(peer.PID)
	if err != nil {
		return round{}, err
	}
	own, err := cpuOf(os.Getpid())
	if err != nil {
		return round{}, err
	}
	result, err := Load(ctx, cfg)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return round{}, err
	}
	after, err := cpuOf(peer.PID)
	if err != nil {
		return round{}, err
	}
	ownAfter, err := cpuOf(os.Getpid())
	if err != nil {
		return round{}, err
	}
	perRequest := func(d time.Duration) float64 {
		return float64(d) / float64(time.Microsecond) / float64(max(result.Ops, 1))
	}
	return round{LoadResult: result, cpuUS: perRequest(after - before), generatorCPUUS: perRequest(ownAfter - own)}, nil
}

// cpuOf is processCPU, and 0 for an unknown process.
func cpuOf(pid int) (time.Duration, error) {
	if pid == 0 {
		return 0, nil
	}
	return processCPU(pid)
}

func newPeerRow(rounds []round) PeerRow {
	latencies := make([]Percentiles, len(rounds))
	for i := range rounds {
		latencies[i] = rounds[i].Latency
	}
	speed := func(r *round) float64 { return r.OpsPerS }
	row := PeerRow{
		OpsPerS: medianOf(rounds, speed), OpsPerSMin: rounds[0].OpsPerS, OpsPerSMax: rounds[0].OpsPerS,
		Latency:        medianLatency(latencies),
		CPUUS:          medianOf(rounds, func(r *round) float64 { return r.cpuUS }),
		GeneratorCPUUS: medianOf(rounds, func(r *round) float64 { return r.generatorCPUUS }),
	}
	for _, r := range rounds {
		row.OpsPerSMin, row.OpsPerSMax = min(row.OpsPerSMin, r.OpsPerS), max(row.OpsPerSMax, r.OpsPerS)
		row.Errors += r.Errors
		row.FirstError = cmp.Or(row.FirstError, r.FirstError)
	}
	return row
}

// Table shows the report as text.
func (r Report) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d clients, %d-byte values, median of %d rounds of %g s, %d CPUs shared with the load generator\n\n",
		r.Clients, r.ValueBytes, r.Rounds, r.SecondsPerRound, r.CPUs)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "ops\tpipeline\tpeer\treq/s\tof first\tp50 ms\tp99 ms\tp99.9 ms\tmax ms\tCPU µs/req\terrors\t")
	for _, row := range r.Rows {
		cpu := "-"
		if row.CPUUS > 0 {
			cpu = fmt.Sprintf("%.2f", row.CPUUS)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%s\t%d\t\n", row.Ops, row.Pipeline, row.Peer,
			row.OpsPerS, row.OfFirst, row.Latency.P50MS, row.Latency.P99MS, row.Latency.P999MS, row.Latency.MaxMS, cpu, row.Errors)
	}
	_ = w.Flush() // into a strings.Builder, which takes everything
	return b.String()
}
