package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"keyferry/conf"
	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/internal/topology/memory"
	"keyferry/migrator"
	"keyferry/migrator/job"
)

// several are gateways over one store, and two servers, of which the first has every slot.
type several struct {
	prefix  string // of the names of counters
	t       *testing.T
	cluster *memory.Cluster
	all     []*Gateway
	stores  []*memory.Store
	clients []*redis.Client
}

func newSeveral(t *testing.T, n int, set ...func(*conf.Config)) *several {
	t.Helper()
	x := &several{prefix: "count:", t: t, cluster: &memory.Cluster{}}
	a, b := testredis.StartT(t), testredis.StartT(t)
	for i := range n {
		x.start(fmt.Sprintf("gw%d", i), set...)
	}
	for i, s := range []*testredis.Server{a, b} {
		if err := x.all[0].Control.AddGroup(t.Context(), topology.Group{ID: string(rune('a' + i)), Endpoint: topology.Endpoint{Addr: s.Addr}}, false, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.all[0].Control.AssignSlots(t.Context(), []topology.Range{{First: 0, Last: 16383}}, "a", false); err != nil {
		t.Fatal(err)
	}
	x.agree()
	return x
}

func (x *several) start(name string, set ...func(*conf.Config)) *Gateway {
	x.t.Helper()
	c := conf.Default()
	c.Name, c.Listen, c.Admin, c.HTTP.Listen, c.DataDir = name, freeAddr(x.t), "127.0.0.1:0", "", x.t.TempDir()
	c.Peers.Listen, c.Peers.Secret = freeAddr(x.t), "a secret of gateways"
	for _, f := range set {
		f(&c)
	}
	store := x.cluster.Open()
	g, err := StartOn(c, zap.NewNop(), store)
	if err != nil {
		x.t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: c.Listen, Protocol: 2})
	x.t.Cleanup(func() {
		_ = client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = g.Stop(ctx)
	})
	x.all, x.stores, x.clients = append(x.all, g), append(x.stores, store), append(x.clients, client)
	return g
}

func freeAddr(t *testing.T) string {
	t.Helper()
	port, err := testredis.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// agree waits until all gateways route by the newest epoch.
func (x *several) agree() {
	x.t.Helper()
	epoch := uint64(0)
	for _, g := range x.all {
		epoch = max(epoch, g.Control.State().Epoch)
	}
	for _, g := range x.all {
		if err := g.Control.AwaitEpoch(x.t.Context(), epoch); err != nil {
			x.t.Fatal(err)
		}
	}
}

// move starts a job of all slots at gateway i and gives its id.
func (x *several) move(i int, target string, limits job.Limits) string {
	x.t.Helper()
	return x.moveSlots(i, target, limits, topology.Range{First: 0, Last: 16383})
}

func (x *several) moveSlots(i int, target string, limits job.Limits, slots ...topology.Range) string {
	x.t.Helper()
	g := x.all[i]
	q := migrator.MoveRequest{Slots: slots, Target: target, Limits: limits}
	plans, err := migrator.PlanMove(g.Control.State(), q)
	if err != nil {
		x.t.Fatal(err)
	}
	ids, err := g.Manager.Submit(x.t.Context(), plans, q)
	if err != nil {
		x.t.Fatal(err)
	}
	return ids[0]
}

// await waits until a job has come to a phase, as gateway i sees it.
func (x *several) await(i int, id string, phase topology.Phase) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), time.Minute)
	defer cancel()
	at := topology.Phase("")
	if err := x.all[i].Control.Await(ctx, func() bool {
		j, _ := x.all[i].Control.Job(id)
		at = j.Phase
		if at == topology.Paused && j.LastError != nil {
			x.t.Logf("job %s is paused: %s: %s", id, j.Reason, j.LastError.Text)
		}
		return at == phase
	}); err != nil {
		x.t.Fatalf("job %s is %s, not %s: %v", id, at, phase, err)
	}
}

// counting has clients of some gateways increment counters until the test says stop.
type counting struct {
	x       *several
	stop    chan struct{}
	wg      sync.WaitGroup
	mu      sync.Mutex     // protects what follows
	done    map[string]int // increments that were answered
	unknown map[string]int // … that may have been executed
	errs    map[string]int // texts of errors
}

func (x *several) count(keys int, gateways ...int) *counting {
	c := &counting{x: x, stop: make(chan struct{}), done: make(map[string]int), unknown: make(map[string]int), errs: make(map[string]int)}
	for _, g := range gateways {
		c.wg.Go(func() {
			for n := g; ; n++ {
				select {
				case <-c.stop:
					return
				default:
				}
				key := fmt.Sprint(x.prefix, n%keys)
				err := x.clients[g].Incr(x.t.Context(), key).Err()
				c.mu.Lock()
				switch {
				case err == nil:
					c.done[key]++
				case strings.HasPrefix(err.Error(), "TRYAGAIN"), strings.Contains(err.Error(), "nothing was executed"):
					c.errs[err.Error()]++
				default:
					c.errs[err.Error()]++
					c.unknown[key]++
				}
				c.mu.Unlock()
			}
		})
	}
	return c
}

// check ends it, and compares the counters, as gateway by has them, with what was heard of them.
func (c *counting) check(by int, keys int) {
	c.x.t.Helper()
	close(c.stop)
	c.wg.Wait()
	for text, n := range c.errs {
		c.x.t.Logf("%d times: %s", n, text)
	}
	for i := range keys {
		key := fmt.Sprint(c.x.prefix, i)
		got, err := c.x.clients[by].Get(c.x.t.Context(), key).Int()
		if err != nil && !errors.Is(err, redis.Nil) || got < c.done[key] || got > c.done[key]+c.unknown[key] {
			c.x.t.Errorf("%s is %d (%v); %d increments were answered, %d more may have been executed", key, got, err, c.done[key], c.unknown[key])
		}
	}
}

// owner is the index of the gateway that owns a job, and of one that does not.
func (x *several) owner(id string) (owner, other int) {
	x.t.Helper()
	j, _ := x.all[0].Control.Job(id)
	owner = slices.IndexFunc(x.all, func(g *Gateway) bool { return g.Control.Gateway() == j.Owner })
	return owner, (owner + 1) % len(x.all)
}

// fill sets n keys by a gateway.
func (x *several) fill(i, n int) {
	x.t.Helper()
	p := x.clients[i].Pipeline()
	for k := range n {
		p.Set(x.t.Context(), fmt.Sprint("key:", k), k, 0)
	}
	if _, err := p.Exec(x.t.Context()); err != nil {
		x.t.Fatal(err)
	}
}

func (c *counting) answered() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.done {
		n += k
	}
	return n
}

// zero sets so many counters to 0.
func (x *several) zero(keys int) {
	x.t.Helper()
	for i := range keys {
		if err := x.clients[0].Set(x.t.Context(), fmt.Sprint(x.prefix, i), 0, 0).Err(); err != nil {
			x.t.Fatal(err)
		}
	}
}
