package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/internal/topology"
)

// at is where a test's server is, with its password.
func at(s *testredis.Server) Endpoint {
	return Endpoint{Addr: s.Addr, Secret: topology.NewSecret(s.Password)}
}

func connTo(t *testing.T, s *testredis.Server) *Conn {
	t.Helper()
	c, err := NewDialer("test", 1).Conn(context.Background(), Target{Endpoint: at(s)}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// refused tells the server's own answer.
func refused(err error) bool {
	var e ServerError
	return errors.As(err, &e)
}

// TestConnCarriesAnything sends values of all sizes and bytes in one exchange and finds
// all replies valid at its end, in their order, refusals between them.
func TestConnCarriesAnything(t *testing.T) {
	s := testredis.StartT(t)
	c := connTo(t, s)
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(1, 2))
	var values [][]byte
	for _, n := range []int{0, 1, 9, 10, 99, 1000, argWhole - 1, argWhole, bufferMin, 1 << 20, 3 << 20, 5, 0, 70_000} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		values = append(values, b)
	}
	for round := range 3 {
		c.Begin(ctx)
		for i, v := range values {
			c.Command("SET", 2)
			c.Arg(fmt.Sprint("k", i))
			c.ArgBytes(v)
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		for range values {
			if r, err := c.Answer(); err != nil || r.Kind != '+' || string(r.Text) != "OK" {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		c.Begin(ctx)
		for i := range values {
			c.Command("GET", 1)
			c.Arg(fmt.Sprint("k", i))
			c.Command("PTTL", 1)
			c.Arg(fmt.Sprint("k", i))
			c.Command("GET", 1)
			c.Arg("missing")
			c.Command("NONSENSE", 0)
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		var got [][]byte
		for range values {
			r, err := c.Answer()
			if err != nil || r.Kind != '$' {
				t.Fatalf("%c, %v", r.Kind, err)
			}
			got = append(got, r.Text)
			if n, err := c.Integer(); n != -1 || err != nil {
				t.Fatalf("PTTL %d, %v", n, err)
			}
			if r, err := c.Answer(); r.Kind != 0 || err != nil {
				t.Fatalf("null: %+v, %v", r, err)
			}
			if _, err := c.Answer(); !refused(err) || !strings.HasPrefix(err.Error(), "ERR unknown command") {
				t.Fatalf("nonsense: %v", err)
			}
		}
		for i := range values {
			if !bytes.Equal(got[i], values[i]) {
				t.Errorf("round %d: value %d of %d bytes came back as %d others", round, i, len(values[i]), len(got[i]))
			}
		}
	}
	if cap(c.in) < bufferKept {
		t.Fatal("the test was to grow the buffer")
	}
	if c.Begin(ctx); cap(c.in) > bufferKept {
		t.Errorf("%d bytes of buffer kept", cap(c.in))
	}
}

// pipeConn is a Conn to whatever writes to the other end.
func pipeConn(t *testing.T, timeout time.Duration) (*Conn, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	c := &Conn{socket: near, timeout: timeout, unhook: func() bool { return true }}
	t.Cleanup(func() { c.Close(); _ = far.Close() })
	c.Begin(context.Background())
	return c, far
}

// TestConnInPieces: it does not matter where the network cuts a reply.
func TestConnInPieces(t *testing.T) {
	big := strings.Repeat("x\r\n$3\r\n", 30_000)
	text := "+OK\r\n:12\r\n:-2\r\n$-1\r\n*-1\r\n$0\r\n\r\n$5\r\na\r\nb\n\r\n-ERR no\r\n*2\r\n$1\r\n0\r\n*0\r\n" + fmt.Sprintf("$%d\r\n%s\r\n", len(big), big) + ":9223372036854775807\r\n"
	want := []string{"+ 0 OK", ": 12 ", ": -2 ", "\x00 0 ", "\x00 0 ", "$ 0 ", "$ 0 a\r\nb\n", "ERR no", "* 2 ", "$ 0 0", "* 0 ", "$ 0 " + big, ": 9223372036854775807 "}
	for seed := range uint64(20) {
		c, far := pipeConn(t, time.Minute)
		rng := rand.New(rand.NewPCG(seed, 0))
		go func() {
			for rest := []byte(text); len(rest) > 0; {
				n := min(len(rest), 1+rng.IntN([]int{2, 100, 100_000}[seed%3]))
				if len(rest) > 1000 && seed%3 == 0 {
					n = min(len(rest), 1000)
				}
				if _, err := far.Write(rest[:n]); err != nil {
					return
				}
				rest = rest[n:]
			}
			_ = far.Close()
		}()
		for i, s := range want {
			r, err := c.Answer()
			got := fmt.Sprintf("%c %d %s", r.Kind, r.N, r.Text)
			if err != nil {
				got = err.Error()
			}
			if got != s {
				t.Fatalf("seed %d, reply %d: %.40q, want %.40q", seed, i, got, s)
			}
		}
		if _, err := c.Answer(); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
	}
}

// TestConnHostile: what is not RESP is an error that is no refusal, at once and without
// memory for what was only declared.
func TestConnHostile(t *testing.T) {
	for _, text := range []string{
		"\r\n", "\n", "x\r\n", "HTTP/1.1 400\r\n", ":\r\n", ":1x\r\n", "$x\r\n", "$\r\n", "$1099511627777\r\n", "$3\r\nabcde", "+OK\n",
		":99999999999999999999999\r\n", "+" + strings.Repeat("x", replyLineMax+2), "$5\r\nab\r\n\x00\x00\x00\x00",
	} {
		c, far := pipeConn(t, time.Minute)
		go func() { _, _ = far.Write([]byte(text)) }()
		if _, err := c.Answer(); !errors.Is(err, ErrProtocol) || refused(err) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	c, far := pipeConn(t, 50*time.Millisecond)
	go func() { _, _ = far.Write([]byte("$1099511627776\r\nabc")) }()
	_, err := c.Answer()
	var late net.Error
	if !errors.As(err, &late) || !late.Timeout() || cap(c.in) > bufferMin {
		t.Errorf("%v; a buffer of %d", err, cap(c.in))
	}
}

func FuzzConn(f *testing.F) {
	f.Add([]byte("+OK\r\n$3\r\nabc\r\n*1\r\n:1\r\n-ERR\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, far := pipeConn(t, time.Second)
		go func() {
			_, _ = far.Write(data)
			_ = far.Close()
		}()
		for range len(data) + 1 {
			if _, err := c.Answer(); err != nil && !refused(err) {
				return
			}
		}
		t.Error("more replies than bytes")
	})
}

// TestConnEndsWithItsContext: a server that is silent does not hold up a stop.
func TestConnEndsWithItsContext(t *testing.T) {
	s := testredis.StartT(t)
	ctx, cancel := context.WithCancel(context.Background())
	c, err := NewDialer("test", 1).Conn(ctx, Target{Endpoint: at(s)}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Continue() }()
	time.AfterFunc(20*time.Millisecond, cancel)
	c.Begin(ctx)
	c.Command("PING", 0)
	if err = c.Flush(); err == nil {
		_, err = c.Answer()
	}
	if err == nil || refused(err) {
		t.Errorf("%v", err)
	}
}
