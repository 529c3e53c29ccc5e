package bench

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"time"
)

// Endpoints are several addresses by which clients reach the same keys. Each client has one of them for its
// home. When it loses that, it goes to the next, and home again when it is told that home is back.
type Endpoints struct {
	Addrs []string // instead of OracleConfig.Addr
	// Silence is how long a client waits for a reply, about, before it gives its connection up: what is behind
	// the address may be frozen. 30 s.
	Silence time.Duration
}

// Side is what clients saw, of those whose address was taken down on purpose, or of the others.
type Side struct {
	Errors     int64 `json:"errors"`      // error replies
	ConnErrors int64 `json:"conn_errors"` // connections lost or refused
	// Since the last Down: as OracleStats has them.
	LongestStallMS  float64          `json:"longest_stall_ms"`
	LongestOutageMS float64          `json:"longest_outage_ms"`
	Texts           map[string]int64 `json:"texts"` // of all errors
}

// endpoint is one address.
type endpoint struct {
	addr string
	down atomic.Bool
	ups  atomic.Int64 // how often it was said to be back
}

// route is which endpoint a client uses.
//
// Who touches it: the goroutine of its client.
type route struct {
	home, at int
	ups      int64 // of home, when the client left it
	dialed   int64 // ups of the endpoint at when the client connected
	lost     int   // the side on which it lost its last connection
}

const (
	sideLiving = iota
	sideDown
	sides
)

// errorTextsShown bounds the different texts of errors that are counted apart.
const errorTextsShown = 50

func (s *Side) note(text string) {
	text = text[:min(len(text), errorTextsMax)]
	if s.Texts == nil {
		s.Texts = make(map[string]int64)
	}
	if _, known := s.Texts[text]; !known && len(s.Texts) >= errorTextsShown {
		text = "others"
	}
	s.Texts[text]++
}

func (s *Side) clone() Side {
	c := *s
	c.Texts = maps.Clone(s.Texts)
	return c
}

// Down says that what is behind an address is about to be taken down. Until Up, errors of clients that are
// connected there, or try to be, count for Down's side.
func (o *Oracle) Down(addr string) { o.turn(addr, true) }

// Up says that it is back: clients whose home it is go there when nothing of theirs is under way.
func (o *Oracle) Up(addr string) { o.turn(addr, false) }

func (o *Oracle) turn(addr string, down bool) {
	i := slices.IndexFunc(o.endpoints, func(e *endpoint) bool { return e.addr == addr })
	if i < 0 {
		return
	}
	o.endpoints[i].down.Store(down)
	if !down {
		o.endpoints[i].ups.Add(1)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for s := range o.sides {
		o.sides[s].LongestStallMS, o.sides[s].LongestOutageMS = 0, 0
	}
}

// endpoint is the one that the client uses.
func (c *oracleClient) endpoint() *endpoint { return c.oracle.endpoints[c.route.at] }

// side is whose errors the client's are.
func (c *oracleClient) side() int {
	if e := c.endpoint(); e.down.Load() || c.conn != nil && e.ups.Load() != c.route.dialed {
		return sideDown
	}
	return sideLiving
}

// leave has the client connect to the next endpoint.
func (c *oracleClient) leave() {
	r := &c.route
	if r.at == r.home {
		r.ups = c.endpoint().ups.Load()
	}
	r.at = (r.at + 1) % len(c.oracle.endpoints)
}

// goHome ends the connection to another endpoint when the client's own is back.
func (c *oracleClient) goHome() {
	r := &c.route
	if home := c.oracle.endpoints[r.home]; r.at != r.home && !home.down.Load() && home.ups.Load() != r.ups {
		c.close()
		r.at = r.home
	}
}

// stallNoted is the least stall that is worth a look.
const stallNoted = time.Millisecond

// noteStall notes how long the client waited while connected.
func (c *oracleClient) noteStall(stall time.Duration) {
	if stall >= stallNoted {
		c.noteSide(c.side(), func(s *Side) { s.LongestStallMS = max(s.LongestStallMS, milliseconds(stall)) })
	}
}

// connText is the error of a connection without its addresses, which are others each time.
func connText(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// noteSide changes what is counted of the client's side.
func (c *oracleClient) noteSide(side int, change func(*Side)) {
	c.oracle.mu.Lock()
	defer c.oracle.mu.Unlock()
	change(&c.oracle.sides[side])
}

// connect connects the client, or has it try the next endpoint a moment later.
func (c *oracleClient) connect(ctx context.Context) error {
	err := c.dial(ctx)
	if err == nil {
		return nil
	}
	if err := c.lostConn(ctx, err); err != nil {
		return err
	}
	sleep(ctx, &c.timer, redialPause)
	return nil
}
