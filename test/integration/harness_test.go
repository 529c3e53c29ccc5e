// Package integration tests the gateway as a black box: a real process between real
// clients and real redis-servers.
package integration

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/bench"
	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/router"
)

var soak = flag.Bool("soak", false, "make as many rounds as make soak does")

// rounds is how many are made: of what is only longer, and not different, make soak makes more.
func rounds(usual, soaked int) int {
	if *soak {
		return soaked
	}
	return usual
}

func TestMain(m *testing.M) { os.Exit(testrig.Main(m)) }

// rig is a testrig.Rig under the short names of this package's tests.
type rig struct {
	*testrig.Rig
	t       *testing.T
	servers []*testredis.Server
	listen  string
	admin   string
	child   *testredis.Child
	log     *testrig.Log
	exited  <-chan struct{}
}

// newRig starts servers g1, g2 … and a gateway with all slots on g1. Clients wait long for what a
// machine that is busy with tests does slowly, unless args say otherwise: what they are told when
// that takes too long is what other tests are about.
func newRig(t *testing.T, servers int, args ...string) *rig {
	t.Helper()
	return wrap(testrig.New(t, servers, append([]string{"--set", "locks.wait-deadline=20s", "--set", "servers.connect-timeout=20s"}, args...)...))
}

// gate is a place at which the gateway waits (a failpoint) until it is opened.
type gate struct {
	t    *testing.T
	file string
}

func newGate(t *testing.T) gate { return gate{t, filepath.Join(t.TempDir(), "open")} }

// at is the failpoint at that place.
func (g gate) at(point string) string { return point + "=hold:" + g.file }

func (g gate) open() {
	g.t.Helper()
	if err := os.WriteFile(g.file, nil, 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// wrap gives a rig made otherwise this package's names.
func wrap(of *testrig.Rig) *rig {
	r := &rig{Rig: of, t: of.T, servers: of.Servers, listen: of.Listen, admin: of.Admin}
	r.refresh()
	return r
}

// refresh follows the gateway that was started last.
func (r *rig) refresh() {
	if r.child, r.log = r.Child, r.Log; r.child != nil {
		r.exited = r.child.Done()
	}
}

func (r *rig) start(failpoints string) {
	r.t.Helper()
	r.Servers = r.servers
	r.Start(failpoints)
	r.refresh()
}

func (r *rig) kill()                                 { r.t.Helper(); r.Kill() }
func (r *rig) client() *redis.Client                 { return r.Client() }
func (r *rig) proxyErr(args ...any) (any, error)     { return r.ProxyErr(args...) }
func (r *rig) proxy(args ...any) any                 { r.t.Helper(); return r.Proxy(args...) }
func (r *rig) jobs() []migrator.Status               { return r.Jobs() }
func (r *rig) job() migrator.Status                  { r.t.Helper(); return r.Job() }
func (r *rig) history(id string) []topology.JobEvent { r.t.Helper(); return r.History(id) }
func (r *rig) awaitMoved(keys int64)                 { r.t.Helper(); r.AwaitMoved(keys) }
func (r *rig) await(what string, cond func() bool)   { r.t.Helper(); r.Await(what, cond) }
func (r *rig) awaitDone()                            { r.t.Helper(); r.AwaitDone() }
func (r *rig) unlimited()                            { r.t.Helper(); r.Unlimited() }
func (r *rig) gatewayInfo(field string) int          { r.t.Helper(); return r.Info(field) }
func (r *rig) bounce(n int)                          { r.t.Helper(); r.Bounce(n) }
func (r *rig) placesRight()                          { r.t.Helper(); r.PlacesRight() }

// awaitDeath waits until the gateway has died of a failpoint.
func (r *rig) awaitDeath() {
	r.t.Helper()
	r.await("the gateway to die", func() bool {
		select {
		case <-r.exited:
			return true
		default:
			return false
		}
	})
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

// keyInSlots finds a key whose slot is in a range.
func keyInSlots(first, last int) string {
	for i := 0; ; i++ {
		k := fmt.Sprintf("find%d", i)
		if s := router.Redis.Slot([]byte(k)); s >= first && s <= last {
			return k
		}
	}
}
