package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// reply is one parsed RESP2 reply.
type reply struct {
	kind byte // + - : $ *; '_' for a nil bulk or array
	text string
	n    int64
	list []reply
}

func (r reply) String() string {
	switch r.kind {
	case ':':
		return strconv.FormatInt(r.n, 10)
	case '_':
		return "(nil)"
	case '*':
		return fmt.Sprint(r.list)
	}
	return r.text
}

func (r reply) isError() bool { return r.kind == '-' }

var errProtocol = errors.New("bench: the endpoint does not speak RESP2")

// conn is one client connection.
type conn struct {
	net.Conn
	r   *bufio.Reader
	out []byte
}

func dialConn(addr, password string, db int, timeout time.Duration) (*conn, error) {
	nc, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, r: bufio.NewReaderSize(nc, 64<<10)}
	_ = c.SetDeadline(time.Now().Add(timeout))
	var cmds [][]string
	if password != "" {
		cmds = append(cmds, []string{"AUTH", password})
	}
	if db != 0 {
		cmds = append(cmds, []string{"SELECT", strconv.Itoa(db)})
	}
	for _, cmd := range cmds {
		c.add(cmd...)
		if err := c.flush(); err != nil {
			return nil, err
		}
		r, err := c.read()
		if err == nil && r.isError() {
			err = errors.New(r.text)
		}
		if err != nil {
			_ = nc.Close()
			return nil, err
		}
	}
	_ = c.SetDeadline(time.Time{})
	return c, nil
}

// add puts a command into the next pipeline.
func (c *conn) add(args ...string) { c.out = appendCommand(c.out, args...) }

func appendCommand(b []byte, args ...string) []byte {
	b = append(b, '*')
	b = strconv.AppendInt(b, int64(len(args)), 10)
	b = append(b, "\r\n"...)
	for _, a := range args {
		b = append(b, '$')
		b = strconv.AppendInt(b, int64(len(a)), 10)
		b = append(b, "\r\n"...)
		b = append(b, a...)
		b = append(b, "\r\n"...)
	}
	return b
}

func (c *conn) flush() error {
	_, err := c.Write(c.out)
	c.out = c.out[:0]
	return err
}

func (c *conn) read() (reply, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return reply{}, err
	}
	if len(line) < 3 {
		return reply{}, errProtocol
	}
	kind, body := line[0], line[1:len(line)-2]
	switch kind {
	case '+', '-':
		return reply{kind: kind, text: string(body)}, nil
	case ':', '$', '*':
	default:
		return reply{}, errProtocol
	}
	n, err := strconv.ParseInt(string(body), 10, 64)
	if err != nil {
		return reply{}, errProtocol
	}
	if kind == ':' {
		return reply{kind: ':', n: n}, nil
	}
	if n < 0 {
		return reply{kind: '_'}, nil
	}
	if kind == '$' {
		b := make([]byte, n+2)
		if _, err := io.ReadFull(c.r, b); err != nil {
			return reply{}, err
		}
		return reply{kind: '$', text: string(b[:n])}, nil
	}
	r := reply{kind: '*'}
	for range n {
		e, err := c.read()
		if err != nil {
			return reply{}, err
		}
		r.list = append(r.list, e)
	}
	return r, nil
}
