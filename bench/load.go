package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// LoadConfig describes a load.
type LoadConfig struct {
	Addr       string
	Password   string
	Clients    int
	Pipeline   int
	Requests   int64         // of all clients; 0: until Duration is over
	Duration   time.Duration // 0: until Requests are done
	Rate       float64       // requests per second of all clients; 0: as fast as they are answered
	ValueBytes int
	KeySpace   int
	Op         string // get, set, mixed (9 gets to 1 set), mget (10 keys)
	Prefix     string
	Seed       uint64
}

// LoadResult is what came of it.
type LoadResult struct {
	Op         string  `json:"op"`
	Clients    int     `json:"clients"`
	Pipeline   int     `json:"pipeline"`
	Ops        int64   `json:"ops"`
	Errors     int64   `json:"errors"`
	FirstError string  `json:"first_error,omitempty"`
	Seconds    float64 `json:"seconds"`
	OpsPerS    float64 `json:"ops_per_s"`
	Latency    Latency `json:"latency"` // from the time a request was due (with Rate) or sent
}

// Load runs a load to its end or until ctx ends. Error replies are counted; only a
// connection that can't be made or kept is an error.
func Load(ctx context.Context, cfg LoadConfig) (LoadResult, error) {
	cfg.Clients, cfg.Pipeline, cfg.KeySpace = max(cfg.Clients, 1), max(cfg.Pipeline, 1), max(cfg.KeySpace, 1)
	switch cfg.Op {
	case "get", "set", "mixed", "mget":
	default:
		return LoadResult{}, fmt.Errorf("unknown op %q: want get, set, mixed or mget", cfg.Op)
	}
	if cfg.Requests <= 0 && cfg.Duration <= 0 {
		return LoadResult{}, errors.New("either a number of requests or a duration is needed")
	}
	if cfg.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cfg.Duration)
		defer cancel()
	}
	clients := make([]*loadClient, cfg.Clients)
	for i := range clients {
		cn, err := dialConn(cfg.Addr, cfg.Password, 0, dialTimeout)
		if err != nil {
			return LoadResult{}, err
		}
		defer cn.Close()
		clients[i] = &loadClient{cfg: cfg, conn: cn, rng: rand.New(rand.NewPCG(cfg.Seed, uint64(i))), hist: newHist(),
			value: bytes.Repeat([]byte("x"), cfg.ValueBytes), left: share(cfg.Requests, cfg.Clients, i)}
	}
	start := time.Now()
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() { c.err = c.run(ctx, start, i) })
	}
	wg.Wait()
	res := LoadResult{Op: cfg.Op, Clients: cfg.Clients, Pipeline: cfg.Pipeline, Seconds: time.Since(start).Seconds()}
	h := newHist()
	for _, c := range clients {
		if c.err != nil {
			return res, c.err
		}
		res.Ops += c.ops
		res.Errors += c.errors
		if res.FirstError == "" {
			res.FirstError = c.firstErr
		}
		h.Merge(c.hist)
	}
	res.OpsPerS = float64(res.Ops) / res.Seconds
	res.Latency = summarize(h)
	return res, nil
}

// share is client i's part of n requests; -1 for no limit.
func share(n int64, clients, i int) int64 {
	if n <= 0 {
		return -1
	}
	s := n / int64(clients)
	if int64(i) < n%int64(clients) {
		s++
	}
	return s
}

type loadClient struct {
	cfg   LoadConfig
	conn  *conn
	rng   *rand.Rand
	value []byte
	out   []byte
	left  int64 // -1: no limit
	hist  *hdrhistogram.Histogram

	ops, errors int64
	firstErr    string
	err         error
}

func (c *loadClient) run(ctx context.Context, start time.Time, index int) error {
	var interval time.Duration
	if c.cfg.Rate > 0 {
		interval = time.Duration(float64(time.Second) * float64(c.cfg.Clients*c.cfg.Pipeline) / c.cfg.Rate)
	}
	due := start.Add(interval * time.Duration(index) / time.Duration(c.cfg.Clients))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for c.left != 0 && ctx.Err() == nil {
		if interval > 0 {
			timer.Reset(time.Until(due))
			select {
			case <-timer.C:
			case <-ctx.Done():
				return nil
			}
		} else {
			due = time.Now()
		}
		n := c.cfg.Pipeline
		if c.left > 0 {
			n = int(min(int64(n), c.left))
			c.left -= int64(n)
		}
		if err := c.batch(n, due); err != nil {
			return err
		}
		due = due.Add(interval)
	}
	return nil
}

func (c *loadClient) batch(n int, due time.Time) error {
	c.out = c.out[:0]
	for range n {
		c.command()
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return err
	}
	for range n {
		isErr, text, err := skipReply(c.conn.r)
		if err != nil {
			return err
		}
		c.ops++
		if isErr {
			c.errors++
			if c.firstErr == "" {
				c.firstErr = text
			}
		}
		record(c.hist, time.Since(due))
	}
	return nil
}

func (c *loadClient) command() {
	set := c.cfg.Op == "set" || c.cfg.Op == "mixed" && c.rng.IntN(10) == 0
	switch {
	case set:
		c.out = append(c.out, "*3\r\n$3\r\nSET\r\n"...)
		c.key()
		c.out = append(strconv.AppendInt(append(c.out, '$'), int64(len(c.value)), 10), "\r\n"...)
		c.out = append(append(c.out, c.value...), "\r\n"...)
	case c.cfg.Op == "mget":
		c.out = append(c.out, "*11\r\n$4\r\nMGET\r\n"...)
		for range 10 {
			c.key()
		}
	default:
		c.out = append(c.out, "*2\r\n$3\r\nGET\r\n"...)
		c.key()
	}
}

func (c *loadClient) key() {
	var num [20]byte
	digits := strconv.AppendInt(num[:0], int64(c.rng.IntN(c.cfg.KeySpace)), 10)
	c.out = append(strconv.AppendInt(append(c.out, '$'), int64(len(c.cfg.Prefix)+len(digits)), 10), "\r\n"...)
	c.out = append(append(append(c.out, c.cfg.Prefix...), digits...), "\r\n"...)
}

// skipReply reads one reply without keeping it.
func skipReply(r *bufio.Reader) (isErr bool, text string, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return false, "", err
	}
	if len(line) < 3 {
		return false, "", errProtocol
	}
	switch line[0] {
	case '-':
		return true, string(line[1 : len(line)-2]), nil
	case '+', ':':
		return false, "", nil
	case '$':
		n, err := strconv.Atoi(string(line[1 : len(line)-2]))
		if err != nil {
			return false, "", errProtocol
		}
		if n >= 0 {
			_, err = io.CopyN(io.Discard, r, int64(n)+2)
		}
		return false, "", err
	case '*':
		n, err := strconv.Atoi(string(line[1 : len(line)-2]))
		if err != nil {
			return false, "", errProtocol
		}
		for range n {
			if _, _, err := skipReply(r); err != nil {
				return false, "", err
			}
		}
		return false, "", nil
	}
	return false, "", errProtocol
}
