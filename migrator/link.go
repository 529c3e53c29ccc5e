package migrator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
)

// link is one connection of the migrator to one server: used by one goroutine, thrown
// away on the first network error, and known to the server by name so that it can be
// fenced.
type link struct {
	group  topology.Group
	name   string
	info   serverInfo
	client *redis.Client
	conn   *redis.Conn
	db     int
	unhook func() bool
}

// serverInfo is what a job needs to know of a server's process.
type serverInfo struct {
	runID     string
	replID    string
	version   string
	role      string
	policy    string // maxmemory-policy
	replicas  int
	loading   bool
	aof       bool
	usedBytes int64
	maxBytes  int64 // 0: no limit
}

// life tells one course of a server's data from another. A process that was made a replica and
// a primary again has another's data and its own run_id; its replication id is new then.
func (i serverInfo) life() string { return i.runID + "/" + i.replID }

// Purposes of connections, in their names.
const (
	forMoves   = "m" // whatever a job or a look at a group needs
	forChanges = "c" // see dialChanger
)

// dial connects and reads INFO; when it returns, the server knows the connection's name.
// The connection is closed when ctx ends.
func dial(ctx context.Context, d *upstream.Dialer, g topology.Group, timeout time.Duration) (*link, error) {
	return dialAs(ctx, d, g, d.Name(forMoves), timeout)
}

func dialAs(ctx context.Context, d *upstream.Dialer, g topology.Group, name string, timeout time.Duration) (*link, error) {
	c := d.Client(upstream.Target{Endpoint: g.Endpoint, Name: name}, timeout)
	l := &link{group: g, name: name, client: c, conn: c.Conn()}
	l.unhook = context.AfterFunc(ctx, func() { _ = c.Close() })
	text, err := l.conn.Info(ctx).Result()
	if err != nil {
		l.close()
		return nil, err
	}
	l.info = readInfo(text)
	return l, nil
}

func readInfo(text string) serverInfo {
	i := upstream.ParseInfo(text)
	return serverInfo{
		runID: i.Get("run_id"), replID: i.Get("master_replid"), version: i.Get("redis_version"), role: i.Get("role"), policy: i.Get("maxmemory_policy"),
		replicas: int(i.Int("connected_slaves")), loading: i.Get("loading") == "1", aof: i.Get("aof_enabled") == "1",
		usedBytes: i.Int("used_memory"), maxBytes: i.Int("maxmemory"),
	}
}

func (l *link) close() {
	if l == nil {
		return
	}
	l.unhook()
	_ = l.conn.Close()
	_ = l.client.Close()
}

// use selects a database when the connection is in another.
func (l *link) use(ctx context.Context, db int) error {
	if l.db == db {
		return nil
	}
	if err := l.conn.Select(ctx, db).Err(); err != nil {
		return err
	}
	l.db = db
	return nil
}

// pttl is the time to live in ms, -1 for never, -2 where there is no key. A Duration has not
// room for all that servers have.
func pttl(ctx context.Context, c *redis.Conn, key string) (int64, error) {
	return c.Do(ctx, "PTTL", key).Int64()
}

// fence kills the named connection at its server; nil is proof.
func fence(ctx context.Context, d *upstream.Dialer, g topology.Group, name string, timeout time.Duration) error {
	return d.Fence(ctx, g.Endpoint, timeout, func(n string) bool { return n == name })
}

// refused reports whether err is the server's own answer, so that the command was
// certainly not executed (redis.Nil is an answer as well, but not an error here).
func refused(err error) bool {
	var e redis.Error
	return errors.As(err, &e) && !errors.Is(err, redis.Nil)
}

// Origins of errors.
const (
	fromSource  = "source"
	fromTarget  = "target"
	fromStore   = "store"
	fromGateway = "gateway"
)

// jobError describes err for the job's status.
func jobError(origin string, err error) *topology.JobError {
	e := &topology.JobError{Origin: origin, Text: err.Error(), AtMs: time.Now().UnixMilli()}
	var netErr net.Error
	var never *hopelessError
	var answer redis.Error
	var full *fullError
	var coded *codedError
	switch {
	case errors.As(err, &coded):
		e.Code = coded.code
	case errors.As(err, &full):
		e.Code = "OOM"
	case errors.As(err, &never):
		e.Code = never.code
	case refused(err) && errors.As(err, &answer):
		e.Code, _, _ = strings.Cut(answer.Error(), " ")
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout():
		e.Code = "TIMEOUT"
	case errors.Is(err, io.EOF):
		e.Code, e.Text = "IO", "the connection was closed by the server or on the way ("+err.Error()+")"
	default:
		e.Code = "IO"
	}
	if len(e.Text) > maxErrorText {
		e.Text = strings.ToValidUTF8(e.Text[:maxErrorText], "") + "…"
	}
	return e
}

// maxErrorText bounds what is kept of one error.
const maxErrorText = 400

// originError carries where an error came from up to the runner.
type originError struct {
	origin string
	err    error
	noted  bool // an errorLog has it
}

func (e *originError) Error() string { return fmt.Sprintf("%s: %v", e.origin, e.err) }
func (e *originError) Unwrap() error { return e.err }

func at(origin string, err error) error {
	if err == nil {
		return nil
	}
	return &originError{origin: origin, err: err}
}

func originOf(err error) *originError {
	var o *originError
	errors.As(err, &o)
	return o
}

// asJobError is the way back.
func asJobError(err error) *topology.JobError {
	if o := originOf(err); o != nil {
		return jobError(o.origin, o.err)
	}
	return jobError(fromGateway, err)
}

// isOOM reports that the target refused for want of memory.
func isOOM(err error) bool {
	var full *fullError
	return errors.As(err, &full) || refused(err) && strings.Contains(err.Error(), "OOM ")
}
