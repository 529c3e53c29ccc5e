package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/bench"
	"keyferry/internal/testetcd"
	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
	"keyferry/migrator"
)

// gateways are several of one cluster on etcd: gw1, gw2 … over the same servers.
type gateways struct {
	t   *testing.T
	all []*rig
}

func newGateways(t *testing.T, n, servers int, args ...string) *gateways {
	t.Helper()
	etcd := testetcd.StartT(t)
	var list []*testredis.Server
	for range servers {
		list = append(list, testredis.StartT(t))
	}
	x := &gateways{t: t}
	for i := range n {
		port, err := testredis.FreePort()
		must(t, err)
		r := testrig.Bare(t, append(append(onEtcd(etcd), "--name", fmt.Sprint("gw", i+1), "--set", fmt.Sprint("peers.listen=127.0.0.1:", port),
			"--set", "peers.secret=a secret of gateways", "--set", "locks.wait-deadline=20s", "--set", "servers.connect-timeout=20s"), args...)...)
		r.Servers = list
		x.all = append(x.all, wrap(r))
		x.all[i].start("")
	}
	x.all[0].Assign()
	for _, r := range x.all { // one was told, and the others hear of it
		c := r.client()
		r.await("the slots to be served", func() bool { return errors.Is(c.Get(t.Context(), "none").Err(), redis.Nil) })
	}
	return x
}

func (x *gateways) listens() (addrs []string) {
	for _, r := range x.all {
		addrs = append(addrs, r.listen)
	}
	return addrs
}

// owner is the gateway that runs the job, as the one with number by knows it, and one that does not.
func (x *gateways) owner(by int) (owner, other int, job migrator.Status) {
	x.t.Helper()
	job = x.all[by].job()
	for i := range x.all {
		if job.Owner == fmt.Sprint("gw", i+1) {
			return i, (i + 1) % len(x.all), job
		}
	}
	x.t.Fatalf("the job's owner is %q", job.Owner)
	return 0, 0, job
}

// awaitTakeover waits until another gateway moves keys of the job of one that has gone.
func (x *gateways) awaitTakeover(by int, from migrator.Status) {
	x.t.Helper()
	first, next := int64(0), ""
	x.all[by].await("another gateway to go on", func() bool {
		j := x.all[by].job()
		if j.Owner != next {
			first, next = j.KeysMoved, j.Owner
		}
		return next != from.Owner && (j.KeysMoved > first || j.Phase.Ended())
	})
}

// awaitBack waits until a gateway serves as a later one than before.
func (x *gateways) awaitBack(by, gateway int, before uint64) {
	x.t.Helper()
	x.all[by].await("the gateway to be part of the cluster again", func() bool {
		row := x.row(by, gateway)
		return row.State == "serving" && row.Incarnation > before
	})
}

// gatewayRow is one in PROXY GATEWAY LIST JSON.
type gatewayRow struct {
	Name        string `json:"name"`
	State       string `json:"state"`
	Incarnation uint64 `json:"incarnation"`
}

func (x *gateways) row(by, gateway int) (row gatewayRow) {
	x.t.Helper()
	var rows []gatewayRow
	must(x.t, json.Unmarshal([]byte(x.all[by].proxy("GATEWAY", "LIST", "JSON").(string)), &rows))
	for _, r := range rows {
		if r.Name == fmt.Sprint("gw", gateway+1) {
			row = r
		}
	}
	return row
}

// TestOwnersAreKilledAndFrozen: the owner of a job is killed in the middle of it, and the next one is frozen for longer
// than its lease and woken. The job ends by itself, nothing is lost, and clients of the gateways that live hear of nothing
// but writes of which nobody can know what became. Whoever is woken executes nothing that it had.
func TestOwnersAreKilledAndFrozen(t *testing.T) {
	x := newGateways(t, 3, 2, "--set", "peers.lease=1s", "--set", "migration.batch-max-keys=16", "--set", "migration.checkpoint-every=50ms")
	o := bench.NewOracle(bench.OracleConfig{Endpoints: bench.Endpoints{Addrs: x.listens(), Silence: 20 * time.Second}, Clients: 9, Keys: 3000, Pipeline: 3, Rate: 1500,
		Prefix: "o", IncludeDeletes: true, ReconnectOnError: true, Seed: time.Now().UnixNano()})
	must(t, o.Preload(t.Context()))
	run, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- o.Run(run) }()

	x.all[0].proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "200")
	x.all[0].awaitMoved(100)
	owner, by, job := x.owner(0)
	incarnation := x.row(by, owner).Incarnation
	o.Down(x.all[owner].listen)
	x.all[owner].kill()
	x.awaitTakeover(by, job)
	x.all[owner].start("")
	x.awaitBack(by, owner, incarnation)
	o.Up(x.all[owner].listen)

	owner, by, job = x.owner(by)
	incarnation = x.row(by, owner).Incarnation
	c, err := net.Dial("tcp", x.all[owner].listen)
	must(t, err)
	defer c.Close()
	o.Down(x.all[owner].listen)
	must(t, x.all[owner].child.Signal(syscall.SIGSTOP))
	for i := range 300 {
		_, err := fmt.Fprintf(c, "SET woken:%d 1\r\n", i)
		must(t, err)
	}
	x.awaitTakeover(by, job)
	heard := x.watchServers(fmt.Sprintf("keyferry:gw%d:%d:", owner+1, incarnation))
	must(t, x.all[owner].child.Signal(syscall.SIGCONT))
	x.awaitBack(by, owner, incarnation)
	heard()
	o.Up(x.all[owner].listen)

	x.all[by].unlimited()
	x.all[by].awaitDone()
	stop()
	must(t, <-ended)
	for _, r := range x.all {
		v, err := o.Verify(t.Context(), r.listen)
		must(t, err)
		if !v.OK() {
			t.Errorf("through %s: %s", r.listen, v)
		}
	}
	x.all[by].placesRight()
	living := o.Snapshot().Living
	for text, n := range living.Texts {
		t.Logf("%d times: %s", n, text)
		if !strings.Contains(text, "may or may not have been executed") && !strings.Contains(text, "perhaps executed") && text != "dial: connect: connection refused" { // the last is of who looked for another gateway
			t.Errorf("clients of gateways that live heard %d times: %s", n, text)
		}
	}
	if n, err := x.all[by].client().Exists(t.Context(), "woken:0", "woken:299").Result(); n > 0 || err != nil {
		t.Errorf("what was sent to a frozen gateway was executed when it woke: %d keys, %v", n, err)
	}
}

// monitored is a line of MONITOR: who has sent what.
var monitored = regexp.MustCompile(`\[\d+ (\S+)\] (.*)`)

// watchServers looks at what the servers execute for connections whose names begin with prefix, until heard is called:
// nothing but what tells a new connection from others. None of those may be open now.
func (x *gateways) watchServers(prefix string) (heard func()) {
	x.t.Helper()
	var wg sync.WaitGroup
	var conns []net.Conn
	for i, s := range x.all[0].servers {
		list, err := s.Client().ClientList(x.t.Context()).Result()
		must(x.t, err)
		if strings.Contains(list, "name="+prefix) {
			x.t.Errorf("g%d has connections of who was taken out:\n%s", i+1, list)
		}
		c, err := net.Dial("tcp", s.Addr)
		must(x.t, err)
		conns = append(conns, c)
		_, err = c.Write([]byte("MONITOR\r\n"))
		must(x.t, err)
		in := bufio.NewScanner(c)
		in.Buffer(nil, 1<<20)
		if !in.Scan() || in.Text() != "+OK" {
			x.t.Fatalf("MONITOR: %q, %v", in.Text(), in.Err())
		}
		wg.Go(func() { x.judge(in, prefix) })
	}
	return func() {
		for _, c := range conns {
			_ = c.Close()
		}
		wg.Wait()
	}
}

// judge reads what MONITOR says until its connection is closed.
func (x *gateways) judge(in *bufio.Scanner, prefix string) {
	of := make(map[string]bool) // addresses of the connections
	for in.Scan() {
		m := monitored.FindStringSubmatch(in.Text())
		if m == nil {
			continue
		}
		addr, command := m[1], strings.ToLower(m[2])
		if strings.Contains(command, `"setname" "`+prefix) {
			of[addr] = true
		}
		word, _, _ := strings.Cut(strings.Trim(command, `"`), `"`)
		if of[addr] && !strings.Contains(" auth hello client select ping info readonly ", " "+word+" ") {
			x.t.Errorf("who was woken has executed %s", command)
		}
	}
}
