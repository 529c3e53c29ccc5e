package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of a LoadConfig.
const (
	clientsMax    = 10_000
	pipelineMax   = 100_000
	keySpaceMax   = 1_000_000_000
	mgetKeys      = 10
	fieldsMax     = 10_000
	dialTimeout   = 5 * time.Second
	replyTimeout  = 30 * time.Second
	redialPause   = 50 * time.Millisecond
	drainTimeout  = 5 * time.Second // for replies that are outstanding when ctx is done
	errorTextsMax = 200             // bytes of an error that are kept
)

// errConfig is wrapped by every error about a config that cannot be run.
var errConfig = errors.New("bench: bad config")

// LoadConfig says what load to make. Zero fields take the defaults given here.
type LoadConfig struct {
	Addr       string        // host:port
	Password   string        // "" sends no AUTH
	DB         int           // database, 0
	Clients    int           // connections, 50
	Pipeline   int           // requests sent before their replies are read, 1
	Requests   int64         // stop after so many; 0 is no limit
	Duration   time.Duration // stop after so long; 0 is no limit
	Rate       float64       // total requests per second; 0 is as fast as it goes
	ValueBytes int           // 64; of each field of a hash
	Fields     int           // 0: the keys are strings; else hashes of so many fields, for get, set and mixed
	KeySpace   int           // number of different keys, 100,000
	Ops        string        // "get", "set", "mixed" (9 get : 1 set), "mget" (10 keys); "mixed"
	Prefix     string        // of the keys, "bench:"
	Seed       uint64        // of the choice of keys
	Fill       bool          // first write every key once, unmeasured, so that reads hit

	begun func() // called when all clients are connected, unless it is nil
}

// LoadResult is what a load measured. Latency counts from the intended send
// time where a Rate is set, else from the time when the pipeline was written.
type LoadResult struct {
	Ops        int64       `json:"ops"`         // replies, errors included
	Errors     int64       `json:"errors"`      // error replies and requests without a reply
	FirstError string      `json:"first_error"` // "" when there was none
	Seconds    float64     `json:"seconds"`
	OpsPerS    float64     `json:"ops_per_s"`
	Latency    Percentiles `json:"latency"`
	Worst      []Moment    `json:"worst_moments"`
}

// Moment is a tenth of a second in which somebody waited long.
type Moment struct {
	AtS   float64 `json:"at_s"`   // since the load began, when the reply came
	MaxMS float64 `json:"max_ms"` // the longest wait of a reply that came then
}

const (
	momentSpan = 100 * time.Millisecond
	worstKept  = 8
)

// worstMoments are those with the longest waits, the longest first.
func worstMoments(clients []*loadClient) []Moment {
	var all []Moment
	for _, c := range clients {
		for i, longest := range c.moments {
			for len(all) <= i {
				all = append(all, Moment{AtS: float64(len(all)) * momentSpan.Seconds()})
			}
			all[i].MaxMS = max(all[i].MaxMS, milliseconds(longest))
		}
	}
	slices.SortFunc(all, func(a, b Moment) int { return cmp.Compare(b.MaxMS, a.MaxMS) })
	return all[:min(len(all), worstKept)]
}

func (cfg *LoadConfig) setDefaults() error {
	setDefault(&cfg.Clients, 50)
	setDefault(&cfg.Pipeline, 1)
	setDefault(&cfg.ValueBytes, 64)
	setDefault(&cfg.KeySpace, 100_000)
	setDefault(&cfg.Ops, "mixed")
	setDefault(&cfg.Prefix, "bench:")
	switch {
	case cfg.Clients < 1 || cfg.Clients > clientsMax:
		return fmt.Errorf("%w: clients %d, want 1 to %d", errConfig, cfg.Clients, clientsMax)
	case cfg.Pipeline < 1 || cfg.Pipeline > pipelineMax:
		return fmt.Errorf("%w: pipeline %d, want 1 to %d", errConfig, cfg.Pipeline, pipelineMax)
	case cfg.KeySpace < 1 || cfg.KeySpace > keySpaceMax:
		return fmt.Errorf("%w: key space %d, want 1 to %d", errConfig, cfg.KeySpace, keySpaceMax)
	case cfg.ValueBytes < 1 || cfg.ValueBytes > bulkBytesMax:
		return fmt.Errorf("%w: value of %d bytes, want 1 to %d", errConfig, cfg.ValueBytes, bulkBytesMax)
	case cfg.Fields < 0 || cfg.Fields > fieldsMax || cfg.Fields > 0 && cfg.Ops == "mget":
		return fmt.Errorf("%w: %d fields for %s, want 0 to %d, and none for mget", errConfig, cfg.Fields, cfg.Ops, fieldsMax)
	case cfg.Rate < 0 || cfg.Requests < 0 || cfg.Duration < 0:
		return fmt.Errorf("%w: negative rate, requests or duration", errConfig)
	}
	if _, known := opMixes[cfg.Ops]; !known {
		return fmt.Errorf("%w: ops %q, want get, set, mixed or mget", errConfig, cfg.Ops)
	}
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// load is one run of Load, shared by its clients.
type load struct {
	cfg      LoadConfig
	start    time.Time
	left     atomic.Int64 // requests that may still be sent, when limited
	errors   atomic.Int64
	errMu    sync.Mutex // guards firstErr
	firstErr string
}

// Load makes load until cfg's limit is reached or ctx is done, whichever comes
// first, and returns what it measured. It returns an error when the config is
// bad or the endpoint cannot be reached at the start; later failures are counted
// in the result, and the clients reconnect.
func Load(ctx context.Context, cfg LoadConfig) (LoadResult, error) {
	if err := cfg.setDefaults(); err != nil {
		return LoadResult{}, err
	}
	if cfg.Fill {
		if err := fillKeys(ctx, cfg); err != nil {
			return LoadResult{}, fmt.Errorf("bench: fill: %w", err)
		}
	}
	l := &load{cfg: cfg}
	l.left.Store(cfg.Requests)
	clients, err := l.connect(ctx)
	if err != nil {
		return LoadResult{}, fmt.Errorf("bench: connect: %w", err)
	}
	if cfg.begun != nil {
		cfg.begun()
	}
	l.start = time.Now()
	if cfg.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, l.start.Add(cfg.Duration))
		defer cancel()
	}
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() { c.run(ctx) })
	}
	wg.Wait()
	return l.result(clients, time.Since(l.start)), nil
}

// connect dials all clients before the clock starts.
func (l *load) connect(ctx context.Context) ([]*loadClient, error) {
	clients := make([]*loadClient, 0, l.cfg.Clients)
	for i := range l.cfg.Clients {
		c := newLoadClient(l, i)
		if err := c.dial(ctx); err != nil {
			for _, dialled := range clients {
				dialled.conn.Close()
			}
			return nil, err
		}
		clients = append(clients, c)
	}
	return clients, nil
}

func (l *load) result(clients []*loadClient, took time.Duration) LoadResult {
	all := newHist()
	for _, c := range clients {
		all.Merge(c.hist)
	}
	return LoadResult{
		Ops: all.TotalCount(), Errors: l.errors.Load(), FirstError: l.firstErr,
		Seconds: took.Seconds(), OpsPerS: float64(all.TotalCount()) / took.Seconds(),
		Latency: percentiles(all), Worst: worstMoments(clients),
	}
}

// claim returns how many requests a client may send now, up to a pipeline.
func (l *load) claim() int {
	batch := int64(l.cfg.Pipeline)
	if l.cfg.Requests == 0 {
		return int(batch)
	}
	left := l.left.Add(-batch)
	return int(max(0, min(batch, left+batch)))
}

// fail counts n failed requests and keeps the first reason.
func (l *load) fail(n int, reason string) {
	l.errors.Add(int64(n))
	l.errMu.Lock()
	defer l.errMu.Unlock()
	if l.firstErr == "" {
		l.firstErr = reason[:min(len(reason), errorTextsMax)]
	}
}

// fillKeys writes every key of the key space once. An error of one whose ctx is done is that of ctx.
func fillKeys(ctx context.Context, cfg LoadConfig) error {
	if err := writeKeys(ctx, cfg); err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	return nil
}

func writeKeys(ctx context.Context, cfg LoadConfig) error {
	conn, err := dial(ctx, cfg.Addr, cfg.Password, cfg.DB, dialTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	batch := max(1, min(1000, 1<<20/(cfg.ValueBytes*max(cfg.Fields, 1))))
	requests := newRequests(&cfg)
	var out []byte
	for first := 0; first < cfg.KeySpace; first += batch {
		n := min(batch, cfg.KeySpace-first)
		out = out[:0]
		for key := first; key < first+n; key++ {
			out = appendKeyed(out, requests.fill, requests.fillAt, key)
		}
		if err := conn.SetDeadline(time.Now().Add(replyTimeout)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := roundTrip(conn, out, n); err != nil {
			return err
		}
	}
	return nil
}

// roundTrip sends n requests and wants n replies that are no errors.
func roundTrip(conn *wire, out []byte, n int) error {
	if _, err := conn.Write(out); err != nil {
		return err
	}
	for n > 0 {
		errorText, err := conn.skip()
		switch {
		case errors.Is(err, errNeedMore):
			if err := conn.fill(); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		case errorText != nil:
			return errors.New(string(errorText))
		}
		n--
	}
	return nil
}
