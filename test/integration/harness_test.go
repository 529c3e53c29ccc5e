// Package integration tests the gateway as a black box: a real process between real
// clients and real redis-servers.
package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/bench"
	"keyferry/internal/admin"
	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/router"
)

// binary is the gateway, built once with failpoints and the race detector.
var binary string

func TestMain(m *testing.M) {
	redis.SetLogger(silent{})
	dir, err := os.MkdirTemp("", "keyferry-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "keyferry")
	build := exec.Command("go", "build", "-race", "-tags", "failpoints", "-o", binary, "keyferry/cmd/keyferry")
	build.Stderr = os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// rig is a gateway and its servers.
type rig struct {
	t       *testing.T
	servers []*testredis.Server
	listen  string
	admin   string
	dir     string
	args    []string
	child   *testredis.Child
	log     *logBuffer
	exited  <-chan struct{}
}

// newRig starts servers g1, g2 … and a gateway with all slots on g1.
func newRig(t *testing.T, servers int, args ...string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), args: args}
	for range servers {
		r.servers = append(r.servers, testredis.StartT(t, "--appendonly", "yes", "--appendfsync", "always"))
	}
	r.addresses()
	r.start("")
	for i, s := range r.servers {
		r.proxy("GROUP", "ADD", fmt.Sprintf("g%d", i+1), s.Addr)
	}
	r.proxy("SLOT", "ASSIGN", "0-16383", "g1")
	return r
}

func (r *rig) addresses() {
	var ports [2]int
	for i := range ports {
		p, err := testredis.FreePort()
		if err != nil {
			r.t.Fatal(err)
		}
		ports[i] = p
	}
	r.listen, r.admin = fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
}

// start runs the gateway with failpoints.
func (r *rig) start(failpoints string) {
	r.t.Helper()
	args := append([]string{"serve", "--listen", r.listen, "--admin", r.admin, "--data-dir", filepath.Join(r.dir, "data"), "--name", "test"}, r.args...)
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "KEYFERRY_FAILPOINTS="+failpoints, "GORACE=halt_on_error=0 exitcode=66")
	r.log = &logBuffer{}
	cmd.Stdout, cmd.Stderr = r.log, r.log
	child, err := testredis.StartChild(cmd)
	if err != nil {
		r.t.Fatal(err)
	}
	r.child, r.exited = child, child.Done()
	log := r.log
	r.t.Cleanup(func() {
		_ = child.Kill()
		if strings.Contains(log.String(), "DATA RACE") {
			r.t.Errorf("the race detector spoke:\n%s", log)
		}
		if strings.Contains(log.String(), "panic:") {
			r.t.Errorf("the gateway panicked:\n%s", log)
		}
		if r.t.Failed() {
			r.t.Logf("gateway log:\n%s", tailOf(log.String(), 6000))
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := bench.AwaitPort(ctx, r.admin); err != nil {
		r.t.Fatalf("gateway: %v\n%s", err, r.log)
	}
}

// logBuffer can be read while the gateway writes to it.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func tailOf(s string, n int) string { return s[max(0, len(s)-n):] }

// kill is kill -9.
func (r *rig) kill() {
	if err := r.child.Kill(); err != nil {
		r.t.Fatal(err)
	}
}

// client waits long for replies: a command may be parked on purpose.
func (r *rig) client() *redis.Client {
	short := testredis.NewClient(r.listen, "", 0)
	opt := *short.Options()
	_ = short.Close()
	opt.ReadTimeout = time.Minute
	c := redis.NewClient(&opt)
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (r *rig) proxyErr(args ...any) (any, error) {
	c := testredis.NewClient(r.admin, "", 0)
	defer c.Close()
	return c.Do(context.Background(), append([]any{"PROXY"}, args...)...).Result()
}

func (r *rig) proxy(args ...any) any {
	r.t.Helper()
	v, err := r.proxyErr(args...)
	if err != nil {
		r.t.Fatalf("PROXY %v: %v", args, err)
	}
	return v
}

func (r *rig) jobs() []migrator.Status {
	v, err := r.proxyErr("MIGRATION", "LIST", "JSON")
	if err != nil {
		return nil
	}
	var jobs []migrator.Status
	if err := json.Unmarshal([]byte(v.(string)), &jobs); err != nil {
		r.t.Fatal(err)
	}
	return jobs
}

// await polls until cond holds. The bound is no expectation of speed: it ends a hang.
func (r *rig) await(what string, cond func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain for %s; jobs: %+v", what, r.jobs())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (r *rig) awaitDone() {
	r.t.Helper()
	r.await("all jobs to be done", func() bool {
		jobs := r.jobs()
		for _, j := range jobs {
			if j.Phase == topology.Failed {
				r.t.Fatalf("job failed: %+v", j)
			}
			if j.Phase != topology.Done {
				return false
			}
		}
		return len(jobs) > 0
	})
}

// gatewayInfo reads one number of INFO gateway.
func (r *rig) gatewayInfo(field string) int {
	text := r.proxy("INFO").(string)
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			var n int
			fmt.Sscan(v, &n)
			return n
		}
	}
	r.t.Fatalf("no %s in INFO", field)
	return 0
}

// oracle starts clients against the gateway; the returned function stops them and demands
// that nothing acknowledged was lost, stale or resurrected.
func (r *rig) oracle(cfg bench.OracleConfig) (o *bench.Oracle, finish func()) {
	r.t.Helper()
	cfg.Addr, cfg.Prefix, cfg.IncludeDeletes, cfg.ReconnectOnError = r.listen, "o", true, true
	cfg.Seed = time.Now().UnixNano()
	r.t.Logf("oracle seed %d", cfg.Seed)
	o = bench.NewOracle(cfg)
	if err := o.Preload(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	o.Phase("run")
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	r.t.Cleanup(cancel)
	return o, func() {
		r.t.Helper()
		cancel()
		if err := <-done; err != nil {
			r.t.Fatalf("clients: %v", err)
		}
		c := r.client()
		r.await("every server to be reached", func() bool { return c.DBSize(context.Background()).Err() == nil })
		v, err := o.Verify(context.Background(), r.listen)
		if err != nil {
			r.t.Fatal(err)
		}
		s := o.Snapshot()
		r.t.Logf("%d commands, %d errors, %d losses (first: %s), %s", s.Ops, s.Errors, s.ConnErrors, s.FirstError, v)
		if !v.OK() {
			r.t.Errorf("the oracle found %+v", v)
		}
		if v.InDoubt > v.KeysChecked/2 {
			r.t.Errorf("%d of %d keys in doubt: too many to prove anything", v.InDoubt, v.KeysChecked)
		}
	}
}

// allKeys lists what a server holds, as "db/key".
func allKeys(t *testing.T, s *testredis.Server, dbs int) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	c := s.Client()
	for db := range dbs {
		conn := c.Conn()
		if err := conn.Select(context.Background(), db).Err(); err != nil {
			t.Fatal(err)
		}
		it := conn.Scan(context.Background(), 0, "", 1000).Iterator()
		for it.Next(context.Background()) {
			out[fmt.Sprintf("%d/%s", db, it.Val())] = true
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	return out
}

// placesRight demands that every key sits at its slot's owner alone.
func (r *rig) placesRight() {
	r.t.Helper()
	var rows []admin.SlotRow
	if err := json.Unmarshal([]byte(r.proxy("SLOT", "LIST", "JSON").(string)), &rows); err != nil {
		r.t.Fatal(err)
	}
	owner := map[int]string{}
	for _, row := range rows {
		for s := row.First; s <= row.Last; s++ {
			owner[s] = row.Group
		}
	}
	seen := map[string]int{}
	for i, s := range r.servers {
		for k := range allKeys(r.t, s, 2) {
			if j, twice := seen[k]; twice {
				r.t.Errorf("key %s is at g%d and at g%d", k, j+1, i+1)
			}
			seen[k] = i
			_, name, _ := strings.Cut(k, "/")
			if o := owner[router.Redis.Slot([]byte(name))]; o != fmt.Sprintf("g%d", i+1) {
				r.t.Errorf("key %s is at g%d, its slot's owner is %s", k, i+1, o)
			}
		}
	}
}

// keyInSlots finds a key whose slot is in a range.
func keyInSlots(first, last int) string {
	for i := 0; ; i++ {
		k := fmt.Sprintf("find%d", i)
		if s := router.Redis.Slot([]byte(k)); s >= first && s <= last {
			return k
		}
	}
}
