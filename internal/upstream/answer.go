package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"

	"keyferry/internal/resp"
)

// ErrProtocol is returned when a server sends what is no reply to what was asked. The
// connection is of no use any more, and what was asked may have been executed.
var ErrProtocol = errors.New("the server does not speak RESP")

// ServerError is an answer of the server that says no: the command was not executed.
type ServerError string

func (e ServerError) Error() string { return string(e) }

// RedisError makes it an error of the kind that go-redis returns.
func (ServerError) RedisError() {}

// Reply is one reply; of an array it is the count, and the elements follow.
type Reply struct {
	Kind byte  // '+', ':', '$', '*', or 0 for the null of either kind
	N    int64 // of ':' and '*'
	Text []byte
}

// Answer reads one reply. An error of the server is a ServerError, after which the next
// reply can be read; after any other the connection is of no use.
func (c *Conn) Answer() (Reply, error) {
	line, err := c.line()
	if err != nil {
		return Reply{}, err
	}
	switch kind := line[0]; kind {
	case '+':
		return Reply{Kind: kind, Text: line[1:]}, nil
	case '-':
		return Reply{}, ServerError(line[1:])
	case ':', '*', '$':
		n, ok := parseCount(line[1:])
		switch {
		case !ok:
			return Reply{}, ErrProtocol
		case kind == ':':
			return Reply{Kind: kind, N: n}, nil
		case n < 0:
			return Reply{}, nil
		case kind == '*':
			return Reply{Kind: kind, N: n}, nil
		}
		text, err := c.body(n)
		return Reply{Kind: kind, Text: text}, err
	}
	return Reply{}, ErrProtocol
}

// Integer reads one reply that is a number.
func (c *Conn) Integer() (int64, error) {
	r, err := c.Answer()
	if err == nil && r.Kind != ':' {
		err = ErrProtocol
	}
	return r.N, err
}

// replyLineMax bounds a line of a reply; Redis's own are far shorter.
const replyLineMax = 64 << 10

// line returns the next line without its end.
func (c *Conn) line() ([]byte, error) {
	for from := c.r; ; {
		if i := bytes.IndexByte(c.in[from:], '\n'); i >= 0 {
			end := from + i
			b := c.in[c.r:end]
			if len(b) < 2 || b[len(b)-1] != '\r' {
				return nil, ErrProtocol
			}
			c.r = end + 1
			return b[:len(b)-1], nil
		}
		if len(c.in)-c.r > replyLineMax {
			return nil, ErrProtocol
		}
		seen := len(c.in) - c.r
		if err := c.fill(); err != nil {
			return nil, err
		}
		from = c.r + seen
	}
}

// bulkMax guards against taking noise for a length. It is more than a DUMP can be long.
const bulkMax = 1 << 40

// body returns the next n bytes, behind which a line ends.
func (c *Conn) body(n int64) ([]byte, error) {
	if n > bulkMax {
		return nil, ErrProtocol
	}
	for int64(len(c.in)-c.r) < n+2 {
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
	b := c.in[c.r : c.r+int(n) : c.r+int(n)]
	c.r += int(n) + 2
	if c.in[c.r-2] != '\r' || c.in[c.r-1] != '\n' {
		return nil, ErrProtocol
	}
	return b, nil
}

// fill reads once. When there is little room it goes on in a larger buffer with what is
// not parsed yet; what has been parsed stays where it is for those who point there. A
// declared length takes memory only as its bytes come.
func (c *Conn) fill() error {
	if cap(c.in)-len(c.in) < roomMin {
		rest := c.in[c.r:]
		size := 2 * cap(c.in)
		if size > bufferKept && len(rest) < cap(c.in)/2 {
			size = cap(c.in) // not too small, only used up
		}
		c.in = append(make([]byte, 0, max(size, bufferMin)), rest...)
		c.r = 0
	}
	n, err := c.socket.Read(c.in[len(c.in):cap(c.in)])
	c.in = c.in[:len(c.in)+n]
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

// replyMax bounds a reply that ReadReply keeps.
const replyMax = 64 << 20

// ReadReply reads one whole reply of any type of RESP2 or RESP3, as it is on the wire. It
// serves those whom a server also tells what they have not asked for.
func ReadReply(r *bufio.Reader) ([]byte, error) {
	var scan resp.ReplyScanner
	var out []byte
	for {
		if _, err := r.Peek(1); err != nil {
			return nil, err
		}
		b, _ := r.Peek(r.Buffered())
		n, st := scan.Scan(b)
		out = append(out, b[:n]...)
		_, _ = r.Discard(n)
		if st == resp.Invalid || len(out) > replyMax {
			return nil, ErrProtocol
		}
		if st == resp.OK {
			return out, nil
		}
	}
}
