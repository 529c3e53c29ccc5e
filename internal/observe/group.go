package observe

import (
	"cmp"
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"keyferry/internal/topology"
	"keyferry/proxy/stats"
)

const (
	probeEvery     = 2 * time.Second
	probeBound     = 1500 * time.Millisecond
	strangersEvery = 7 // probes
	strangersShown = 20
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

	Replicas  []string   `json:"replicas"`
	Strangers int        `json:"strangers"` // connections that are not a gateway's
	Who       []string   `json:"strangers_list,omitempty"`
	Links     stats.Link `json:"links"` // of this gateway's loops
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
			p := &probe{to: g.Endpoint, cancel: cancel, client: dial(g.Endpoint, o.c.ConnTo, 0, probeBound)}
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

// dial makes a client that never tries twice.
func dial(to topology.Endpoint, name string, db int, bound time.Duration) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: to.Addr, Username: to.User, Password: to.Secret.Reveal(), DB: db, ClientName: name, Protocol: 2, DisableIdentity: true,
		MaxRetries: -1, DialerRetries: 1, PoolSize: 1, ContextTimeoutEnabled: true,
		DialTimeout: bound, ReadTimeout: bound, WriteTimeout: bound, PoolTimeout: bound,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
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
	var who []string
	strangers := -1
	if err == nil && n%strangersEvery == 0 {
		if list, e := p.client.Do(ctx, "CLIENT", "LIST", "TYPE", "normal").Text(); e == nil {
			strangers, who = strangersOf(list)
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
	g.read(text)
	if strangers >= 0 {
		g.Strangers, g.Who = strangers, who
	}
}

// read takes what INFO says.
func (g *Group) read(info string) {
	f := fields(info)
	num := func(k string) int64 { n, _ := strconv.ParseInt(f[k], 10, 64); return n }
	g.Version = cmp.Or(f["valkey_version"], f["redis_version"])
	g.Role, g.Policy = f["role"], f["maxmemory_policy"]
	g.Memory, g.Limit, g.Clients = num("used_memory"), num("maxmemory"), num("connected_clients")
	g.Ops, g.Total = float64(num("instantaneous_ops_per_sec")), uint64(num("total_commands_processed"))
	g.Keys = 0
	for k, v := range f {
		if strings.HasPrefix(k, "db") && strings.HasPrefix(v, "keys=") {
			n, _, _ := strings.Cut(v[len("keys="):], ",")
			x, _ := strconv.ParseInt(n, 10, 64)
			g.Keys += x
		}
	}
	g.Replicas = nil
	for i := range min(num("connected_slaves"), 16) {
		r := make(map[string]string)
		for kv := range strings.SplitSeq(f["slave"+strconv.Itoa(int(i))], ",") {
			k, v, _ := strings.Cut(kv, "=")
			r[k] = v
		}
		g.Replicas = append(g.Replicas, net.JoinHostPort(r["ip"], r["port"])+" "+r["state"])
	}
}

func fields(info string) map[string]string {
	f := make(map[string]string)
	for line := range strings.Lines(info) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			f[k] = v
		}
	}
	return f
}

// strangersOf reads CLIENT LIST: every gateway names its connections keyferry:….
func strangersOf(list string) (n int, who []string) {
	for line := range strings.Lines(list) {
		if strings.Contains(line, " name=keyferry:") || strings.TrimSpace(line) == "" {
			continue
		}
		if n++; len(who) < strangersShown {
			var addr, name string
			for kv := range strings.FieldsSeq(line) {
				if v, ok := strings.CutPrefix(kv, "addr="); ok {
					addr = v
				} else if v, ok := strings.CutPrefix(kv, "name="); ok {
					name = v
				}
			}
			who = append(who, strings.TrimSpace(addr+" "+name))
		}
	}
	return n, who
}

func (p *probe) view(g topology.Group, st *topology.State, links stats.Link) Group {
	p.mu.Lock()
	v := p.last
	p.mu.Unlock()
	rs := st.SlotsOf(g.ID)
	v.ID, v.Addr, v.Slots, v.Ranges, v.Links = g.ID, g.Addr, topology.CountSlots(rs), topology.FormatRanges(rs), links
	return v
}
