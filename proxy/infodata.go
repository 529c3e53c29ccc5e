package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"keyferry/internal/upstream"
	"keyferry/router"
)

// What INFO says of data comes from the data servers. They are asked off the loops, on a
// connection of its own to each group, all at once and with a deadline, so that a server
// that is silent costs INFO a second and its own part, and nobody else anything.

// dataTimeout is how long a server may take to be asked.
const dataTimeout = time.Second

// summed are the fields of INFO stats that are those of all groups together.
var summed = []string{"expired_keys", "evicted_keys", "keyspace_hits", "keyspace_misses", "lazyfree_pending_objects", "lazyfreed_objects"}

// greatest are the fields of INFO memory that every group has alike, since libraries are loaded at
// all of them: a group that was added since may have fewer.
var greatest = []string{"number_of_functions", "number_of_libraries"}

// dataInfo is the sum over the groups that serve slots.
type dataInfo struct {
	dbs  map[int]*dbInfo
	sums map[string]int64
}

// dbInfo is one line of INFO keyspace.
type dbInfo struct {
	keys, expires int64
	ttls          float64 // ms, of all keys that expire together
}

// dataConns are connections to the groups for this one purpose, kept between two INFOs.
type dataConns struct {
	mu  sync.Mutex // protects all; held while servers are asked, so that one INFO asks at a time
	all map[string]*dataConn
}

// dataConn is kept from one INFO to the next, since a monitoring tool asks every few seconds.
type dataConn struct {
	to   upstream.Endpoint
	conn *upstream.Conn // nil: none stands
}

// fromServers: asked once for each INFO, and of all servers at the same time: the slowest decides, within a
// bound.
func (r *report) fromServers() *dataInfo {
	if r.data == nil {
		r.data = r.s.askServers(r.s.life.ctx)
	}
	return r.data
}

// keyspace counts a key that is being moved at both ends, for a moment.
func (r *report) keyspace() {
	d := r.fromServers()
	for db := range r.s.databases() {
		x := d.dbs[db]
		if x == nil {
			continue
		}
		avg := int64(0)
		if x.expires > 0 {
			avg = int64(x.ttls / float64(x.expires))
		}
		r.put(fmt.Sprintf("db%d", db), fmt.Sprintf("keys=%d,expires=%d,avg_ttl=%d", x.keys, x.expires, avg))
	}
}

// askServers sums up what the groups that serve slots say; those that do not answer in
// time are left out.
func (s *Server) askServers(ctx context.Context) *dataInfo {
	s.mu.Lock()
	table := s.mu.table
	s.mu.Unlock()
	d := &dataInfo{dbs: make(map[int]*dbInfo), sums: make(map[string]int64)}
	c := &s.dataConns
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keepOnly(table)
	ctx, cancel := context.WithTimeout(ctx, dataTimeout)
	defer cancel()
	answers := make(chan upstream.Info)
	serving := table.Serving()
	for _, g := range serving {
		x := c.all[table.Groups[g].ID]
		go func() { answers <- x.ask(ctx, s) }()
	}
	for range serving {
		d.add(<-answers)
	}
	return d
}

// keepOnly makes all the connections to the groups of a table.
func (c *dataConns) keepOnly(t *router.Table) {
	old := c.all
	c.all = make(map[string]*dataConn)
	for _, g := range t.Groups {
		x := old[g.ID]
		if x == nil || x.to != g.Endpoint {
			x = &dataConn{to: g.Endpoint}
		} else {
			delete(old, g.ID)
		}
		c.all[g.ID] = x
	}
	for _, x := range old {
		x.close()
	}
}

func (c *dataConns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.all {
		x.close()
	}
}

func (x *dataConn) close() {
	x.conn.Close()
	x.conn = nil
}

// ask returns what the server says of itself; nothing if it does not answer. A connection
// that had been kept may have ended, so a second one is tried.
func (x *dataConn) ask(ctx context.Context, s *Server) upstream.Info {
	for kept := x.conn != nil; ; kept = false {
		if info, err := x.once(ctx, s); err == nil {
			return info
		}
		x.close()
		if !kept || ctx.Err() != nil {
			return upstream.Info{}
		}
	}
}

// sectionsAsked are the parts of a server's INFO that the gateway's own is made of.
var sectionsAsked = []string{"stats", "memory", "keyspace"}

func (x *dataConn) once(ctx context.Context, s *Server) (upstream.Info, error) {
	if x.conn == nil {
		d, err := s.opt.Dialer.Dial(ctx, upstream.Target{Endpoint: x.to})
		if err != nil {
			return upstream.Info{}, err
		}
		x.conn = upstream.NewConn(s.life.ctx, d, dataTimeout) // kept for longer than this INFO
	}
	x.conn.Begin(ctx)
	for _, section := range sectionsAsked {
		x.conn.Command("INFO", 1)
		x.conn.Arg(section)
	}
	x.conn.Command("EXISTS", 1)
	x.conn.Arg(router.StampKey)
	if err := x.conn.Flush(); err != nil {
		return upstream.Info{}, err
	}
	text := ""
	for range sectionsAsked {
		r, err := x.conn.Answer()
		if err != nil {
			return upstream.Info{}, err
		}
		text += string(r.Text)
	}
	own, err := x.conn.Answer()
	if err != nil && !errors.As(err, new(upstream.ServerError)) {
		return upstream.Info{}, err
	}
	return upstream.ParseInfo(text).Without(own.N), nil
}

// add takes over what one server has said.
func (d *dataInfo) add(info upstream.Info) {
	for _, field := range summed {
		d.sums[field] += info.Int(field)
	}
	for _, field := range greatest {
		d.sums[field] = max(d.sums[field], info.Int(field))
	}
	for db, k := range info.Keyspace() {
		x := d.dbs[db]
		if x == nil {
			x = &dbInfo{}
			d.dbs[db] = x
		}
		x.keys += k.Keys
		x.expires += k.Expires
		x.ttls += float64(k.Expires) * float64(k.AvgTTLMs)
	}
}
