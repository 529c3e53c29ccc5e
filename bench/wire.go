package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// Limits on what an endpoint may send us.
const (
	bulkBytesMax  = 512 << 20
	arrayElemsMax = 64 << 20
	arrayDepthMax = 8
)

var (
	// errProtocol is returned when the endpoint sends what is not RESP2.
	errProtocol = errors.New("bench: protocol error in a reply")
	// errNeedMore is returned when the buffer ends inside a reply.
	errNeedMore = errors.New("bench: reply is incomplete")
)

// appendCommand appends a command of strings as RESP.
func appendCommand(dst []byte, args ...string) []byte {
	dst = appendHeader(dst, '*', len(args))
	for _, arg := range args {
		dst = appendHeader(dst, '$', len(arg))
		dst = append(dst, arg...)
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// appendArg appends one argument; the command's header comes before it.
func appendArg(dst, arg []byte) []byte {
	dst = appendHeader(dst, '$', len(arg))
	dst = append(dst, arg...)
	return append(dst, "\r\n"...)
}

func appendHeader(dst []byte, kind byte, n int) []byte {
	dst = append(dst, kind)
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, "\r\n"...)
}

// wire is one connection to the endpoint, with its own read buffer. buf[r:w] has
// been received and not yet parsed.
type wire struct {
	net.Conn
	buf     []byte
	r, w    int
	scanned int // bytes from r on that scan has stepped over
	pending int // replies, nested ones included, that scan has yet to step over
}

// dial connects, logs in and selects the database.
func dial(ctx context.Context, addr, password string, db int, timeout time.Duration) (*wire, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &wire{Conn: conn, buf: make([]byte, 64<<10)}
	if err := c.greet(ctx, password, db); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return c, nil
}

func (c *wire) greet(ctx context.Context, password string, db int) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if password != "" {
		if err := c.ask("AUTH", password); err != nil {
			return err
		}
	}
	if db != 0 {
		return c.ask("SELECT", strconv.Itoa(db))
	}
	return nil
}

// ask sends one command and wants a reply that is no error.
func (c *wire) ask(args ...string) error {
	if _, err := c.Write(appendCommand(nil, args...)); err != nil {
		return err
	}
	var v reply
	for {
		err := c.next(&v)
		if err == nil && v.kind == '-' {
			return errors.New(string(v.text))
		}
		if !errors.Is(err, errNeedMore) {
			return err
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// fill reads once from the socket. It makes room first: parsed bytes go, and a
// reply that is larger than the buffer doubles it.
func (c *wire) fill() error {
	switch {
	case c.r == c.w:
		c.r, c.w = 0, 0
	case c.r > 0 && c.w == len(c.buf):
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.buf) {
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
	n, err := c.Conn.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// skip steps over one reply. It returns the text of an error reply, which is
// valid until the next fill, and errNeedMore when the reply is not all there.
func (c *wire) skip() (errorText []byte, err error) {
	size, err := c.scan()
	if err != nil {
		return nil, err
	}
	if c.buf[c.r] == '-' {
		errorText = c.buf[c.r+1 : c.r+size-2]
	}
	c.r += size
	return errorText, nil
}

// scan returns the length of the reply that begins at buf[r]. When it is not all
// there, the next call goes on where this one stopped: a large array that arrives
// in a thousand pieces is stepped over once.
func (c *wire) scan() (size int, err error) {
	if c.pending == 0 {
		c.pending, c.scanned = 1, 0
	}
	for c.pending > 0 {
		size, elems, err := scanOne(c.buf[c.r+c.scanned : c.w])
		if err != nil {
			return 0, err
		}
		c.scanned += size
		c.pending += elems - 1
	}
	return c.scanned, nil
}

// scanOne returns the length of the reply at the start of b; of an array that is
// the header only, and elems replies follow.
func scanOne(b []byte) (size, elems int, err error) {
	head, size, err := line(b)
	if err != nil {
		return 0, 0, err
	}
	switch head[0] {
	case '+', ':', '-':
		return size, 0, nil
	case '$':
		n, err := length(head[1:], bulkBytesMax)
		if err != nil || n < 0 {
			return size, 0, err
		}
		if len(b) < size+n+2 {
			return 0, 0, errNeedMore
		}
		return size + n + 2, 0, nil
	case '*':
		n, err := length(head[1:], arrayElemsMax)
		return size, max(n, 0), err
	}
	return 0, 0, fmt.Errorf("%w: %q", errProtocol, head)
}

// line returns the first line of b, without its CRLF, and its length with it.
func line(b []byte) (head []byte, size int, err error) {
	for i := 1; i < len(b); i++ {
		if b[i] == '\n' {
			if i < 2 || b[i-1] != '\r' {
				return nil, 0, errProtocol
			}
			return b[:i-1], i + 1, nil
		}
	}
	return nil, 0, errNeedMore
}

// length parses the number of a header; -1, the null, is the only negative one.
func length(digits []byte, most int) (int, error) {
	n, err := strconv.Atoi(string(digits))
	if err != nil || n < -1 || n > most {
		return 0, fmt.Errorf("%w: length %q", errProtocol, digits)
	}
	return n, nil
}

// reply is one parsed reply. Its byte slices point into the connection's buffer
// and are valid until the next fill.
type reply struct {
	kind  byte // '+', '-', ':', '$', '*', or 0 for the null of either kind
	n     int64
	text  []byte
	elems []reply
}

// next parses one reply into v, reusing what v has allocated before.
func (c *wire) next(v *reply) error {
	size, err := c.scan()
	if err != nil {
		return err
	}
	_, err = parseReply(c.buf[c.r:c.r+size], v, 0)
	c.r += size
	return err
}

func parseReply(b []byte, v *reply, depth int) (size int, err error) {
	head, size, err := line(b)
	if err != nil {
		return 0, err
	}
	v.kind, v.n, v.text, v.elems = head[0], 0, head[1:], v.elems[:0]
	switch v.kind {
	case '+', '-':
		return size, nil
	case ':':
		if v.n, err = strconv.ParseInt(string(v.text), 10, 64); err != nil {
			return 0, fmt.Errorf("%w: integer %q", errProtocol, v.text)
		}
		return size, nil
	case '$':
		n, err := length(v.text, bulkBytesMax)
		if err != nil {
			return 0, err
		}
		if n < 0 {
			v.kind, v.text = 0, nil
			return size, nil
		}
		if len(b) < size+n+2 {
			return 0, errNeedMore
		}
		v.text = b[size : size+n]
		return size + n + 2, nil
	case '*':
		return parseArray(b, size, v, depth)
	}
	return 0, fmt.Errorf("%w: %q", errProtocol, head)
}

// parseArray parses the elements of the array whose header took size bytes.
func parseArray(b []byte, size int, v *reply, depth int) (int, error) {
	n, err := length(v.text, arrayElemsMax)
	if err != nil || depth == arrayDepthMax {
		return 0, errors.Join(err, errProtocol)
	}
	v.text = nil
	if n < 0 {
		v.kind = 0
		return size, nil
	}
	for i := range n {
		if i < cap(v.elems) {
			v.elems = v.elems[:i+1]
		} else {
			v.elems = append(v.elems, reply{})
		}
		elem, err := parseReply(b[size:], &v.elems[i], depth+1)
		if err != nil {
			return 0, err
		}
		size += elem
	}
	return size, nil
}
