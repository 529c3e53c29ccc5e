package upstream

import (
	"context"
	"net"
	"strconv"
	"time"
)

// Conn is one blocking connection over which batches of commands go: for movers, fences and
// whatever else waits for its answers off the loops. It is RESP2 written and parsed by hand,
// because that costs a third of the CPU time that a general client takes for each key, and
// the CPU time of the gateway is what bounds a job.
//
//	Begin ─► Command, Arg … ─► Flush ─► Answer, in the order of the commands
//
// One goroutine uses it, which owns it and throws it away on the first error that is not a
// ServerError: what had been sent may then have been executed, and only a Fence of its Name
// tells that it will not be any more. It is closed when the context that it was made with
// ends: what is to stop now must not wait for a server that is silent.
//
// What Answer returns points into the connection's buffer and is valid until the next
// Begin: the payloads of a batch are not copied until they are on their way to the target.
type Conn struct {
	Name string // that the server knows it by
	ID   int64  // CLIENT ID at the server; 0: not known

	socket  net.Conn
	timeout time.Duration // of one exchange
	unhook  func() bool   // ends the watch over the context
	db      int           // selected

	out     []byte // to be written by Flush
	sendErr error  // of a write since Begin
	in      []byte // received since Begin; in[:r] has been parsed
	r       int
}

const (
	// Buffers that grew beyond this are given back when a batch is over.
	bufferKept = 2 << 20
	bufferMin  = 64 << 10
	roomMin    = 4 << 10 // for one read
	// Arguments as large as this are written from where they are.
	argWhole = 32 << 10
)

// Conn connects. One exchange may take as long as timeout, and so may connecting.
func (d *Dialer) Conn(ctx context.Context, t Target, timeout time.Duration) (*Conn, error) {
	dialing, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s, err := d.Dial(dialing, t)
	if err != nil {
		return nil, err
	}
	return NewConn(ctx, s, timeout), nil
}

// NewConn takes over a connection, whose life is to be another than that of the dial.
func NewConn(ctx context.Context, s *Dialed, timeout time.Duration) *Conn {
	return &Conn{Name: s.Name, ID: s.ID, socket: s.Conn, timeout: timeout, db: s.DB,
		unhook: context.AfterFunc(ctx, func() { _ = s.Close() })}
}

// Close ends it. Nil has been closed.
func (c *Conn) Close() {
	if c == nil {
		return
	}
	c.unhook()
	_ = c.socket.Close()
}

// Do sends one command and waits for its answer.
func (c *Conn) Do(ctx context.Context, cmd ...string) (Reply, error) {
	c.Begin(ctx)
	c.Command(cmd[0], len(cmd)-1)
	for _, arg := range cmd[1:] {
		c.Arg(arg)
	}
	if err := c.Flush(); err != nil {
		return Reply{}, err
	}
	return c.Answer()
}

// Begin starts an exchange: whatever was received before is forgotten.
func (c *Conn) Begin(ctx context.Context) {
	c.Renew(ctx)
	c.sendErr, c.r = nil, 0
	c.out, c.in = c.out[:0], c.in[:0]
	if cap(c.out) > bufferKept {
		c.out = nil
	}
	if cap(c.in) > bufferKept {
		c.in = nil
	}
}

// Renew gives the exchange the full time again.
func (c *Conn) Renew(ctx context.Context) {
	deadline := time.Now().Add(c.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = c.socket.SetDeadline(deadline) // fails on a closed connection only, and so will its use
}

// GiveAway leaves what has been received to those who point there, for as long as they want.
func (c *Conn) GiveAway() { c.in, c.r = nil, 0 }

// Command begins a command of a name and args arguments, which follow by arg.
func (c *Conn) Command(name string, args int) {
	c.head('*', int64(args)+1)
	c.Arg(name)
}

// Arg adds one argument.
func (c *Conn) Arg(s string) {
	c.head('$', int64(len(s)))
	c.out = append(append(c.out, s...), '\r', '\n')
}

// ArgBytes is arg for what may be large.
func (c *Conn) ArgBytes(b []byte) {
	c.head('$', int64(len(b)))
	if len(b) < argWhole {
		c.out = append(append(c.out, b...), '\r', '\n')
		return
	}
	c.write(c.out)
	c.write(b)
	c.out = append(c.out[:0], '\r', '\n')
}

func (c *Conn) ArgInt(n int64) {
	var digits [20]byte
	d := strconv.AppendInt(digits[:0], n, 10)
	c.head('$', int64(len(d)))
	c.out = append(append(c.out, d...), '\r', '\n')
}

func (c *Conn) head(kind byte, n int64) {
	c.out = append(c.out, kind)
	if n < 10 {
		c.out = append(c.out, byte('0'+n), '\r', '\n')
		return
	}
	c.out = append(strconv.AppendInt(c.out, n, 10), '\r', '\n')
}

func (c *Conn) write(b []byte) {
	if c.sendErr == nil {
		_, c.sendErr = c.socket.Write(b)
	}
}

// Flush sends the commands. After an error it is not known which of them the server has
// received.
func (c *Conn) Flush() error {
	c.write(c.out)
	c.out = c.out[:0]
	return c.sendErr
}

// Use selects a database when the connection is in another.
func (c *Conn) Use(ctx context.Context, db int) error {
	if c.db == db {
		return nil
	}
	c.Begin(ctx)
	c.Command("SELECT", 1)
	c.ArgInt(int64(db))
	if err := c.Flush(); err != nil {
		return err
	}
	if _, err := c.Answer(); err != nil {
		return err
	}
	c.db = db
	return nil
}
