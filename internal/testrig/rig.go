package testrig

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/bench"
	"keyferry/internal/testredis"
)

// binary is the gateway, built once by Main.
var binary string

// Lasting is a directory for what is to be there when the tests are over; temporary files of
// tests may be in memory.
var Lasting = os.TempDir()

// Main is the TestMain of a package whose tests use rigs: it builds the gateway, runs the
// tests and returns the exit code.
func Main(m *testing.M) int {
	redis.SetLogger(silent{})
	dir, err := os.MkdirTemp("", "keyferry-rig-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "keyferry")
	if err := build(binary); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer intoMemory()()
	return m.Run()
}

// build makes the gateway with the race detector and failpoints. The packages of a run, which
// want it at the same time, and later runs share what one of them has linked: go build does
// nothing where that is still up to date. Each has a copy of its own, since the next may be of
// other sources.
func build(binary string) error {
	shared, err := sharedDir()
	if err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(shared, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // and so it is unlocked
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	linked := filepath.Join(shared, "keyferry")
	cmd := exec.Command("go", "build", "-pgo=off", "-race", "-tags", "failpoints", "-o", linked, "keyferry/cmd/keyferry")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	text, err := os.ReadFile(linked)
	if err != nil {
		return err
	}
	return os.WriteFile(binary, text, 0o755)
}

// sharedDir is in the user's cache, one for each copy of the repository.
func sharedDir() (string, error) {
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "keyferry-rig", fmt.Sprintf("%x", sha256.Sum256(module))[:16])
	return dir, os.MkdirAll(dir, 0o700)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// Rig is a gateway and its servers. Its methods fail the test when they can't do their
// work.
type Rig struct {
	T       *testing.T
	Servers []*testredis.Server // g1, g2 …
	Listen  string              // host:port for clients
	Admin   string              // host:port for PROXY
	Web     string              // host:port of the dashboard
	Child   *testredis.Child    // the gateway that was started last
	Log     *Log                // and what it said
	Args    []string            // more arguments of keyferry serve

	dir string
}

// New starts n servers and a gateway with all slots on g1. args are more arguments of
// keyferry serve.
func New(t *testing.T, n int, args ...string) *Rig {
	t.Helper()
	var servers []*testredis.Server
	for range n {
		servers = append(servers, testredis.StartT(t, "--appendonly", "yes", "--appendfsync", "always"))
	}
	return With(t, servers, args...)
}

// With is New with servers that run already.
func With(t *testing.T, servers []*testredis.Server, args ...string) *Rig {
	t.Helper()
	r := Bare(t, args...)
	r.Servers = servers
	r.Start("")
	r.Assign()
	return r
}

// Assign makes the servers groups of a new gateway and gives the first one all slots.
func (r *Rig) Assign() {
	r.T.Helper()
	for i, s := range r.Servers {
		r.Proxy("GROUP", "ADD", fmt.Sprintf("g%d", i+1), s.Addr)
	}
	r.Proxy("SLOT", "ASSIGN", "0-16383", "g1")
}

// Bare is a gateway that has yet to be started, without servers.
func Bare(t *testing.T, args ...string) *Rig {
	t.Helper()
	var ports [3]int
	for i := range ports {
		p, err := testredis.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = p
	}
	return &Rig{
		T: t, dir: t.TempDir(), Args: args,
		Listen: fmt.Sprintf("127.0.0.1:%d", ports[0]), Admin: fmt.Sprintf("127.0.0.1:%d", ports[1]), Web: fmt.Sprintf("127.0.0.1:%d", ports[2]),
	}
}

// stopBound is how long a gateway may take to stop at the end of a test; then it is killed.
const stopBound = 3 * time.Second

// Start runs the gateway with failpoints ("" for none), also again after Kill.
func (r *Rig) Start(failpoints string) {
	r.T.Helper()
	cmd := exec.Command(binary, r.commandLine()...)
	cmd.Env = append(os.Environ(), "KEYFERRY_FAILPOINTS="+failpoints, "GORACE=halt_on_error=0 exitcode=66 atexit_sleep_ms=0")
	log := &Log{}
	cmd.Stdout, cmd.Stderr = log, log
	child, err := testredis.StartChild(cmd)
	if err != nil {
		r.T.Fatal(err)
	}
	r.Child, r.Log = child, log
	r.T.Cleanup(func() {
		_ = child.Terminate(stopBound) // most are gone by now: it is the last one
		if strings.Contains(log.String(), "goroutines are left") {
			r.T.Errorf("the gateway has stopped with goroutines left:\n%s", Tail(log.String(), 20_000))
		}
		if strings.Contains(log.String(), "DATA RACE") {
			r.T.Errorf("the race detector spoke:\n%s", log)
		}
		if strings.Contains(log.String(), "panic:") {
			r.T.Errorf("the gateway panicked:\n%s", log)
		}
		if r.T.Failed() {
			r.T.Logf("gateway log:\n%s", Tail(log.String(), 6000))
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), awaitBound)
	defer cancel()
	go func() { // who has ended is not waited for
		defer cancel()
		select {
		case <-child.Done():
		case <-ctx.Done():
		}
	}()
	if err := bench.AwaitPort(ctx, r.Admin); err != nil {
		r.T.Fatalf("gateway: %v\n%s", err, log)
	}
}

// Data is the gateway's data directory.
func (r *Rig) Data() string { return filepath.Join(r.dir, "data") }

// Refuses starts a gateway that does not come up, and gives what it says.
func (r *Rig) Refuses() string {
	r.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), awaitBound)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, r.commandLine()...).CombinedOutput()
	if err == nil || ctx.Err() != nil {
		r.T.Fatalf("the gateway has started: %s", out)
	}
	return string(out)
}

// commandLine is that of the gateway. max-p99 is off: on a machine that is busy with tests, moves would
// make way for most of the time.
func (r *Rig) commandLine() []string {
	return append([]string{"serve", "--listen", r.Listen, "--admin", r.Admin, "--http", r.Web, "--data-dir", r.Data(), "--name", "test",
		"--set", "migration.max-p99=off"}, r.Args...)
}

// Kill is kill -9 of the gateway.
func (r *Rig) Kill() {
	r.T.Helper()
	if err := r.Child.Kill(); err != nil {
		r.T.Fatal(err)
	}
}

// Client waits long for replies: a command may be parked on purpose. It sends what it is
// told and never again.
func (r *Rig) Client() *redis.Client {
	short := testredis.NewClient(r.Listen, "", 0)
	opt := *short.Options()
	_ = short.Close()
	opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = time.Minute, time.Minute, 2*time.Minute
	opt.MaxRetries = -1 // 0, which the options of a client say, would mean 3
	c := redis.NewClient(&opt)
	r.T.Cleanup(func() { _ = c.Close() })
	return c
}
