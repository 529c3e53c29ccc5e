package proxy

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/upstream"
	"keyferry/router"
)

// What INFO says of data comes from the data servers. They are asked off the loops, on a
// connection of its own to each group, all at once and with a deadline, so that a server
// that is silent costs INFO a second and its own part, and nobody else anything.

// dataTimeout is how long a server may take to be asked.
const dataTimeout = time.Second

// summed are the fields of INFO stats that are those of all groups together.
var summed = []string{"expired_keys", "evicted_keys", "keyspace_hits", "keyspace_misses"}

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

type dataConn struct {
	to   upstream.Endpoint
	conn net.Conn
	r    *bufio.Reader
}

func (r *report) fromServers() *dataInfo {
	if r.data == nil {
		r.data = r.s.askServers(r.s.ctx)
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
	table := s.table
	s.mu.Unlock()
	d := &dataInfo{dbs: make(map[int]*dbInfo), sums: make(map[string]int64)}
	c := &s.dataConns
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keepOnly(table)
	ctx, cancel := context.WithTimeout(ctx, dataTimeout)
	defer cancel()
	texts := make(chan string)
	serving := table.Serving()
	for _, g := range serving {
		x := c.all[table.Groups[g].ID]
		go func() { texts <- x.ask(ctx, s) }()
	}
	for range serving {
		d.add(<-texts)
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
	if x.conn != nil {
		_ = x.conn.Close()
		x.conn = nil
	}
}

// ask returns what the server says of itself; "" if it does not answer. A connection that
// had been kept may have ended, so a second one is tried.
func (x *dataConn) ask(ctx context.Context, s *Server) string {
	for kept := x.conn != nil; ; kept = false {
		if text, err := x.once(ctx, s); err == nil {
			return text
		}
		x.close()
		if !kept || ctx.Err() != nil {
			return ""
		}
	}
}

func (x *dataConn) once(ctx context.Context, s *Server) (string, error) {
	if x.conn == nil {
		conn, _, err := upstream.Dial(ctx, upstream.Target{Endpoint: x.to,
			Name: fmt.Sprintf("%s%d", ConnPrefix(s.opt.Name, s.opt.Incarnation), s.nextConn.Add(1))})
		if err != nil {
			return "", err
		}
		x.conn, x.r = conn, bufio.NewReader(conn)
	}
	if dl, ok := ctx.Deadline(); ok {
		_ = x.conn.SetDeadline(dl)
	}
	defer context.AfterFunc(ctx, x.interrupt(x.conn))()
	frame := resp.AppendRequest(nil, []byte("INFO"), []byte("stats"))
	if _, err := x.conn.Write(resp.AppendRequest(frame, []byte("INFO"), []byte("keyspace"))); err != nil {
		return "", err
	}
	text := ""
	for range 2 {
		reply, err := upstream.ReadReply(x.r)
		if err != nil {
			return "", err
		}
		text += string(reply)
	}
	return text, nil
}

// interrupt ends a read when the gateway stops.
func (x *dataConn) interrupt(c net.Conn) func() { return func() { _ = c.SetDeadline(time.Now()) } }

// add takes over what one server has said.
func (d *dataInfo) add(text string) {
	for line := range strings.SplitSeq(text, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		for _, want := range summed {
			if name == want {
				n, _ := strconv.ParseInt(value, 10, 64)
				d.sums[name] += n
			}
		}
		if db, err := strconv.Atoi(strings.TrimPrefix(name, "db")); err == nil && strings.HasPrefix(name, "db") {
			d.addDB(db, value)
		}
	}
}

func (d *dataInfo) addDB(db int, fields string) {
	x := d.dbs[db]
	if x == nil {
		x = &dbInfo{}
		d.dbs[db] = x
	}
	var keys, expires, ttl int64
	for pair := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(pair, "=")
		n, _ := strconv.ParseInt(value, 10, 64)
		switch name {
		case "keys":
			keys = n
		case "expires":
			expires = n
		case "avg_ttl":
			ttl = n
		}
	}
	x.keys += keys
	x.expires += expires
	x.ttls += float64(expires) * float64(ttl)
}
