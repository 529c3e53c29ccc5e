package upstream

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"keyferry/internal/resp"
)

// Target is a server to connect to.
type Target struct {
	Addr     string // host:port
	Password string
	DB       int
	Name     string // CLIENT SETNAME; no spaces
}

// Dial connects, authenticates, names the connection and selects the database. It has
// read every reply before it returns, so whatever the caller sends comes from a
// connection that the server knows by name: that is what fencing relies on. The deadline
// is ctx's. It blocks: never call it on a loop.
func Dial(ctx context.Context, t Target) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	c, err := d.DialContext(ctx, "tcp", t.Addr)
	if err != nil {
		return nil, err
	}
	if dl, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(dl)
	}
	unhook := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer unhook()
	if err := handshake(c, t); err != nil {
		_ = c.Close()
		return nil, err
	}
	_ = c.SetDeadline(time.Time{})
	return c, nil
}

func handshake(c net.Conn, t Target) error {
	var cmds [][]string
	if t.Password != "" {
		cmds = append(cmds, []string{"AUTH", t.Password})
	}
	cmds = append(cmds, []string{"CLIENT", "SETNAME", t.Name}, []string{"SELECT", strconv.Itoa(t.DB)})
	if _, err := c.Write(encode(cmds)); err != nil {
		return err
	}
	r := bufio.NewReaderSize(c, 512)
	for _, cmd := range cmds {
		line, err := r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("handshake (%s): %w", cmd[0], err)
		}
		if !strings.HasPrefix(line, "+OK") {
			return fmt.Errorf("handshake (%s): %s", cmd[0], strings.TrimRight(line, "\r\n"))
		}
	}
	return nil
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
	c, err := Dial(ctx, t)
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

// ask sends one command and reads a line or bulk reply.
func ask(c net.Conn, r *bufio.Reader, cmd ...string) (string, error) {
	if _, err := c.Write(encode([][]string{cmd})); err != nil {
		return "", err
	}
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	switch {
	case strings.HasPrefix(line, "-"):
		return "", fmt.Errorf("%s: %s", strings.Join(cmd, " "), line[1:])
	case strings.HasPrefix(line, "$"):
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 || n > 64<<20 {
			return "", fmt.Errorf("%s: unexpected reply %q", strings.Join(cmd, " "), line)
		}
		b := make([]byte, n+2)
		for got := 0; got < len(b); {
			m, err := r.Read(b[got:])
			if err != nil {
				return "", err
			}
			got += m
		}
		return string(b[:n]), nil
	}
	return line, nil
}
