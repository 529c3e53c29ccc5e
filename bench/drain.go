package bench

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"runtime"
	"time"
)

// DrainConfig says what Drain moves, between whom, and under what load. Zero fields
// take the defaults given here.
type DrainConfig struct {
	Gateway Peer
	Ends    [2]Peer // the groups' servers; all keys begin at the first
	// Move has the gateway move every slot to Ends[to], and returns when that is done.
	// Slots are all at the other end when it is called.
	Move       func(ctx context.Context, to int) error
	Keys       int       // 1,000,000
	ValueBytes int       // 100; of each field of a hash
	Fields     int       // 0: strings; else hashes of so many fields
	Clients    int       // 50
	Rate       float64   // requests per second of all clients; 10,000
	Baseline   float64   // seconds of load before the job; 5
	Rounds     int       // 3; the figures are medians
	Ways       []BareWay // to try for the limit
	TryKeys    int       // keys of each try; 200,000
	IdleOnly   bool      // no load: only the limit and the idle job
}

// defaultWays are tried where nothing else is said.
var defaultWays = []BareWay{
	{1, 64, 1000}, {1, 256, 1000}, {1, 1024, 4000},
	{2, 64, 1000}, {2, 256, 1000}, {2, 1024, 4000},
	{4, 64, 1000}, {4, 256, 1000},
}

func (cfg *DrainConfig) setDefaults() error {
	setDefault(&cfg.Keys, 1_000_000)
	setDefault(&cfg.ValueBytes, 100)
	setDefault(&cfg.Clients, 50)
	setDefault(&cfg.Rate, 10_000)
	setDefault(&cfg.Baseline, 5)
	setDefault(&cfg.Rounds, 3)
	setDefault(&cfg.TryKeys, 200_000)
	if len(cfg.Ways) == 0 {
		cfg.Ways = defaultWays
	}
	if cfg.Move == nil || cfg.Baseline < 0 || cfg.Rounds < 0 || cfg.TryKeys < 1 {
		return fmt.Errorf("%w: nobody moves, or negative seconds, rounds or keys", errConfig)
	}
	load := cfg.load(time.Second)
	return load.setDefaults()
}

func (cfg *DrainConfig) load(d time.Duration) LoadConfig {
	return LoadConfig{Addr: cfg.Gateway.Addr, Clients: cfg.Clients, Rate: cfg.Rate, Duration: d, ValueBytes: cfg.ValueBytes,
		KeySpace: cfg.Keys, Fields: cfg.Fields, Ops: "mixed", Prefix: "drain:"}
}

// DrainRow is one drain of all keys. CPU is per key, in microseconds.
type DrainRow struct {
	Seconds    float64 `json:"seconds"`
	KeysPerS   float64 `json:"keys_per_s"`
	MBPerS     float64 `json:"mb_per_s"`     // of DUMP payload
	MoverCPUUS float64 `json:"mover_cpu_us"` // of the gateway, or of the bare loop
	SourceUS   float64 `json:"source_cpu_us"`
	TargetUS   float64 `json:"target_cpu_us"`
	PeakRSSMB  float64 `json:"peak_rss_mb"` // of the gateway
}

// DrainRound is one round: the limit, the idle drain and the one under load.
type DrainRound struct {
	Limit    DrainRow   `json:"limit"`
	Idle     DrainRow   `json:"idle"`
	Loaded   DrainRow   `json:"loaded"`
	Baseline LoadResult `json:"baseline"` // the load without a job
	During   LoadResult `json:"during"`   // the same load during the job
}

// BareTry is one try of the bare loop.
type BareTry struct {
	BareWay
	KeysPerS float64 `json:"keys_per_s"`
}

// DrainReport is what Drain measured; what is not of one round is the median. Its parts are
// one flat object in JSON.
type DrainReport struct {
	DrainSetup
	Best     BareWay      `json:"best_way"`
	Tries    []BareTry    `json:"tries"`
	Rounds   []DrainRound `json:"rounds"`
	Limit    DrainRow     `json:"limit"`
	Idle     DrainRow     `json:"idle"`
	Loaded   DrainRow     `json:"loaded"`
	Baseline Percentiles  `json:"baseline_latency"`
	During   Percentiles  `json:"during_latency"`
	DrainShares
	ClientErrors int64   `json:"client_errors"`
	RSSBeforeMB  float64 `json:"rss_before_mb"` // of the gateway
	FirstError   string  `json:"first_error"`
}

// DrainSetup is what was drained, and what else ran meanwhile.
type DrainSetup struct {
	CPUs       int     `json:"cpus"` // shared by all: servers, gateway, clients, bare loop
	Keys       int     `json:"keys"`
	ValueBytes int     `json:"value_bytes"`
	Fields     int     `json:"fields"`
	DumpBytes  float64 `json:"dump_bytes"` // of one key
	Clients    int     `json:"clients"`
	Rate       float64 `json:"rate"`
}

// DrainShares compare the gateway's drains with what they could be at best.
type DrainShares struct {
	IdleOfLimit   float64 `json:"idle_of_limit"`
	LoadedOfLimit float64 `json:"loaded_of_limit"`
	P99OfBaseline float64 `json:"p99_of_baseline_p99"`
	MaxOfBaseline float64 `json:"longest_stall_of_baseline_p99"`
}

// drain is one run of Drain. The keys go to and fro: each drain begins where the one
// before has left them.
type drain struct {
	cfg      DrainConfig
	at       int // the end that has the keys
	report   DrainReport
	progress func(string)
}

// Drain fills one end, finds the best way of the bare loop, and then in each round
// measures the limit, the gateway's idle drain and the one under load.
func Drain(ctx context.Context, cfg DrainConfig, progress func(string)) (DrainReport, error) {
	if err := cfg.setDefaults(); err != nil {
		return DrainReport{}, err
	}
	d := &drain{cfg: cfg, progress: progress}
	d.report.DrainSetup = DrainSetup{CPUs: runtime.NumCPU(), Keys: cfg.Keys, ValueBytes: cfg.ValueBytes, Fields: cfg.Fields, Clients: cfg.Clients, Rate: cfg.Rate}
	rss, err := residentMB(cfg.Gateway.PID)
	if err != nil {
		return d.report, err
	}
	d.report.RSSBeforeMB = rss
	fill := cfg.load(0)
	fill.Addr = cfg.Ends[0].Addr
	progress(fmt.Sprintf("filling %d keys", cfg.Keys))
	if err := fillKeys(ctx, fill); err != nil {
		return d.report, fmt.Errorf("bench: fill: %w", err)
	}
	if err := d.findBest(ctx); err != nil {
		return d.report, err
	}
	for i := range cfg.Rounds {
		progress(fmt.Sprintf("round %d of %d", i+1, cfg.Rounds))
		if err := d.round(ctx); err != nil {
			return d.report, err
		}
	}
	d.sumUp()
	return d.report, nil
}

// findBest tries every way on some of the keys, and brings them back by the same way,
// which counts as well.
func (d *drain) findBest(ctx context.Context) error {
	best := 0.0
	for _, way := range d.cfg.Ways {
		d.progress(fmt.Sprintf("bare loop, %d workers, batches of %d", way.Workers, way.BatchKeys))
		most := int64(min(d.cfg.TryKeys, d.cfg.Keys))
		there, err := bareDrain(ctx, d.cfg.Ends[0].Addr, d.cfg.Ends[1].Addr, way, most)
		if err != nil {
			return fmt.Errorf("bench: bare loop: %w", err)
		}
		back, err := bareDrain(ctx, d.cfg.Ends[1].Addr, d.cfg.Ends[0].Addr, way, math.MaxInt64)
		if err != nil {
			return fmt.Errorf("bench: bare loop: %w", err)
		}
		try := BareTry{way, float64(there.keys+back.keys) / (there.took + back.took).Seconds()}
		d.report.Tries = append(d.report.Tries, try)
		d.report.DumpBytes = float64(there.bytes) / float64(max(there.keys, 1))
		if try.KeysPerS > best {
			best, d.report.Best = try.KeysPerS, way
		}
	}
	return nil
}

func (d *drain) round(ctx context.Context) (err error) {
	var r DrainRound
	// There and back by the bare loop, so that the keys are where the slots are again.
	there, err := d.limit(ctx)
	if err != nil {
		return err
	}
	back, err := d.limit(ctx)
	if err != nil {
		return err
	}
	r.Limit = medianRow([]DrainRow{there, back})
	if r.Idle, err = d.job(ctx); err != nil {
		return err
	}
	if !d.cfg.IdleOnly {
		if r.Baseline, err = Load(ctx, d.cfg.load(time.Duration(d.cfg.Baseline*float64(time.Second)))); err != nil {
			return err
		}
		if err := d.underLoad(ctx, &r); err != nil {
			return err
		}
	}
	d.report.Rounds = append(d.report.Rounds, r)
	return nil
}

// underLoad runs the job while clients go on at their rate.
func (d *drain) underLoad(ctx context.Context, r *DrainRound) error {
	run, stop := context.WithCancel(ctx)
	defer stop()
	type loaded struct {
		result LoadResult
		err    error
	}
	ended, begun := make(chan loaded, 1), make(chan struct{})
	load := d.cfg.load(0)
	load.begun = func() { close(begun) }
	go func() {
		result, err := Load(run, load)
		ended <- loaded{result, err}
	}()
	select {
	case <-begun:
	case l := <-ended: // nobody could connect
		return l.err
	}
	var err error
	r.Loaded, err = d.job(ctx)
	stop()
	l := <-ended
	r.During = l.result
	return cmp.Or(err, l.err)
}

// limit is one pass of the bare loop over all keys.
func (d *drain) limit(ctx context.Context) (DrainRow, error) {
	to := 1 - d.at
	var b bareResult
	row, err := d.measure(ctx, to, func() (err error) {
		b, err = bareDrain(ctx, d.cfg.Ends[d.at].Addr, d.cfg.Ends[to].Addr, d.report.Best, math.MaxInt64)
		return err
	})
	if err != nil {
		return row, fmt.Errorf("bench: bare loop: %w", err)
	}
	if b.keys != int64(d.cfg.Keys) {
		return row, fmt.Errorf("bench: the bare loop moved %d keys of %d", b.keys, d.cfg.Keys)
	}
	row.MoverCPUUS, row.PeakRSSMB = perKey(b.loopCPU, d.cfg.Keys), 0
	d.report.DumpBytes = float64(b.bytes) / float64(d.cfg.Keys)
	d.at = to
	return row, nil
}

// job is one job of the gateway over all keys.
func (d *drain) job(ctx context.Context) (DrainRow, error) {
	to := 1 - d.at
	row, err := d.measure(ctx, to, func() error { return d.cfg.Move(ctx, to) })
	if err != nil {
		return row, fmt.Errorf("bench: job: %w", err)
	}
	d.at = to
	return row, nil
}

// measure times f and takes the CPU time of everyone about it.
func (d *drain) measure(ctx context.Context, to int, f func() error) (DrainRow, error) {
	pids := []int{d.cfg.Gateway.PID, d.cfg.Ends[1-to].PID, d.cfg.Ends[to].PID}
	var cpu [3]time.Duration
	for i, pid := range pids {
		t, err := cpuOf(pid)
		if err != nil {
			return DrainRow{}, err
		}
		cpu[i] = -t
	}
	peak := watchRSS(ctx, d.cfg.Gateway.PID)
	begin := time.Now()
	err := f()
	took := time.Since(begin)
	peakMB := peak()
	if err != nil {
		return DrainRow{}, err
	}
	for i, pid := range pids {
		t, err := cpuOf(pid)
		if err != nil {
			return DrainRow{}, err
		}
		cpu[i] += t
	}
	row := DrainRow{Seconds: took.Seconds(), KeysPerS: float64(d.cfg.Keys) / took.Seconds(), PeakRSSMB: peakMB,
		MoverCPUUS: perKey(cpu[0], d.cfg.Keys), SourceUS: perKey(cpu[1], d.cfg.Keys), TargetUS: perKey(cpu[2], d.cfg.Keys)}
	row.MBPerS = row.KeysPerS * d.report.DumpBytes / 1e6
	return row, nil
}

func perKey(d time.Duration, keys int) float64 {
	return float64(d) / float64(time.Microsecond) / float64(max(keys, 1))
}

func (d *drain) sumUp() {
	r := &d.report
	var limit, idle, loaded []DrainRow
	var before, during []Percentiles
	for _, x := range r.Rounds {
		limit, idle, loaded = append(limit, x.Limit), append(idle, x.Idle), append(loaded, x.Loaded)
		before, during = append(before, x.Baseline.Latency), append(during, x.During.Latency)
		r.ClientErrors += x.Baseline.Errors + x.During.Errors
		r.FirstError = cmp.Or(r.FirstError, x.Baseline.FirstError, x.During.FirstError)
	}
	r.Limit, r.Idle, r.Loaded = medianRow(limit), medianRow(idle), medianRow(loaded)
	r.Baseline, r.During = medianLatency(before), medianLatency(during)
	r.IdleOfLimit = r.Idle.KeysPerS / r.Limit.KeysPerS
	r.LoadedOfLimit = r.Loaded.KeysPerS / r.Limit.KeysPerS
	if p99 := r.Baseline.P99MS; p99 > 0 {
		r.P99OfBaseline, r.MaxOfBaseline = r.During.P99MS/p99, r.During.MaxMS/p99
	}
}
