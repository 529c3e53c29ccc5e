package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	keysMax     = 20_000_000
	elementsMax = 10_000_000
)

var (
	// ErrBusy is returned by Preload, Run and Verify while another of them runs.
	ErrBusy = errors.New("bench: the oracle is running")
	// ErrDirty is returned by Preload when the endpoint does not take the keys as
	// new, and so cannot be judged.
	ErrDirty = errors.New("bench: preload: unexpected reply")
)

// OracleConfig says what an oracle reads and writes. Zero fields take the
// defaults given here.
type OracleConfig struct {
	Addr     string
	Password string // "" sends no AUTH
	DBs      []int  // databases, each client in one of them; {0}
	Clients  int    // connections, 16, and no fewer than DBs
	Keys     int    // 10,000, of all types in turn
	Seconds  float64
	// Rate is the total of commands per second; 0 is as fast as it goes.
	Rate     float64
	Pipeline int    // 1
	Seed     int64  // of every choice
	Prefix   string // of the keys, "oracle"; without Preload it must be unused
	// Types are of string, ttl, counter, hash, list, set, zset, stream; all.
	// With ttl some keys of the other types, but string, get a TTL as well.
	Types          []string
	IncludeDeletes bool // delete whole keys too, and not only elements
	ReadPercent    int  // 50
	ValueBytes     int  // at least; 64
	Elements       int  // of hashes, lists, sets, zsets and streams, about; 8
	BigKeys        int  // more keys, of those types, with BigElements each
	BigElements    int  // 50,000
	// TTLToleranceMS is how far from its instant a key may expire, 1000. It is
	// also how long around that instant a key may be there or not.
	TTLToleranceMS int
	// ReconnectOnError has clients reconnect when a connection is lost, instead
	// of ending Run with an error.
	ReconnectOnError bool
	Endpoints        Endpoints // several addresses, instead of Addr
}

func (cfg *OracleConfig) setDefaults() error {
	if len(cfg.DBs) == 0 {
		cfg.DBs = []int{0}
	}
	if len(cfg.Types) == 0 {
		cfg.Types = kindNames[:]
	}
	if len(cfg.Endpoints.Addrs) == 0 {
		cfg.Endpoints.Addrs = []string{cfg.Addr}
	}
	cfg.Addr = cfg.Endpoints.Addrs[0]
	setDefault(&cfg.Endpoints.Silence, replyTimeout)
	setDefault(&cfg.Clients, 16)
	cfg.Clients = max(cfg.Clients, len(cfg.DBs))
	setDefault(&cfg.Keys, 10_000)
	setDefault(&cfg.Pipeline, 1)
	setDefault(&cfg.Prefix, "oracle")
	setDefault(&cfg.ReadPercent, 50)
	setDefault(&cfg.ValueBytes, 64)
	setDefault(&cfg.Elements, 8)
	setDefault(&cfg.BigElements, 50_000)
	setDefault(&cfg.TTLToleranceMS, 1000)
	switch {
	case cfg.Clients > clientsMax:
		return fmt.Errorf("%w: clients %d, want 1 to %d", errConfig, cfg.Clients, clientsMax)
	case cfg.Keys < cfg.Clients || cfg.Keys > keysMax:
		return fmt.Errorf("%w: keys %d, want one per client to %d", errConfig, cfg.Keys, keysMax)
	case cfg.Pipeline < 1 || cfg.Pipeline > pipelineMax:
		return fmt.Errorf("%w: pipeline %d, want 1 to %d", errConfig, cfg.Pipeline, pipelineMax)
	case cfg.ReadPercent < 0 || cfg.ReadPercent > 100:
		return fmt.Errorf("%w: read percent %d", errConfig, cfg.ReadPercent)
	case cfg.Elements < 1 || cfg.BigElements < 1 || cfg.Elements > elementsMax || cfg.BigElements > elementsMax:
		return fmt.Errorf("%w: elements, want 1 to %d", errConfig, elementsMax)
	case cfg.Rate < 0 || cfg.Seconds < 0 || cfg.TTLToleranceMS < 0 || cfg.BigKeys < 0 || cfg.ValueBytes < 0:
		return fmt.Errorf("%w: a negative number", errConfig)
	}
	for _, name := range cfg.Types {
		if !slices.Contains(kindNames[:], name) {
			return fmt.Errorf("%w: type %q, want some of %v", errConfig, name, kindNames)
		}
	}
	return nil
}

// Oracle reads and writes an endpoint while it keeps a model of what every key
// must hold. Every key is written by one client over one connection, so the
// order of its writes is known, and every reply can be checked when it comes.
//
// A write whose reply never came (the connection was lost, or an error does not
// tell) is in doubt: the model then allows both outcomes, the key is not used
// again, since the write may still be executed late, and a fresh key takes its
// place. Phase, Phases and Snapshot may be called at any time.
type Oracle struct {
	cfg       OracleConfig
	cfgErr    error
	tolerance time.Duration
	start     time.Time // zero of the model's clock
	clients   []*oracleClient
	endpoints []*endpoint
	recorder  *recorder
	busy      sync.Mutex // held by Preload, Run or Verify: they own the model

	ops, reads, writes, errors, connErrors, doubts atomic.Int64
	outage                                         atomic.Int64 // longest, ns

	mu         sync.Mutex // guards what follows
	firstErr   string
	violations violations
	sides      [sides]Side
}

// NewOracle makes an oracle; a bad config is reported by Preload, Run or Verify.
func NewOracle(cfg OracleConfig) *Oracle {
	o := &Oracle{cfg: cfg, start: time.Now(), recorder: newRecorder()}
	if o.cfgErr = o.cfg.setDefaults(); o.cfgErr != nil {
		return o
	}
	o.tolerance = time.Duration(o.cfg.TTLToleranceMS) * time.Millisecond
	for _, addr := range o.cfg.Endpoints.Addrs {
		o.endpoints = append(o.endpoints, &endpoint{addr: addr})
	}
	for i := range o.cfg.Clients {
		o.clients = append(o.clients, newOracleClient(o, i))
	}
	kinds, bigKinds := kindsOf(o.cfg.Types)
	for i := range o.cfg.Keys {
		c := o.clients[i%len(o.clients)]
		c.addKey(kinds[i/len(o.clients)%len(kinds)], o.cfg.Elements)
	}
	for i := range o.cfg.BigKeys {
		if len(bigKinds) > 0 {
			o.clients[i%len(o.clients)].addKey(bigKinds[i%len(bigKinds)], o.cfg.BigElements)
		}
	}
	return o
}

// kindsOf returns the kinds by these names, and those of them that have elements.
func kindsOf(names []string) (kinds, withElements []kind) {
	for _, name := range names {
		k := kind(slices.Index(kindNames[:], name))
		kinds = append(kinds, k)
		if k >= kindHash {
			withElements = append(withElements, k)
		}
	}
	return kinds, withElements
}

// lock takes the model for one of Preload, Run and Verify.
func (o *Oracle) lock() error {
	if o.cfgErr != nil {
		return o.cfgErr
	}
	if !o.busy.TryLock() {
		return ErrBusy
	}
	return nil
}

// Preload removes whatever the endpoint has under the oracle's keys and creates
// them all. It is pipelined and unmeasured; it returns the first error.
func (o *Oracle) Preload(ctx context.Context) error {
	if err := o.lock(); err != nil {
		return err
	}
	defer o.busy.Unlock()
	return o.each(ctx, (*oracleClient).preload)
}

// Run reads and writes until ctx is done or the config's Seconds are over, which
// is no error. Without ReconnectOnError it returns an error when a connection is
// refused or lost. What it finds wrong is in Snapshot and Verify.
func (o *Oracle) Run(ctx context.Context) error {
	if err := o.lock(); err != nil {
		return err
	}
	defer o.busy.Unlock()
	if o.cfg.Seconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(o.cfg.Seconds*float64(time.Second)))
		defer cancel()
	}
	o.recorder.begin(time.Now())
	defer func() { o.recorder.stop(time.Now()) }()
	return o.each(ctx, (*oracleClient).run)
}

// each runs f for every client at once and returns the first error, which ends
// the others.
func (o *Oracle) each(ctx context.Context, f func(*oracleClient, context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	for _, c := range o.clients {
		wg.Go(func() {
			if err := f(c, ctx); err != nil {
				once.Do(func() { first = fmt.Errorf("bench: client %d: %w", c.index, err) })
				cancel(err)
			}
		})
	}
	wg.Wait()
	return first
}

// Phase ends the phase that lasts and begins another: each has its own latency.
func (o *Oracle) Phase(name string) { o.recorder.setPhase(name, time.Now()) }

// Phases returns what each phase has measured so far. Latency counts from the
// intended send time where a Rate is set.
func (o *Oracle) Phases() []PhaseStats { return o.recorder.phaseStats(time.Now()) }

// OracleStats is the state of a run, for display.
type OracleStats struct {
	Ops        int64   `json:"ops"` // commands sent, whatever became of them
	Reads      int64   `json:"reads"`
	Writes     int64   `json:"writes"`
	Errors     int64   `json:"errors"`      // error replies
	ConnErrors int64   `json:"conn_errors"` // connections lost or refused
	FirstError string  `json:"first_error"`
	OpsPerS    float64 `json:"ops_per_s"` // in the last full second
	P99MS      float64 `json:"p99_ms"`    // in the last full second
	// LongestStallMS is the longest that any client, while connected, waited for
	// the next reply, those that wait at this moment included.
	LongestStallMS float64 `json:"longest_stall_ms"`
	// LongestOutageMS is the longest that any client was without replies because
	// its connection was lost: from the last reply before to the first after.
	LongestOutageMS float64 `json:"longest_outage_ms"`
	InDoubt         int64   `json:"in_doubt"` // keys with a write of unknown outcome

	// Of what there was: clients of addresses that live, and of those that were taken down (Oracle.Down).
	Living Side `json:"living"`
	Downed Side `json:"downed"`

	// Keys found wrong while running.
	Lost        int `json:"lost"`
	Stale       int `json:"stale"`
	Resurrected int `json:"resurrected"`
	WrongTTL    int `json:"wrong_ttl"`
	Wrong       int `json:"wrong"`
}

// Snapshot returns the state of the run.
func (o *Oracle) Snapshot() OracleStats {
	now := time.Now()
	ops, p99MS, stall := o.recorder.lastSecond(now)
	for _, c := range o.clients {
		if since := c.waitingSince.Load(); since != 0 {
			stall = max(stall, now.Sub(o.start)-time.Duration(since))
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return OracleStats{
		Ops: o.ops.Load(), Reads: o.reads.Load(), Writes: o.writes.Load(),
		Errors: o.errors.Load(), ConnErrors: o.connErrors.Load(), FirstError: o.firstErr,
		OpsPerS: float64(ops), P99MS: p99MS,
		LongestStallMS: milliseconds(stall), LongestOutageMS: milliseconds(time.Duration(o.outage.Load())),
		InDoubt: o.doubts.Load(), Living: o.sides[sideLiving].clone(), Downed: o.sides[sideDown].clone(),
		Lost: o.violations.count[classLost], Stale: o.violations.count[classStale],
		Resurrected: o.violations.count[classResurrected],
		WrongTTL:    o.violations.count[classWrongTTL], Wrong: o.violations.count[classWrong],
	}
}

// noteError keeps the first error.
func (o *Oracle) noteError(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.firstErr == "" {
		o.firstErr = text[:min(len(text), errorTextsMax)]
	}
}

// noteViolation counts a key that was found wrong while running.
func (o *Oracle) noteViolation(db int, op *op, f finding) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.violations.add(db, op, f)
}

// violations counts keys by class, and keeps examples of each.
type violations struct {
	count    [classEnd]int
	keys     int
	examples []string
}

const examplesPerClassMax = 20

func (v *violations) add(db int, op *op, f finding) {
	if f.ok() {
		return
	}
	v.keys++
	for c := class(1); c < classEnd; c <<= 1 {
		if f.classes&c == 0 {
			continue
		}
		v.count[c]++
		if v.count[c] <= examplesPerClassMax {
			v.examples = append(v.examples, fmt.Sprintf("%s: db %d, key %s: expected %s, got %s",
				classNames[c], db, op.key.name, f.want, f.got))
		}
	}
}
