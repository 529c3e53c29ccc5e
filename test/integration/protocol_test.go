package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMalformedInput sends what attackers send, to the gateway and to a real Redis: the
// replies are the same, and the connection ends the same way.
func TestMalformedInput(t *testing.T) {
	r := newRig(t, 1)
	for _, in := range []string{
		"*1\r\n$-2\r\n", "*-5\r\n", "*1\r\n:5\r\n", "*abc\r\n", "*1\r\n$abc\r\n", "*1\r\n$536870913\r\n", "*2147483648\r\n", "*9999999999999999999\r\n",
		"*1\r\nPING\r\n", "\r\n\r\nPING\r\n", "PING\r\n", "GET \"unbalanced\r\n", "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n", "GET k\r\n",
		"*0\r\n*1\r\n$4\r\nPING\r\n", "*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n", "\x00\x01\x02\r\n", "*1\r\n$0\r\n\r\n", "*2\r\n$3\r\nGET\r\n$-1\r\n", "SET k 'a\\'b' \r\nGET k\r\n",
		"*1\r\n$04\r\nPING\r\n", "*01\r\n", "* 1\r\n", "*1\r\n$ 4\r\nPING\r\n", "*+1\r\n", strings.Repeat("x", 70000),
	} {
		want := exchange(t, r.servers[0].Addr, in)
		got := exchange(t, r.listen, in)
		if !bytes.Equal(got, want) {
			t.Errorf("%.60q: got %.200q, Redis says %.200q", in, got, want)
		}
	}
	for _, in := range []string{"*1\r\n$-2\r\n", "*1\r\n$999999999999\r\n", "*3\r\n$5\r\nPROXY\r\n$-7\r\n", "\x00\xff\r\n", "*1000000000\r\n"} {
		exchange(t, r.admin, in)
	}
	r.proxy("EPOCH") // the admin server has survived
}

// exchange sends bytes and reads until the other end is quiet or closes.
func exchange(t *testing.T, addr, in string) []byte {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, in); err != nil {
		return []byte("write failed")
	}
	if tc, ok := c.(*net.TCPConn); ok {
		_ = tc.CloseWrite()
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	out, _ := io.ReadAll(c)
	return out
}

// TestDeclaredLengthsCostNothing: a thousand clients that announce 512 MB each take no
// more memory than they have sent.
func TestDeclaredLengthsCostNothing(t *testing.T) {
	r := newRig(t, 1)
	c := r.client()
	if err := c.Ping(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	before := rss(t, r.child.PID())
	for range 1000 {
		nc, err := net.Dial("tcp", r.listen)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		if _, err := io.WriteString(nc, "*1000000\r\n$536870912\r\nabc"); err != nil {
			t.Fatal(err)
		}
	}
	r.await("the clients to be seen", func() bool {
		return strings.Contains(c.Info(context.Background(), "clients").Val(), "connected_clients:1001")
	})
	after := rss(t, r.child.PID())
	// The race detector multiplies what a connection takes; 100 KB each is still five
	// thousand times less than was announced.
	if grown := after - before; grown > 100<<20 {
		t.Errorf("memory grew by %d MB", grown>>20)
	}
}

func rss(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}

// TestLocalCommands: what the gateway answers itself, in Redis's own form.
func TestLocalCommands(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 1)
	c := r.client().Conn()
	defer c.Close()
	for _, x := range []struct {
		cmd  []any
		want string
	}{
		{[]any{"PING"}, "PONG"}, {[]any{"PING", "x"}, "x"}, {[]any{"ECHO", "x"}, "x"}, {[]any{"SELECT", 3}, "OK"},
		{[]any{"SELECT", 16}, "ERR DB index is out of range"}, {[]any{"SELECT", "x"}, "ERR value is not an integer or out of range"},
		{[]any{"CLIENT", "SETNAME", "me"}, "OK"}, {[]any{"CLIENT", "GETNAME"}, "me"}, {[]any{"CLIENT", "SETNAME", "a b"}, "ERR Client names cannot contain spaces, newlines or special characters."},
		{[]any{"CLIENT", "SETINFO", "LIB-NAME", "x"}, "OK"}, {[]any{"CLIENT", "NO-EVICT", "on"}, "OK"}, {[]any{"CLIENT", "NO-TOUCH", "off"}, "OK"},
		{[]any{"HELLO", 4}, "NOPROTO unsupported protocol version"}, {[]any{"COMMAND", "GETKEYS", "MSET", "a", 1, "b", 2}, "[a b]"},
		{[]any{"KEYS", "*"}, "[]"}, {[]any{"NOSUCH", "a"}, "ERR unknown command 'NOSUCH', with args beginning with: 'a' "},
		{[]any{"GET"}, "ERR wrong number of arguments for 'get' command"}, {[]any{"XREAD", "BLOCK", 10, "STREAMS", "k", "$"}, "redis: nil"},
		{[]any{"SET", "k", "v"}, "OK"}, {[]any{"DBSIZE"}, "1"}, {[]any{"LPUSH", "k", "v"}, "WRONGTYPE Operation against a key holding the wrong kind of value"},
		{[]any{"SORT", "k2", "BY", "w_*"}, "ERR BY option of SORT denied in Cluster mode when keys formed by the pattern may be in different slots."},
		{[]any{"SORT", "k2", "BY", "nosort", "GET", "#"}, "[]"}, {[]any{"SORT", "k2", "BY", "{k2}_*", "GET", "x"}, "[]"},
		{[]any{"SORT_RO", "k2", "GET", "*{k2}"}, "ERR GET option of SORT denied in Cluster mode when keys formed by the pattern may be in different slots."},
		{[]any{"COPY", "k", "{k}2", "DB", 99}, "ERR DB index is out of range"}, {[]any{"COPY", "k", "x", "DB", 1}, "CROSSSLOT Keys in request don't hash to the same slot"}, {[]any{"COPY", "k", "k", "DB", 4}, "1"}, {[]any{"MOVE", "k", 4}, "0"},
	} {
		got, err := c.Do(ctx, x.cmd...).Result()
		text := fmt.Sprint(got)
		if err != nil {
			text = err.Error()
		}
		if text != x.want {
			t.Errorf("%v: got %q, want %q", x.cmd, text, x.want)
		}
	}
}
