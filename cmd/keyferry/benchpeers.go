package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/bench"
	"keyferry/internal/testredis"
)

// peers are the processes of a benchmark.
type peers struct {
	list     []bench.Peer
	servers  []*testredis.Server
	nut      *bench.Nutcracker
	gateways []*benchGateway
	dir      string
	unwatch  context.CancelFunc
	watchers sync.WaitGroup
}

// benchGateway is a gateway of this binary's.
type benchGateway struct {
	addr  string
	child *testredis.Child
	admin *redis.Client
}

// newPeers starts servers. What is returned must be stopped, also with an error.
func newPeers(servers int, args ...string) (*peers, error) {
	p := &peers{}
	var err error
	if p.dir, err = os.MkdirTemp("", "keyferry-bench-"); err != nil {
		return p, err
	}
	for range servers {
		s, err := testredis.Start(testredis.Options{Args: args})
		if err != nil {
			return p, err
		}
		p.servers = append(p.servers, s)
	}
	return p, nil
}

// startComparePeers starts direct Redis, nutcracker and keyferry; with blind also one that
// measures nothing, while the other is scraped and watched as by Prometheus and a dashboard;
// with the path of another build of keyferry also that, as "before".
func startComparePeers(ctx context.Context, loops int, blind bool, before string) (*peers, error) {
	p, err := newPeers(2, "--maxclients", "12000") // for --idle 10000
	if err != nil {
		return p, err
	}
	if p.nut, err = bench.StartNutcracker(p.dir, 0, []string{p.servers[0].Addr, p.servers[1].Addr}); err != nil {
		return p, err
	}
	servers := []int{p.servers[0].PID(), p.servers[1].PID()}
	p.list = []bench.Peer{
		{Name: "redis", Addr: p.servers[0].Addr, PID: p.servers[0].PID()},
		{Name: "nutcracker", Addr: p.nut.Addr, PID: p.nut.PID, Servers: servers},
	}
	web := ""
	if blind {
		if web, err = freeAddr(); err != nil {
			return p, err
		}
	}
	settings := []string{fmt.Sprintf("loops.count=%d", loops), "clients.max-clients=12000"}
	add := func(name, binary, web string, settings []string) error {
		g, err := p.startGateway(ctx, binary, web, settings)
		if err != nil {
			return err
		}
		p.list = append(p.list, bench.Peer{Name: name, Addr: g.addr, PID: g.child.PID(), Servers: servers})
		return g.serve(ctx, p.servers, "0-8191", "8192-16383")
	}
	if err := add("keyferry", "", web, settings); err != nil {
		return p, err
	}
	if before != "" {
		if err := add("before", before, "", settings); err != nil {
			return p, err
		}
	}
	if !blind {
		return p, nil
	}
	p.watch("http://" + web)
	return p, add("blind", "", "", append(settings, "slowlog.slower-than=0s", "hotkeys.sample-every=0"))
}

// watch does what Prometheus and an open dashboard do, until stop.
func (p *peers) watch(url string) {
	ctx, cancel := context.WithCancel(context.Background())
	p.unwatch = cancel
	get := func(path string) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
		if err != nil {
			return
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
	p.watchers.Go(func() { get("/api/v1/events") })
	p.watchers.Go(func() {
		t := time.NewTicker(5 * time.Second)
		defer t.Stop()
		for ctx.Err() == nil {
			get("/metrics")
			select {
			case <-t.C:
			case <-ctx.Done():
			}
		}
	})
}

func freeAddr() (string, error) {
	port, err := testredis.FreePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

// startGateway starts one that serves nothing yet and returns when its admin port answers.
// web is its HTTP address; "": none. binary is the build to run; "": this one.
func (p *peers) startGateway(ctx context.Context, binary, web string, settings []string) (*benchGateway, error) {
	listen, err := freeAddr()
	if err != nil {
		return nil, err
	}
	admin, err := freeAddr()
	if err != nil {
		return nil, err
	}
	if binary == "" {
		if binary, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	g := &benchGateway{addr: listen}
	args := []string{"serve", "--listen", g.addr, "--admin", admin, "--http", web, "--data-dir", filepath.Join(p.dir, fmt.Sprint("data", len(p.gateways)))}
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	if g.child, err = testredis.StartChild(exec.Command(binary, args...)); err != nil {
		return nil, err
	}
	p.gateways = append(p.gateways, g)
	wait, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := bench.AwaitPort(wait, admin); err != nil {
		return nil, err
	}
	g.admin = testredis.NewClient(admin, "", 0)
	return g, nil
}

// serve makes each server a group, g1, g2 …, and gives them the slots in that order.
func (g *benchGateway) serve(ctx context.Context, servers []*testredis.Server, slots ...string) error {
	for i, s := range servers {
		if err := g.unchecked(ctx, "GROUP", "ADD", fmt.Sprint("g", i+1), s.Addr); err != nil {
			return err
		}
	}
	for i, these := range slots {
		if err := g.unchecked(ctx, "SLOT", "ASSIGN", these, fmt.Sprint("g", i+1)); err != nil {
			return err
		}
	}
	return nil
}

// unchecked says a verb, and with UNCHECKED if it is refused: the gateways of a comparison share their
// servers on purpose. Builds that do not know the word refuse nothing.
func (g *benchGateway) unchecked(ctx context.Context, verb ...any) error {
	verb = append([]any{"PROXY"}, verb...)
	err := g.admin.Do(ctx, verb...).Err()
	if err != nil && strings.Contains(err.Error(), "another gateway") {
		err = g.admin.Do(ctx, append(verb, "UNCHECKED")...).Err()
	}
	return err
}

func (p *peers) stop() {
	if p.unwatch != nil {
		p.unwatch()
		p.watchers.Wait()
	}
	for _, g := range p.gateways {
		if g.admin != nil {
			_ = g.admin.Close()
		}
		_ = g.child.Terminate(15 * time.Second)
	}
	if p.nut != nil {
		_ = p.nut.Stop()
	}
	for _, s := range p.servers {
		_ = s.Stop()
	}
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}
