package bench

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const keyDigits = 9 // keySpaceMax has one digit more, and its keys count from 0

// opMixes gives, for each value of LoadConfig.Ops, which of ten requests are
// what: g(et), s(et), m(get).
var opMixes = map[string]string{
	"get":   "gggggggggg",
	"set":   "ssssssssss",
	"mixed": "gggggggggs",
	"mget":  "mmmmmmmmmm",
}

// requests holds each kind of request encoded once; a request is made by
// copying it and writing the digits of the key over it.
type requests struct {
	get, set, fill, mget []byte
	getAt, setAt, fillAt int   // where the key's digits are
	mgetAt               []int // the same, for each key
}

func newRequests(cfg *LoadConfig) *requests {
	key := cfg.Prefix + strings.Repeat("0", keyDigits)
	value := randomText(cfg.ValueBytes)
	get, set := []string{"GET", key}, []string{"SET", key, value}
	fill := set
	if cfg.Fields > 0 {
		get, set = []string{"HGET", key, "f0"}, []string{"HSET", key, "f0", value}
		fill = []string{"HSET", key}
		for i := range cfg.Fields {
			fill = append(fill, "f"+strconv.Itoa(i), value)
		}
	}
	encode := func(args []string) ([]byte, int) {
		b := appendCommand(nil, args...)
		return b, bytes.Index(b, []byte(key)) + len(cfg.Prefix)
	}
	r := &requests{}
	r.get, r.getAt = encode(get)
	r.set, r.setAt = encode(set)
	r.fill, r.fillAt = encode(fill)
	args := []string{"MGET"}
	for range mgetKeys {
		args = append(args, key)
	}
	r.mget = appendCommand(nil, args...)
	arg := len(appendArg(nil, []byte(key)))
	for i := range mgetKeys {
		r.mgetAt = append(r.mgetAt, len(r.mget)-len("\r\n")-keyDigits-i*arg)
	}
	return r
}

// randomText is text that no server's compression makes smaller; always the same.
func randomText(n int) string {
	const first, different = '!', '~' - '!' + 1
	rng := rand.New(rand.NewPCG(1, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(first + rng.IntN(different))
	}
	return string(b)
}

// appendKeyed appends a request of one key, with the key's digits at keyAt.
func appendKeyed(out, request []byte, keyAt, key int) []byte {
	begin := len(out)
	out = append(out, request...)
	putDigits(out[begin+keyAt:], key)
	return out
}

func (r *requests) appendMGet(out []byte, rng *rand.Rand, keySpace int) []byte {
	begin := len(out)
	out = append(out, r.mget...)
	for _, at := range r.mgetAt {
		putDigits(out[begin+at:], rng.IntN(keySpace))
	}
	return out
}

// putDigits overwrites the first keyDigits bytes of b with n.
func putDigits(b []byte, n int) {
	for i := keyDigits - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// loadClient is one connection of a load; its goroutine owns all of it.
type loadClient struct {
	load     *load
	index    int
	mix      string
	requests *requests
	rng      *rand.Rand
	hist     *hdrhistogram.Histogram
	moments  []time.Duration // longest wait of each momentSpan since the start
	conn     *wire           // nil while the endpoint cannot be reached
	out      []byte
	deadline time.Time   // of conn
	undrain  func() bool // undoes drainAt
	timer    *time.Timer
}

func newLoadClient(l *load, index int) *loadClient {
	return &loadClient{
		load: l, index: index, mix: opMixes[l.cfg.Ops], requests: newRequests(&l.cfg),
		rng: rand.New(rand.NewPCG(l.cfg.Seed, uint64(index))), hist: newHist(),
	}
}

func (c *loadClient) dial(ctx context.Context) (err error) {
	cfg := &c.load.cfg
	c.deadline = time.Time{}
	c.conn, err = dial(ctx, cfg.Addr, cfg.Password, cfg.DB, dialTimeout)
	return err
}

// run sends batches until the load's limit or ctx ends it. Replies that are
// outstanding then are waited for, within drainTimeout.
func (c *loadClient) run(ctx context.Context) {
	cfg := &c.load.cfg
	defer c.close()
	c.drainAt(ctx)
	pace := newPacer(c.load.start, cfg.Rate, cfg.Pipeline, c.index, cfg.Clients)
	for ctx.Err() == nil {
		if c.conn == nil && !c.redial(ctx, pace) {
			continue
		}
		since := pace.wait(ctx)
		c.extendDeadline() // before ctx is asked, so that the drain deadline comes last
		if ctx.Err() != nil {
			return
		}
		n := c.load.claim()
		if n == 0 {
			return
		}
		if left, err := c.batch(n, since); err != nil {
			c.load.fail(left, err.Error())
			c.close()
		}
	}
}

func (c *loadClient) close() {
	if c.conn != nil {
		c.undrain()
		c.conn.Close()
		c.conn = nil
	}
}

// redial tries once to connect again, and waits a moment when it cannot.
func (c *loadClient) redial(ctx context.Context, pace *pacer) bool {
	if err := c.dial(ctx); err != nil {
		c.conn = nil
		sleep(ctx, &c.timer, redialPause)
		return false
	}
	c.drainAt(ctx)
	pace.reset()
	return true
}

// batch sends n requests and reads their replies. It returns how many had no
// reply when the connection failed.
func (c *loadClient) batch(n int, since time.Time) (left int, err error) {
	c.compose(n)
	if _, err := c.conn.Write(c.out); err != nil {
		return n, err
	}
	for n > 0 {
		if err := c.conn.fill(); err != nil {
			return n, err
		}
		latency := time.Since(since)
		c.noteMoment(latency)
		done, err := c.take(n, latency)
		n -= done
		if err != nil {
			return n, err
		}
	}
	return 0, nil
}

func (c *loadClient) noteMoment(latency time.Duration) {
	i := int(time.Since(c.load.start) / momentSpan)
	for len(c.moments) <= i {
		c.moments = append(c.moments, 0)
	}
	c.moments[i] = max(c.moments[i], latency)
}

// take records the replies, up to n, that have arrived.
func (c *loadClient) take(n int, latency time.Duration) (done int, err error) {
	for done < n {
		errorText, err := c.conn.skip()
		if errors.Is(err, errNeedMore) {
			return done, nil
		}
		if err != nil {
			return done, err
		}
		if errorText != nil {
			c.load.fail(1, string(errorText))
		}
		record(c.hist, latency)
		done++
	}
	return done, nil
}

// compose encodes the next n requests.
func (c *loadClient) compose(n int) {
	keySpace := c.load.cfg.KeySpace
	c.out = c.out[:0]
	for range n {
		switch c.mix[c.rng.IntN(len(c.mix))] {
		case 'g':
			c.out = appendKeyed(c.out, c.requests.get, c.requests.getAt, c.rng.IntN(keySpace))
		case 's':
			c.out = appendKeyed(c.out, c.requests.set, c.requests.setAt, c.rng.IntN(keySpace))
		case 'm':
			c.out = c.requests.appendMGet(c.out, c.rng, keySpace)
		}
	}
}

// extendDeadline moves the connection's deadline ahead, but not for every batch:
// it costs a timer each time.
func (c *loadClient) extendDeadline() {
	now := time.Now()
	if c.deadline.Sub(now) > replyTimeout/2 {
		return
	}
	c.deadline = now.Add(replyTimeout)
	_ = c.conn.SetDeadline(c.deadline) // fails on a dead connection only, and so will the next write
}

// drainAt bounds the wait for outstanding replies once ctx is done.
func (c *loadClient) drainAt(ctx context.Context) {
	conn := c.conn
	c.undrain = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now().Add(drainTimeout)) })
}
