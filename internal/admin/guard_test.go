package admin

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// startAdmin runs an admin server with a password and nothing behind it.
func startAdmin(t *testing.T) *Server {
	t.Helper()
	s := &Server{Password: "right", Log: zap.NewNop()}
	if err := s.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

// say sends bytes and gives what is answered until the end, or n lines.
func say(t *testing.T, c net.Conn, text string, n int) string {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	go func() { _, _ = io.WriteString(c, text) }()
	r, out := bufio.NewReader(c), ""
	for range n {
		line, err := r.ReadString('\n')
		out += line
		if err != nil {
			break
		}
	}
	return out
}

// TestUnauthenticatedIsSmall: who has not given the password can't make the gateway keep
// much, as in Redis.
func TestUnauthenticatedIsSmall(t *testing.T) {
	s := startAdmin(t)
	for frame, want := range map[string]string{
		"*11\r\n":                        "-ERR Protocol error: unauthenticated multibulk length\r\n",
		"*2\r\n$4\r\nAUTH\r\n$20000\r\n": "-ERR Protocol error: unauthenticated bulk length\r\n",
	} {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := say(t, c, frame, 2); got != want {
			t.Errorf("%q: %q, want %q", frame, got, want)
		}
	}
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := say(t, c, "AUTH bob right\r\nAUTH default wrong\r\nAUTH default right\r\n", 3); strings.Count(got, "-WRONGPASS") != 2 || !strings.HasSuffix(got, "+OK\r\n") {
		t.Errorf("AUTH: %q", got)
	}
	large := strings.Repeat("x", 20000)
	if got, want := say(t, c, fmt.Sprintf("*2\r\n$4\r\nPING\r\n$%d\r\n%s\r\n", len(large), large), 1), "+PONG\r\n"; got != want {
		t.Errorf("after AUTH: %q", got)
	}
	much := strings.Repeat(fmt.Sprintf("$%d\r\n%s\r\n", 1<<20, strings.Repeat("x", 1<<20)), 9)
	if got, want := say(t, c, "*10\r\n$4\r\nPING\r\n"+much, 2), "-ERR Protocol error: too big request\r\n"; got != want {
		t.Errorf("a request of 9 MB: %q", got)
	}
}

// TestErrorsHaveACode: also those that begin with a word of ours in capitals.
func TestErrorsHaveACode(t *testing.T) {
	s := &Server{Log: zap.NewNop()}
	if err := s.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := say(t, c, "PROXY REBALANCE WEIGHT g1 x\r\n", 1); !strings.HasPrefix(got, "-ERR WEIGHT g1 ") {
		t.Errorf("got %q", got)
	}
}
