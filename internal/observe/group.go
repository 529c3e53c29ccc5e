package observe

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/proxy/stats"
)

const (
	probeEvery  = 2 * time.Second
	probeBound  = 1500 * time.Millisecond
	directEvery = 7 // probes
	directShown = 20
)

// Group is a group with what its primary said last.
type Group struct {
	ID     string `json:"id"`
	Addr   string `json:"addr"`
	Slots  int    `json:"slots"`
	Ranges string `json:"ranges"`

	Up      bool    `json:"up"`
	Error   string  `json:"error,omitempty"`
	SeenMs  int64   `json:"seen_ms"` // Unix time of the last answer; 0: never
	PingUs  float64 `json:"ping_us"`
	Version string  `json:"version"`
	Role    string  `json:"role"`
	Memory  int64   `json:"memory"`
	Limit   int64   `json:"memory_limit"` // 0: none
	Policy  string  `json:"policy"`
	Keys    int64   `json:"keys"`
	Ops     float64 `json:"ops"` // per second, all clients of the server
	Total   uint64  `json:"-"`   // commands processed
	Clients int64   `json:"clients"`

	Replicas []string   `json:"replicas"`
	Direct   int        `json:"strangers"`                // direct clients: see upstream.Client.Direct
	Who      []string   `json:"strangers_list,omitempty"` // some of them
	Links    stats.Link `json:"links"`                    // of this gateway's loops
}

// probe asks one primary how it is, over and over, for as long as the group exists.
type probe struct {
	to     topology.Endpoint
	cancel context.CancelFunc
	client *redis.Client

	mu   sync.Mutex // protects what follows
	last Group
}

// follow starts and ends probes, so that there is one for each group. mu is held.
func (o *Observer) follow(ctx context.Context, groups []topology.Group) {
	want := make(map[string]bool)
	for _, g := range groups {
		want[g.ID] = true
		if p := o.probes[g.ID]; p != nil && p.to != g.Endpoint {
			p.cancel()
			delete(o.probes, g.ID)
		}
		if o.probes[g.ID] == nil {
			c, cancel := context.WithCancel(ctx)
			p := &probe{to: g.Endpoint, cancel: cancel, client: o.c.Dialer.Client(upstream.Target{Endpoint: g.Endpoint}, probeBound)}
			o.probes[g.ID] = p
			o.wg.Go(func() { p.run(c) })
		}
	}
	for id, p := range o.probes {
		if !want[id] {
			p.cancel()
			delete(o.probes, id)
		}
	}
}

func (p *probe) run(ctx context.Context) {
	// go-redis heeds a context's deadline, but not its end while a reply is awaited.
	defer context.AfterFunc(ctx, func() { _ = p.client.Close() })()
	defer p.client.Close()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		c, cancel := context.WithTimeout(ctx, probeBound)
		p.ask(c, n)
		cancel()
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// ask updates what is known; when the server does not answer, the rest stays as it was.
func (p *probe) ask(ctx context.Context, n int) {
	begin := time.Now()
	err := p.client.Ping(ctx).Err()
	ping := time.Since(begin)
	text := ""
	if err == nil {
		text, err = p.client.Info(ctx).Result()
	}
	var direct []upstream.Client
	listed := false
	if err == nil && n%directEvery == 0 {
		if list, e := p.client.ClientList(ctx).Result(); e == nil {
			direct, listed = upstream.DirectClients(list), true
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	g := &p.last
	if g.Up = err == nil; err != nil {
		g.Error = err.Error()
		return
	}
	g.Error, g.SeenMs, g.PingUs = "", time.Now().UnixMilli(), us(ping)
	g.read(upstream.ParseInfo(text))
	if listed {
		g.Direct, g.Who = len(direct), nil
		for _, c := range direct[:min(len(direct), directShown)] {
			g.Who = append(g.Who, strings.TrimSpace(c.Addr+" "+c.Name))
		}
	}
}

// read takes what INFO says.
func (g *Group) read(i upstream.Info) {
	g.Version = cmp.Or(i.Get("valkey_version"), i.Get("redis_version"))
	g.Role, g.Policy = i.Get("role"), i.Get("maxmemory_policy")
	g.Memory, g.Limit, g.Clients = i.Int("used_memory"), i.Int("maxmemory"), i.Int("connected_clients")
	g.Ops, g.Total = float64(i.Int("instantaneous_ops_per_sec")), uint64(i.Int("total_commands_processed"))
	g.Keys, g.Replicas = i.Keys(), nil
	for _, r := range i.Replicas() {
		g.Replicas = append(g.Replicas, r.Addr+" "+r.State)
	}
}

func (p *probe) view(g topology.Group, st *topology.State, links stats.Link) Group {
	p.mu.Lock()
	v := p.last
	p.mu.Unlock()
	rs := st.SlotsOf(g.ID)
	v.ID, v.Addr, v.Slots, v.Ranges, v.Links = g.ID, g.Addr, topology.CountSlots(rs), topology.FormatRanges(rs), links
	return v
}
