package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/time/rate"
)

// OracleConfig says what the oracle does to the endpoint.
type OracleConfig struct {
	Addr      string
	Password  string
	DBs       []int   // databases used; empty: 0
	Keys      int     // spread over all types
	Clients   int     // connections; each key belongs to one, so that its order is known
	Pipeline  int     // commands in one write
	Rate      float64 // commands per second of all clients; 0: as fast as they are answered
	Seed      uint64
	Prefix    string // of every key
	Reconnect bool   // go on after connection losses and errors, for runs with planned failures
}

// Oracle drives clients against an endpoint and knows what must be there.
type Oracle struct {
	cfg     OracleConfig
	clients []*oracleClient
	limit   *rate.Limiter
	started time.Time

	phase atomic.Int32

	mu         sync.Mutex // protects what follows
	phases     []string
	violations [4]int64
	examples   []string
	firstErr   string
}

const maxPhases = 8

// oracleClient is one connection with its own keys.
type oracleClient struct {
	o    *Oracle
	rng  *rand.Rand
	conn [16]*conn // by database index in cfg.DBs
	keys []*key    // of all databases
	byDB [][]*key

	ops, errors, losses atomic.Int64

	mu      sync.Mutex // protects the histograms
	hists   [maxPhases]*hdrhistogram.Histogram
	recent  *hdrhistogram.Histogram
	longest [maxPhases]time.Duration
}

// NewOracle prepares a run; nothing is sent yet.
func NewOracle(cfg OracleConfig) *Oracle {
	if len(cfg.DBs) == 0 {
		cfg.DBs = []int{0}
	}
	cfg.Clients, cfg.Pipeline = max(cfg.Clients, 1), max(cfg.Pipeline, 1)
	o := &Oracle{cfg: cfg, phases: []string{"load"}}
	limit := rate.Inf
	if cfg.Rate > 0 {
		limit = rate.Limit(cfg.Rate)
	}
	o.limit = rate.NewLimiter(limit, max(cfg.Pipeline, int(cfg.Rate/200)+1))
	for i := range cfg.Clients {
		c := &oracleClient{o: o, rng: rand.New(rand.NewPCG(cfg.Seed, uint64(i))), byDB: make([][]*key, len(cfg.DBs)), recent: newHist()}
		for p := range c.hists {
			c.hists[p] = newHist()
		}
		o.clients = append(o.clients, c)
	}
	for i := range cfg.Keys {
		c := o.clients[i%cfg.Clients]
		db := (i / cfg.Clients) % len(cfg.DBs)
		k := &key{name: fmt.Sprintf("%s%d", cfg.Prefix, i), db: db, kind: kind(c.rng.IntN(int(kinds))), states: []*state{{}}}
		c.keys = append(c.keys, k)
		c.byDB[db] = append(c.byDB[db], k)
	}
	return o
}

// Phase begins a new phase: latencies are told apart by it.
func (o *Oracle) Phase(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.phases) < maxPhases {
		o.phases = append(o.phases, name)
		o.phase.Store(int32(len(o.phases) - 1))
	}
}

// Preload creates every key.
func (o *Oracle) Preload(ctx context.Context) error {
	return o.each(func(c *oracleClient) error {
		for db, keys := range c.byDB {
			for len(keys) > 0 && ctx.Err() == nil {
				n := min(len(keys), 200)
				ops := make([]op, n)
				for i, k := range keys[:n] {
					ops[i] = k.write(c.rng, true)
				}
				if err := c.run(db, ops, false); err != nil {
					return err
				}
				keys = keys[n:]
			}
		}
		return ctx.Err()
	})
}

func (o *Oracle) each(f func(c *oracleClient) error) error {
	errs := make(chan error, len(o.clients))
	for _, c := range o.clients {
		go func() { errs <- f(c) }()
	}
	var first error
	for range o.clients {
		if err := <-errs; first == nil {
			first = err
		}
	}
	return first
}

// Run sends random reads and writes until ctx ends. It returns an error only if the
// endpoint fails and the configuration does not expect that.
func (o *Oracle) Run(ctx context.Context) error {
	o.started = time.Now()
	return o.each(func(c *oracleClient) error {
		defer c.close()
		for ctx.Err() == nil {
			if o.limit.WaitN(ctx, o.cfg.Pipeline) != nil {
				return nil // ctx has ended
			}
			db := c.rng.IntN(len(c.byDB))
			var ops []op
			for range o.cfg.Pipeline {
				if k := c.pick(db); k != nil {
					ops = append(ops, c.anyOp(k))
				}
			}
			if len(ops) == 0 {
				continue
			}
			if err := c.run(db, ops, true); err != nil && !o.cfg.Reconnect {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
		}
		return nil
	})
}

func (c *oracleClient) anyOp(k *key) op {
	if c.rng.IntN(2) == 0 {
		return k.read(c.rng)
	}
	// Collections stay small, so that Verify reads them back quickly.
	if k.kind == list && len(k.states[0].items) > 40 {
		o := k.read(c.rng)
		return o
	}
	return k.write(c.rng, false)
}

// pick is a random key of which everything is known.
func (c *oracleClient) pick(db int) *key {
	keys := c.byDB[db]
	for range 20 {
		if len(keys) == 0 {
			return nil
		}
		if k := keys[c.rng.IntN(len(keys))]; !k.parked && !k.broken {
			return k
		}
	}
	return nil
}

const (
	dialTimeout  = 5 * time.Second
	replyTimeout = 60 * time.Second // no endpoint may leave a client waiting so long
)

// run sends one pipeline and judges the replies.
func (c *oracleClient) run(db int, ops []op, measure bool) error {
	cn := c.conn[db]
	if cn == nil {
		var err error
		if cn, err = dialConn(c.o.cfg.Addr, c.o.cfg.Password, c.o.cfg.DBs[db], dialTimeout); err != nil {
			c.failed(nil, err)
			time.Sleep(20 * time.Millisecond) // a gateway that is being restarted
			return err
		}
		c.conn[db] = cn
	}
	for i := range ops {
		cn.add(ops[i].args...)
	}
	sent := time.Now()
	for i := range ops {
		ops[i].sent = sent
	}
	_ = cn.SetDeadline(sent.Add(replyTimeout))
	err := cn.flush()
	phase := c.o.phase.Load()
	for i := range ops {
		var r reply
		if err == nil {
			r, err = cn.read()
		}
		if err != nil {
			c.failed(ops[i:], err)
			_ = cn.Close()
			c.conn[db] = nil
			return err
		}
		now := time.Now()
		c.ops.Add(1)
		if measure {
			c.measure(phase, now.Sub(sent))
		}
		c.judge(&ops[i], r, now)
	}
	return nil
}

func (c *oracleClient) measure(phase int32, d time.Duration) {
	c.mu.Lock()
	record(c.hists[phase], d)
	record(c.recent, d)
	c.longest[phase] = max(c.longest[phase], d)
	c.mu.Unlock()
}

// notExecuted are the errors that promise that the command was not executed.
var notExecuted = []string{"TRYAGAIN ", "CROSSSLOT ", "OOM ", "CLUSTERDOWN ", "LOADING ", "READONLY ", "MISCONF "}

func (c *oracleClient) judge(p *op, r reply, now time.Time) {
	if r.isError() {
		c.errors.Add(1)
		c.o.noteError(r.text)
		for _, prefix := range notExecuted {
			if strings.HasPrefix(r.text, prefix) {
				return
			}
		}
		if strings.Contains(r.text, "nothing was executed") {
			return
		}
		p.doubt(now)
		return
	}
	if v := p.settle(r, now); v != fine && !p.key.broken {
		p.key.broken = true
		c.o.violation(v, fmt.Sprintf("%s: %s answered %s, which contradicts what was acknowledged", p.key.name, strings.Join(p.args, " "), r))
	}
}

// failed notes commands that got no reply.
func (c *oracleClient) failed(ops []op, err error) {
	c.losses.Add(1)
	c.o.noteError(err.Error())
	now := time.Now()
	for i := range ops {
		ops[i].doubt(now)
	}
}

func (c *oracleClient) close() {
	for i, cn := range c.conn {
		if cn != nil {
			_ = cn.Close()
			c.conn[i] = nil
		}
	}
}

func (o *Oracle) noteError(text string) {
	o.mu.Lock()
	if o.firstErr == "" {
		o.firstErr = text
	}
	o.mu.Unlock()
}

func (o *Oracle) violation(v verdict, example string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.violations[v]++
	if len(o.examples) < 20 {
		o.examples = append(o.examples, v.String()+": "+example)
	}
}

// Snapshot is the state of a run, for display.
type Snapshot struct {
	Ops         int64
	Errors      int64 // error replies
	Losses      int64 // connections lost or refused
	FirstError  string
	P99Recent   float64 // ms, since the last Snapshot
	LongestMs   float64 // of the run so far
	Lost, Stale int64
	Resurrected int64
}

// Snapshot reads the state of a run, and begins a new window of P99Recent.
func (o *Oracle) Snapshot() Snapshot {
	var s Snapshot
	h := newHist()
	for _, c := range o.clients {
		s.Ops += c.ops.Load()
		s.Errors += c.errors.Load()
		s.Losses += c.losses.Load()
		c.mu.Lock()
		h.Merge(c.recent)
		c.recent.Reset()
		for _, d := range c.longest {
			s.LongestMs = max(s.LongestMs, float64(d.Microseconds())/1000)
		}
		c.mu.Unlock()
	}
	s.P99Recent = float64(h.ValueAtQuantile(99)) / 1000
	o.mu.Lock()
	defer o.mu.Unlock()
	s.FirstError = o.firstErr
	s.Lost, s.Stale, s.Resurrected = o.violations[lost], o.violations[stale], o.violations[resurrected]
	return s
}

// Latencies are by phase, the load left out.
func (o *Oracle) Latencies() map[string]Latency {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make(map[string]Latency)
	for p, name := range o.phases {
		if p == 0 {
			continue
		}
		h := newHist()
		for _, c := range o.clients {
			c.mu.Lock()
			h.Merge(c.hists[p])
			c.mu.Unlock()
		}
		out[name] = summarize(h)
	}
	return out
}
