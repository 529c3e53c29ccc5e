package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
)

func TestMain(m *testing.M) { os.Exit(testrig.Main(m)) }

// world is the gateway, its servers, the links between them, and what came of it all.
type world struct {
	*testrig.Rig
	t     *testing.T
	rng   *rand.Rand // the nemesis's; operators and clients have their own
	seed  uint64
	begun time.Time
	links []*faultproxy.Proxy // to the servers
	front *faultproxy.Proxy   // from the clients to the gateway

	workers    int    // clients of old dumps so far
	failpoints string // of every gateway that is started: planted bugs

	mu     sync.Mutex // protects what follows
	log    []string
	counts map[string]int
	odd    map[string]int // error replies that a Redis would not give
	jobs   map[string]string
	faulty []string // what was found wrong
}

// fail notes what is wrong with the gateway, which is the test's failure unless the
// mistake was planted.
func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faulty = append(w.faulty, fmt.Sprintf(format, args...))
}

func (w *world) failures() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.faulty...)
}

// settings make the gateway give up early, so that a fault is felt and over in seconds.
var settings = []string{
	"migration.call-timeout=700ms", "migration.backoff-min=50ms", "migration.backoff-max=500ms", "migration.max-attempts=0",
	"migration.batch-max-keys=32", "migration.checkpoint-every=50ms", "migration.scan-count=100",
	"servers.request-timeout=2s", "servers.connect-timeout=700ms", "servers.reconnect-min=20ms", "servers.reconnect-max=300ms",
	"locks.wait-deadline=1s",
}

func newWorld(t *testing.T, seed uint64, servers int, failpoints string) *world {
	t.Helper()
	var args []string
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	w := &world{
		Rig: testrig.Bare(t, args...), t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), begun: time.Now(), failpoints: failpoints,
		counts: map[string]int{}, odd: map[string]int{}, jobs: map[string]string{},
	}
	for i := range servers {
		s := testredis.StartT(t, "--appendonly", "yes", "--appendfsync", "always")
		w.Servers = append(w.Servers, s)
		w.links = append(w.links, w.link(s.Addr, uint64(i)))
	}
	w.front = w.link(w.Listen, 99)
	w.Start(failpoints)
	for i, l := range w.links {
		w.Proxy("GROUP", "ADD", fmt.Sprintf("g%d", i+1), l.Addr)
	}
	w.Proxy("SLOT", "ASSIGN", "0-16383", "g1")
	return w
}

func (w *world) link(to string, n uint64) *faultproxy.Proxy {
	p, err := faultproxy.New(to, w.seed+n)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = p.Close() })
	return p
}

// since is the engine's clock: that of histories and of the log.
func (w *world) since() time.Duration { return time.Since(w.begun) }

// note writes to the log of what was done; it is shown when the test fails.
func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf("%9.3f ms  ", ms(w.since()))+fmt.Sprintf(format, args...))
}

func (w *world) count(what string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what] += n
}

// counted shows all counts, in order.
func (w *world) counted() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for k, n := range w.counts {
		out = append(out, fmt.Sprintf("%s %d", k, n))
	}
	sort.Strings(out)
	return strings.Join(out, ", ")
}

// between is the part of the log in a span of time.
func (w *world) between(from, to time.Duration) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, l := range w.log {
		var at float64
		_, _ = fmt.Sscan(l, &at)
		if at >= ms(from) && at <= ms(to) {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

// fate is what became of a command.
type fate uint8

const (
	answered fate = iota
	notDone       // it was certainly not executed
	open          // it was executed, or not, or will be
)

// refusals are the errors with which a Redis, or a gateway for it, says that a command was
// not executed.
var refusals = []string{"TRYAGAIN ", "OOM ", "LOADING ", "MISCONF ", "BUSY ", "EXECABORT ", "CLUSTERDOWN ", "READONLY ", "MASTERDOWN ", "NOREPLICAS ",
	"NOGROUP ", "UNBLOCKED "} // the last two when all was flushed

// fateOf reads an error. What neither Redis nor the documentation knows is noted as odd.
func (w *world) fateOf(err error) fate {
	if err == nil || err == redis.Nil {
		return answered
	}
	reply, isReply := err.(redis.Error)
	if !isReply {
		if strings.Contains(err.Error(), "dial tcp") {
			return notDone
		}
		w.count("ambiguous: no reply", 1)
		return open
	}
	text := reply.Error()
	if strings.HasSuffix(text, "nothing was executed") || strings.HasSuffix(text, "nothing was changed") {
		return notDone
	}
	if strings.Contains(text, "; it was executed ") || strings.Contains(text, "; it was perhaps executed ") {
		return open // a command in parts: some, whatever the first word says
	}
	for _, r := range refusals {
		if strings.HasPrefix(text, r) {
			return notDone
		}
	}
	if !strings.HasPrefix(text, "ERR connection to the server was lost") {
		w.mu.Lock()
		w.odd[text]++
		w.mu.Unlock()
	}
	return open
}

// dial makes a client with one connection of its own that never sends a command twice.
func (w *world) dial(addr string, timeout time.Duration) *redis.Client {
	short := testredis.NewClient(addr, "", 0)
	opt := *short.Options()
	_ = short.Close()
	opt.PoolSize, opt.ReadTimeout, opt.WriteTimeout = 1, timeout, timeout
	opt.PoolTimeout = 2 * timeout
	opt.MaxRetries = -1 // 0, which the options of a client say, would mean 3
	return redis.NewClient(&opt)
}

// well is a client when no fault is left, of which the way to every server stands: each loop of
// the gateway connects again in its own time.
func (w *world) well() *redis.Client {
	w.t.Helper()
	c := w.dial(w.Listen, 10*time.Second)
	w.Await("the gateway to reach every server", func() bool { return c.DBSize(context.Background()).Err() == nil })
	return c
}

// heal ends all faults of links; servers and the gateway are the nemesis's to revive.
func (w *world) heal() {
	for _, l := range append([]*faultproxy.Proxy{w.front}, w.links...) {
		if err := l.Heal(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// pause ends when ctx does, and says whether it came to its end.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
