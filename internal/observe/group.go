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

// Group is a group as the State has it, with what its primary said last and how many
// connections of this gateway's loops lead there. It is a value: a snapshot has its own.
type Group struct {
	ID     string `json:"id"`
	Addr   string `json:"addr"`
	Slots  int    `json:"slots"`
	Ranges string `json:"ranges"`
	Primary
	Links stats.Link `json:"links"` // of this gateway's loops
}

// Primary is what a probe knows of its server. When the server does not answer, only Reach
// changes: the rest is what it said last.
type Primary struct {
	Reach
	Said
	Direct int      `json:"strangers"`                // direct clients: see upstream.Client.Direct
	Who    []string `json:"strangers_list,omitempty"` // some of them
}

// Reach is whether a server answers.
type Reach struct {
	Up     bool    `json:"up"` // the last probe was answered
	State  string  `json:"state"`
	Error  string  `json:"error,omitempty"`
	DownMs int64   `json:"down_since_ms,omitempty"` // Unix time; 0: it is not down, or since when is not known
	SeenMs int64   `json:"seen_ms"`                 // Unix time of the last answer; 0: never
	PingUs float64 `json:"ping_us"`
}

// What a group's State can be.
const (
	Unknown = "unknown" // nobody has tried yet
	Up      = "up"
	Down    = "down"    // it can't be reached, or does not answer
	Refuses = "refuses" // it answers, and refuses new connections, as for a wrong password
)

// Said is what one reply to INFO says.
type Said struct {
	Version  string   `json:"version"`
	Role     string   `json:"role"`
	Memory   int64    `json:"memory"`
	Limit    int64    `json:"memory_limit"` // 0: none
	Policy   string   `json:"policy"`
	Keys     int64    `json:"keys"`
	Ops      float64  `json:"ops"` // per second, all clients of the server
	Total    uint64   `json:"-"`   // commands processed
	Clients  int64    `json:"clients"`
	Replicas []string `json:"replicas"`
}

// probe asks one primary how it is, over and over. The Observer owns it, for as long as a
// group has its endpoint; its goroutine is the only user of client, and ends with cancel.
type probe struct {
	to      topology.Endpoint
	cancel  context.CancelFunc
	client  *redis.Client
	outages *outages

	mu   sync.Mutex // protects what follows
	last Primary    // written by the probe, read by snapshots
	id   string     // the run id that it has said last, at last.SeenMs
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
			p := &probe{to: g.Endpoint, cancel: cancel, client: o.c.Dialer.Client(upstream.Target{Endpoint: g.Endpoint}, probeBound), outages: o.outages}
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
	text, own := "", int64(0)
	if err == nil {
		pipe := p.client.Pipeline()
		info, exists := pipe.Info(ctx), pipe.Exists(ctx, topology.StampKey)
		_, err = pipe.Exec(ctx)
		if text, own = info.Val(), exists.Val(); text != "" { // it may refuse to tell of the stamp
			err = nil
		}
	}
	var direct []upstream.Client
	listed := false
	if err == nil && n%directEvery == 0 {
		if list, e := p.client.ClientList(ctx).Result(); e == nil {
			direct, listed = upstream.DirectClients(list), true
		}
	}
	if err == nil {
		p.outages.answered(p.to, time.Now())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	g := &p.last
	if g.Up = err == nil; err != nil {
		g.Error = err.Error()
		return
	}
	g.Error, g.SeenMs, g.PingUs = "", time.Now().UnixMilli(), us(ping)
	info := upstream.ParseInfo(text)
	g.Said, p.id = said(info.Without(own)), info.Get("run_id")
	if listed {
		g.Direct, g.Who = len(direct), nil
		for _, c := range direct[:min(len(direct), directShown)] {
			g.Who = append(g.Who, strings.TrimSpace(c.Addr+" "+c.Name))
		}
	}
}

// said takes what INFO says.
func said(i upstream.Info) Said {
	s := Said{
		Version: cmp.Or(i.Get("valkey_version"), i.Get("redis_version")), Role: i.Get("role"), Policy: i.Get("maxmemory_policy"),
		Memory: i.Int("used_memory"), Limit: i.Int("maxmemory"), Clients: i.Int("connected_clients"), Keys: i.Keys(),
		Ops: float64(i.Int("instantaneous_ops_per_sec")), Total: uint64(i.Int("total_commands_processed")),
	}
	for _, r := range i.Replicas() {
		s.Replicas = append(s.Replicas, r.Addr+" "+r.State)
	}
	return s
}

// Seen is the run id that a group's server has said last, and when; "": none yet.
func (o *Observer) Seen(g topology.Group) (runID string, at time.Time) {
	o.mu.Lock()
	p := o.probes[g.ID]
	o.mu.Unlock()
	if p == nil || p.to != g.Endpoint {
		return "", at
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id, time.UnixMilli(p.last.SeenMs)
}

func (p *probe) view(g topology.Group, st *topology.State, links stats.Link) Group {
	p.mu.Lock()
	defer p.mu.Unlock()
	rs := st.SlotsOf(g.ID)
	now := p.last
	now.Reach = p.outages.add(now.Reach, g.Endpoint)
	return Group{ID: g.ID, Addr: g.Addr, Slots: topology.CountSlots(rs), Ranges: topology.FormatRanges(rs), Primary: now, Links: links}
}
