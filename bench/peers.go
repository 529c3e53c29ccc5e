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
// is measured, or 0. Servers are those behind it.
type Peer struct {
	Name    string
	Addr    string
	PID     int
	Servers []int
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
	Kinds           []Kind   // of load; nil: each of Ops at each of Pipelines
	// HalfOf names a peer: after each kind of load, every peer is given half of what that
	// one made at most, for the latency at a rate that all can stand. "" does without.
	HalfOf string
	Idle   []int // numbers of idle clients with which memory is looked at, rising
}

// Kind is one kind of load.
type Kind struct {
	Ops        string `json:"ops"`
	Pipeline   int    `json:"pipeline"`
	Clients    int    `json:"clients"`
	ValueBytes int    `json:"value_bytes"`
	KeySpace   int    `json:"key_space"`
	NoHalf     bool   `json:"-"` // HalfOf is not for it
}

// FullSuite are the kinds of load by which proxies are compared: small values at all
// pipelines, reads to writes as 9 to 1, many clients, keys across servers, large values.
func FullSuite() (kinds []Kind) {
	for _, ops := range []string{"get", "set", "mixed"} {
		for _, pipeline := range []int{1, 16, 100} {
			kinds = append(kinds, Kind{Ops: ops, Pipeline: pipeline, Clients: 50, ValueBytes: 100, KeySpace: 100_000})
		}
	}
	for _, pipeline := range []int{1, 16} {
		kinds = append(kinds, Kind{"mget", pipeline, 50, 100, 100_000, true})
	}
	for _, ops := range []string{"get", "set"} {
		kinds = append(kinds, Kind{ops, 1, 1000, 100, 100_000, true},
			Kind{ops, 1, 50, 10 << 10, 5000, true}, Kind{ops, 16, 50, 10 << 10, 5000, true}, Kind{ops, 1, 50, 1 << 20, 50, true})
	}
	return kinds
}

// Report is the result of a comparison.
type Report struct {
	CPUs            int       `json:"cpus"` // of the machine, which the load generator shares
	Rounds          int       `json:"rounds"`
	SecondsPerRound float64   `json:"seconds_per_round"`
	Rows            []PeerRow `json:"rows"`
	Idle            []IdleRow `json:"idle,omitempty"`
}

// PeerRow is one peer under one kind of load. Every figure but the errors is the
// median of the rounds.
type PeerRow struct {
	Peer string `json:"peer"`
	Kind
	OpsPerS    float64     `json:"ops_per_s"`
	OpsPerSMin float64     `json:"ops_per_s_min"` // slowest round
	OpsPerSMax float64     `json:"ops_per_s_max"` // fastest round
	OfFirst    float64     `json:"of_first"`      // OpsPerS relative to the first peer's
	Latency    Percentiles `json:"latency"`
	// CPUUS is CPU time of the peer's process per request, in microseconds; 0
	// when its PID is not known. GeneratorCPUUS is our own.
	CPUUS          float64 `json:"cpu_us"`
	GeneratorCPUUS float64 `json:"generator_cpu_us"`
	ServerCPUUS    float64 `json:"server_cpu_us"` // of the servers behind the peer
	Switches       float64 `json:"context_switches"`
	Calls          float64 `json:"reads_and_writes"` // system calls, per request as the two before
	// The same load at a fixed rate, if one was asked for: requests per second, and the
	// latency with the time included for which a request was held up by those before it.
	FixedRate    float64     `json:"fixed_rate,omitempty"`
	FixedLatency Percentiles `json:"fixed_rate_latency"`
	Errors       int64       `json:"errors"` // of all rounds
	FirstError   string      `json:"first_error"`
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
	if cfg.Kinds == nil {
		for _, ops := range cfg.Ops {
			for _, pipeline := range cfg.Pipelines {
				cfg.Kinds = append(cfg.Kinds, Kind{Ops: ops, Pipeline: pipeline, Clients: cfg.Clients, ValueBytes: cfg.ValueBytes, KeySpace: cfg.KeySpace})
			}
		}
	}
	if len(cfg.Peers) == 0 || cfg.Rounds < 0 || cfg.SecondsPerRound < 0 {
		return fmt.Errorf("%w: no peers, or negative rounds or seconds", errConfig)
	}
	return nil
}

// round is what one round measured of one peer.
type round struct {
	LoadResult
	cpuUS, generatorCPUUS, serverCPUUS, switches, calls float64
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
	report := Report{CPUs: runtime.NumCPU(), Rounds: cfg.Rounds, SecondsPerRound: cfg.SecondsPerRound}
	// Memory first: what a load has left behind is not the idle clients'.
	var err error
	if report.Idle, err = idleMemory(ctx, cfg.Peers, cfg.Idle, progress); err != nil {
		return report, err
	}
	filled := 0
	for _, kind := range cfg.Kinds {
		if filled != kind.ValueBytes { // kinds of one size stand together
			if err := fillPeers(ctx, &cfg, kind, progress); err != nil {
				return report, err
			}
			filled = kind.ValueBytes
		}
		rows, err := compareOne(ctx, &cfg, kind, progress)
		if err != nil {
			return report, err
		}
		report.Rows = append(report.Rows, rows...)
	}
	return report, nil
}

// loadConfig is the load of one round.
func (cfg *CompareConfig) loadConfig(peer Peer, k Kind) LoadConfig {
	return LoadConfig{
		Addr: peer.Addr, Password: cfg.Password, Clients: k.Clients, Pipeline: k.Pipeline, Ops: k.Ops,
		ValueBytes: k.ValueBytes, KeySpace: k.KeySpace, Prefix: fmt.Sprintf("peers:%d:", k.ValueBytes),
		Duration: time.Duration(cfg.SecondsPerRound * float64(time.Second)),
	}
}

func fillPeers(ctx context.Context, cfg *CompareConfig, kind Kind, progress func(string)) error {
	for _, peer := range cfg.Peers {
		progress(fmt.Sprintf("filling %s with values of %d bytes", peer.Name, kind.ValueBytes))
		load := cfg.loadConfig(peer, kind)
		err := load.setDefaults()
		if err == nil {
			err = fillKeys(ctx, load)
		}
		if err != nil {
			return fmt.Errorf("bench: fill %s: %w", peer.Name, err)
		}
	}
	return nil
}

// compareOne runs all rounds of one kind of load.
func compareOne(ctx context.Context, cfg *CompareConfig, kind Kind, progress func(string)) ([]PeerRow, error) {
	rounds, err := runRounds(ctx, cfg, kind, 0, progress)
	if err != nil {
		return nil, err
	}
	var rows []PeerRow
	rate := 0.0
	for p, peer := range cfg.Peers {
		row := newPeerRow(rounds[p])
		row.Peer, row.Kind, row.OfFirst = peer.Name, kind, 1
		if p > 0 && rows[0].OpsPerS > 0 {
			row.OfFirst = row.OpsPerS / rows[0].OpsPerS
		}
		if peer.Name == cfg.HalfOf && !kind.NoHalf {
			rate = row.OpsPerS / 2
		}
		rows = append(rows, row)
	}
	if rate == 0 {
		return rows, nil
	}
	if rounds, err = runRounds(ctx, cfg, kind, rate, progress); err != nil {
		return nil, err
	}
	for p := range rows {
		fixed := newPeerRow(rounds[p])
		rows[p].FixedRate, rows[p].FixedLatency = rate, fixed.Latency
		rows[p].Errors += fixed.Errors
		rows[p].FirstError = cmp.Or(rows[p].FirstError, fixed.FirstError)
	}
	return rows, nil
}

// runRounds runs the rounds of every peer, with a rate or, if it is 0, as fast as it goes.
func runRounds(ctx context.Context, cfg *CompareConfig, kind Kind, rate float64, progress func(string)) ([][]round, error) {
	rounds := make([][]round, len(cfg.Peers))
	for r := range cfg.Rounds {
		for i := range cfg.Peers {
			p := (i + r) % len(cfg.Peers)
			peer := cfg.Peers[p]
			at := ""
			if rate > 0 {
				at = fmt.Sprintf(" at %.0f/s", rate)
			}
			progress(fmt.Sprintf("%s, pipeline %d, %d clients, %d bytes%s, round %d of %d: %s",
				kind.Ops, kind.Pipeline, kind.Clients, kind.ValueBytes, at, r+1, cfg.Rounds, peer.Name))
			load := cfg.loadConfig(peer, kind)
			load.Rate = rate
			one, err := runRound(ctx, load, peer)
			if err != nil {
				return nil, fmt.Errorf("bench: %s: %w", peer.Name, err)
			}
			rounds[p] = append(rounds[p], one)
		}
	}
	return rounds, nil
}

func runRound(ctx context.Context, cfg LoadConfig, peer Peer) (round, error) {
	of := [3][]int{{peer.PID}, peer.Servers, {os.Getpid()}}
	var used [3]usage
	for i, pids := range of {
		before, err := usageOf(pids...)
		if err != nil {
			return round{}, err
		}
		used[i] = before
	}
	result, err := Load(ctx, cfg)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return round{}, err
	}
	for i, pids := range of {
		after, err := usageOf(pids...)
		if err != nil {
			return round{}, err
		}
		used[i] = after.since(used[i])
	}
	each := func(n float64) float64 { return n / float64(max(result.Ops, 1)) }
	us := func(d time.Duration) float64 { return each(float64(d) / float64(time.Microsecond)) }
	return round{LoadResult: result, cpuUS: us(used[0].cpu), serverCPUUS: us(used[1].cpu), generatorCPUUS: us(used[2].cpu),
		switches: each(float64(used[0].switches)), calls: each(float64(used[0].calls))}, nil
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
		ServerCPUUS:    medianOf(rounds, func(r *round) float64 { return r.serverCPUUS }),
		Switches:       medianOf(rounds, func(r *round) float64 { return r.switches }),
		Calls:          medianOf(rounds, func(r *round) float64 { return r.calls }),
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
	fmt.Fprintf(&b, "median of %d rounds of %g s, %d CPUs shared with the load generator\n\n", r.Rounds, r.SecondsPerRound, r.CPUs)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "ops\tpipeline\tclients\tbytes\tpeer\treq/s\tof first\tp50 ms\tp99 ms\tp99.9 ms\tmax ms\tCPU µs/req\tservers' CPU\tswitches/req\tr+w calls/req\tat req/s\tp99 ms\terrors\t")
	for _, row := range r.Rows {
		cpu, servers, rate, p99 := "-", "-", "-", "-"
		if row.CPUUS > 0 {
			cpu = fmt.Sprintf("%.2f", row.CPUUS)
		}
		if row.ServerCPUUS > 0 {
			servers = fmt.Sprintf("%.2f", row.ServerCPUUS)
		}
		if row.FixedRate > 0 {
			rate, p99 = fmt.Sprintf("%.0f", row.FixedRate), fmt.Sprintf("%.2f", row.FixedLatency.P99MS)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%s\t%s\t%.3f\t%.3f\t%s\t%s\t%d\t\n",
			row.Ops, row.Pipeline, row.Clients, row.ValueBytes, row.Peer,
			row.OpsPerS, row.OfFirst, row.Latency.P50MS, row.Latency.P99MS, row.Latency.P999MS, row.Latency.MaxMS, cpu, servers, row.Switches, row.Calls, rate, p99, row.Errors)
	}
	_ = w.Flush() // into a strings.Builder, which takes everything
	for i, row := range r.Idle {
		if i == 0 {
			fmt.Fprintf(&b, "\nmemory with idle clients, MB resident:\n")
		}
		fmt.Fprintf(&b, "  %-12s %6d clients %8.1f\n", row.Peer, row.Clients, row.RSSMB)
	}
	return b.String()
}
