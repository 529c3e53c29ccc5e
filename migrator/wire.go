package migrator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"time"

	"keyferry/internal/topology"
)

// wire is one connection over which batches go, and like a link used by one goroutine,
// thrown away on the first network error, and known to the server by name. It is RESP2
// written and parsed by hand, because that costs a third of the CPU time that a general
// client takes for each key, and the CPU time of the gateway is what bounds a job.
//
//	begin ─► command, arg … ─► flush ─► reply, in the order of the commands
//
// What reply returns points into the connection's buffer and is valid until the next
// begin: the payloads of a batch are not copied until they are on their way to the target.
type wire struct {
	group topology.Group
	name  string
	info  serverInfo
	db    int

	c       net.Conn
	timeout time.Duration // of one exchange
	unhook  func() bool
	out     []byte // to be written by flush
	sendErr error  // of a write since begin
	in      []byte // received since begin; in[:r] has been parsed
	r       int
}

const (
	// Buffers that grew beyond this are given back when a batch is over.
	wireBufferKept = 2 << 20
	wireBufferMin  = 64 << 10
	wireRoomMin    = 4 << 10 // for one read
	// Arguments as large as this are written from where they are.
	wireArgWhole = 32 << 10
)

// errProtocol is returned when a server sends what is no reply to what was asked. The
// connection is of no use any more, and what was asked may have been executed.
var errProtocol = errors.New("the server does not speak RESP")

// serverError is an answer of the server that says no: the command was not executed.
type serverError string

func (e serverError) Error() string { return string(e) }

// RedisError makes it an error of the kind that refused looks for.
func (serverError) RedisError() {}

// dialWire connects and reads INFO; when it returns, the server knows the connection's
// name. The connection is closed when ctx ends: what is to stop now must not wait for a
// server that is silent.
func dialWire(ctx context.Context, g topology.Group, name string, timeout time.Duration) (*wire, error) {
	d := net.Dialer{Timeout: timeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	c, err := d.DialContext(ctx, "tcp", g.Addr)
	if err != nil {
		return nil, err
	}
	w := &wire{group: g, name: name, c: c, timeout: timeout}
	w.unhook = context.AfterFunc(ctx, func() { _ = c.Close() })
	if err := w.greet(ctx); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *wire) greet(ctx context.Context) error {
	w.begin(ctx)
	asked := 2
	if secret := w.group.Secret.Reveal(); secret != "" {
		w.command("AUTH", 1)
		w.arg(secret)
		asked++
	}
	w.command("CLIENT", 2)
	w.arg("SETNAME")
	w.arg(w.name)
	w.command("INFO", 0)
	if err := w.flush(); err != nil {
		return err
	}
	var last reply
	for range asked {
		var err error
		if last, err = w.answer(); err != nil {
			return err
		}
	}
	w.info = parseInfo(string(last.text))
	return nil
}

func (w *wire) close() {
	if w == nil {
		return
	}
	w.unhook()
	_ = w.c.Close()
}

// begin starts an exchange: whatever was received before is forgotten.
func (w *wire) begin(ctx context.Context) {
	w.renew(ctx)
	w.sendErr, w.r = nil, 0
	w.out, w.in = w.out[:0], w.in[:0]
	if cap(w.out) > wireBufferKept {
		w.out = nil
	}
	if cap(w.in) > wireBufferKept {
		w.in = nil
	}
}

// renew gives the exchange the full time again.
func (w *wire) renew(ctx context.Context) {
	deadline := time.Now().Add(w.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = w.c.SetDeadline(deadline) // fails on a closed connection only, and so will its use
}

// giveAway leaves what has been received to those who point there, for as long as they want.
func (w *wire) giveAway() { w.in, w.r = nil, 0 }

// command begins a command of a name and args arguments, which follow by arg.
func (w *wire) command(name string, args int) {
	w.head('*', int64(args)+1)
	w.arg(name)
}

// arg adds one argument.
func (w *wire) arg(s string) {
	w.head('$', int64(len(s)))
	w.out = append(append(w.out, s...), '\r', '\n')
}

// argBytes is arg for what may be large.
func (w *wire) argBytes(b []byte) {
	w.head('$', int64(len(b)))
	if len(b) < wireArgWhole {
		w.out = append(append(w.out, b...), '\r', '\n')
		return
	}
	w.write(w.out)
	w.write(b)
	w.out = append(w.out[:0], '\r', '\n')
}

func (w *wire) argInt(n int64) {
	var digits [20]byte
	d := strconv.AppendInt(digits[:0], n, 10)
	w.head('$', int64(len(d)))
	w.out = append(append(w.out, d...), '\r', '\n')
}

func (w *wire) head(kind byte, n int64) {
	w.out = append(w.out, kind)
	if n < 10 {
		w.out = append(w.out, byte('0'+n), '\r', '\n')
		return
	}
	w.out = append(strconv.AppendInt(w.out, n, 10), '\r', '\n')
}

func (w *wire) write(b []byte) {
	if w.sendErr == nil {
		_, w.sendErr = w.c.Write(b)
	}
}

// flush sends the commands. After an error it is not known which of them the server has
// received.
func (w *wire) flush() error {
	w.write(w.out)
	w.out = w.out[:0]
	return w.sendErr
}

// reply is one reply; of an array it is the count, and the elements follow.
type reply struct {
	kind byte  // '+', ':', '$', '*', or 0 for the null of either kind
	n    int64 // of ':' and '*'
	text []byte
}

// answer reads one reply. An error of the server is a serverError, after which the next
// reply can be read; after any other the connection is of no use.
func (w *wire) answer() (reply, error) {
	line, err := w.line()
	if err != nil {
		return reply{}, err
	}
	switch kind := line[0]; kind {
	case '+':
		return reply{kind: kind, text: line[1:]}, nil
	case '-':
		return reply{}, serverError(line[1:])
	case ':', '*', '$':
		n, ok := parseCount(line[1:])
		switch {
		case !ok:
			return reply{}, errProtocol
		case kind == ':':
			return reply{kind: kind, n: n}, nil
		case n < 0:
			return reply{}, nil
		case kind == '*':
			return reply{kind: kind, n: n}, nil
		}
		text, err := w.body(n)
		return reply{kind: kind, text: text}, err
	}
	return reply{}, errProtocol
}

// integer reads one reply that is a number.
func (w *wire) integer() (int64, error) {
	r, err := w.answer()
	if err == nil && r.kind != ':' {
		err = errProtocol
	}
	return r.n, err
}

// replyLineMax bounds a line of a reply; Redis's own are far shorter.
const replyLineMax = 64 << 10

// line returns the next line without its end.
func (w *wire) line() ([]byte, error) {
	for from := w.r; ; {
		if i := bytes.IndexByte(w.in[from:], '\n'); i >= 0 {
			end := from + i
			b := w.in[w.r:end]
			if len(b) < 2 || b[len(b)-1] != '\r' {
				return nil, errProtocol
			}
			w.r = end + 1
			return b[:len(b)-1], nil
		}
		if len(w.in)-w.r > replyLineMax {
			return nil, errProtocol
		}
		seen := len(w.in) - w.r
		if err := w.fill(); err != nil {
			return nil, err
		}
		from = w.r + seen
	}
}

// bulkMax guards against taking noise for a length. It is more than a DUMP can be long.
const bulkMax = 1 << 40

// body returns the next n bytes, behind which a line ends.
func (w *wire) body(n int64) ([]byte, error) {
	if n > bulkMax {
		return nil, errProtocol
	}
	for int64(len(w.in)-w.r) < n+2 {
		if err := w.fill(); err != nil {
			return nil, err
		}
	}
	b := w.in[w.r : w.r+int(n) : w.r+int(n)]
	w.r += int(n) + 2
	if w.in[w.r-2] != '\r' || w.in[w.r-1] != '\n' {
		return nil, errProtocol
	}
	return b, nil
}

// fill reads once. When there is little room it goes on in a larger buffer with what is
// not parsed yet; what has been parsed stays where it is for those who point there. A
// declared length takes memory only as its bytes come.
func (w *wire) fill() error {
	if cap(w.in)-len(w.in) < wireRoomMin {
		rest := w.in[w.r:]
		size := 2 * cap(w.in)
		if size > wireBufferKept && len(rest) < cap(w.in)/2 {
			size = cap(w.in) // not too small, only used up
		}
		w.in = append(make([]byte, 0, max(size, wireBufferMin)), rest...)
		w.r = 0
	}
	n, err := w.c.Read(w.in[len(w.in):cap(w.in)])
	w.in = w.in[:len(w.in)+n]
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

func parseCount(b []byte) (n int64, ok bool) {
	if len(b) > 0 && b[0] != '-' && len(b) < 19 { // the usual
		for _, c := range b {
			if c < '0' || c > '9' {
				return 0, false
			}
			n = 10*n + int64(c-'0')
		}
		return n, true
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil
}

// use selects a database when the connection is in another.
func (w *wire) use(ctx context.Context, db int) error {
	if w.db == db {
		return nil
	}
	w.begin(ctx)
	w.command("SELECT", 1)
	w.argInt(int64(db))
	if err := w.flush(); err != nil {
		return err
	}
	if _, err := w.answer(); err != nil {
		return err
	}
	w.db = db
	return nil
}
