package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/topology"
)

// Endpoint is a server. It is declared where it is stored; an alias here spares those who
// connect from knowing of topology.
type Endpoint = topology.Endpoint

// Target is a server to connect to.
type Target struct {
	Endpoint
	DB    int
	Proto int    // RESP version; 0 is 2
	Name  string // CLIENT SETNAME; no spaces
}

// Dial connects, authenticates, names the connection and selects the protocol and the
// database; id is the server's CLIENT ID of it, or 0 where there is none. It has
// read every reply before it returns, so whatever the caller sends comes from a
// connection that the server knows by name: that is what fencing relies on. The deadline
// is ctx's. It blocks: never call it on a loop.
func Dial(ctx context.Context, t Target) (net.Conn, int64, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	c, err := d.DialContext(ctx, "tcp", t.Addr)
	if err != nil {
		return nil, 0, err
	}
	if dl, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(dl)
	}
	unhook := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer unhook()
	id, err := handshake(c, t)
	if err != nil {
		_ = c.Close()
		return nil, 0, err
	}
	_ = c.SetDeadline(time.Time{})
	return c, id, nil
}

func handshake(c net.Conn, t Target) (id int64, err error) {
	var cmds [][]string
	switch secret := t.Secret.Reveal(); {
	case t.User != "":
		cmds = append(cmds, []string{"AUTH", t.User, secret})
	case secret != "":
		cmds = append(cmds, []string{"AUTH", secret})
	}
	cmds = append(cmds, []string{"CLIENT", "SETNAME", t.Name}, []string{"SELECT", strconv.Itoa(t.DB)}, []string{"CLIENT", "ID"})
	if t.Proto == 3 {
		cmds = append(cmds, []string{"HELLO", "3"})
	}
	if _, err := c.Write(encode(cmds)); err != nil {
		return 0, err
	}
	r := bufio.NewReaderSize(c, 512)
	for _, cmd := range cmds {
		reply, err := ReadReply(r)
		switch {
		case err != nil:
			return 0, fmt.Errorf("handshake (%s): %w", cmd[0], err)
		case cmd[len(cmd)-1] == "ID":
			id, _ = resp.ParseInt(reply)
		case reply[0] == '-':
			return 0, fmt.Errorf("handshake (%s): %s", cmd[0], strings.TrimRight(string(reply[1:]), "\r\n"))
		}
	}
	return id, nil
}

// ReadReply reads one reply, of any type.
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
		if st == resp.Invalid || len(out) > 64<<20 {
			return nil, errors.New("the server does not speak RESP")
		}
		if st == resp.OK {
			return out, nil
		}
	}
}

func encode(cmds [][]string) []byte {
	var out []byte
	for _, cmd := range cmds {
		args := make([][]byte, len(cmd))
		for i, a := range cmd {
			args[i] = []byte(a)
		}
		out = resp.AppendRequest(out, args...)
	}
	return out
}

// Fence makes sure that no connection whose name match accepts can execute anything at
// the server any more: it kills those that the server lists until it lists none. It uses
// a new connection, and returns nil only on proof. A server that was restarted lists
// none, which is as good.
func Fence(ctx context.Context, t Target, match func(name string) bool) error {
	c, _, err := Dial(ctx, t)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if dl, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(dl)
	}
	r := bufio.NewReader(c)
	for {
		list, err := ask(c, r, "CLIENT", "LIST")
		if err != nil {
			return err
		}
		killed := 0
		for line := range strings.Lines(list) {
			id, name := clientIDAndName(line)
			if id == "" || name == t.Name || !match(name) {
				continue
			}
			if _, err := ask(c, r, "CLIENT", "KILL", "ID", id); err != nil {
				return err
			}
			killed++
		}
		if killed == 0 {
			return nil
		}
	}
}

func clientIDAndName(line string) (id, name string) {
	for _, f := range strings.Fields(line) {
		if v, ok := strings.CutPrefix(f, "id="); ok {
			id = v
		} else if v, ok := strings.CutPrefix(f, "name="); ok {
			name = v
		}
	}
	return id, name
}

// ask sends one command and gives the text of its reply, of whatever simple type.
func ask(c net.Conn, r *bufio.Reader, cmd ...string) (string, error) {
	if _, err := c.Write(encode([][]string{cmd})); err != nil {
		return "", err
	}
	reply, err := ReadReply(r)
	if err != nil {
		return "", err
	}
	if body, ok := resp.BulkBody(reply); ok {
		return string(body), nil
	}
	text := strings.TrimRight(string(reply[1:]), "\r\n")
	if reply[0] == '-' {
		return "", fmt.Errorf("%s: %s", strings.Join(cmd, " "), text)
	}
	return text, nil
}
