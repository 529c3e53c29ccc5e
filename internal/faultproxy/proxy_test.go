package faultproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"keyferry/internal/testredis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server that says back what it hears, and half-closes when its client has.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(nc, nc)
				_ = nc.Close()
			}()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String()
}

func start(t *testing.T, target string) *Proxy {
	t.Helper()
	p, err := New(target, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if p.Conns() != 0 {
			t.Errorf("%d connections are left", p.Conns())
		}
	})
	return p
}

func connect(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	nc, err := net.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return nc.(*net.TCPConn)
}

func say(t *testing.T, nc net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(nc, text); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, nc net.Conn, text string) {
	t.Helper()
	_ = nc.SetReadDeadline(time.Now().Add(time.Minute))
	got := make([]byte, len(text))
	if _, err := io.ReadFull(nc, got); err != nil || string(got) != text {
		t.Fatalf("heard %q, %v; want %q", got, err, text)
	}
}

// silent demands that nothing comes for a moment.
func silent(t *testing.T, nc net.Conn) {
	t.Helper()
	_ = nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	var ne net.Error
	if n, err := nc.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
		t.Fatalf("not silent: %d bytes, %v", n, err)
	}
}

func TestPass(t *testing.T) {
	p := start(t, echo(t))
	nc := connect(t, p)
	text := strings.Repeat("0123456789", 100_000)
	go func() { _, _ = io.WriteString(nc, text) }()
	hear(t, nc, text)
	if err := nc.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(nc); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
}

func TestBlackholeHoldsBackAndGivesLater(t *testing.T) {
	for _, d := range []Direction{ToServer, ToClient} {
		p := start(t, echo(t))
		nc := connect(t, p)
		say(t, nc, "a")
		hear(t, nc, "a")
		p.Set(d, Fault{Blackhole: true})
		say(t, nc, "b")
		silent(t, nc)
		if err := p.Heal(); err != nil {
			t.Fatal(err)
		}
		hear(t, nc, "b")
	}
}

func TestReset(t *testing.T) {
	p := start(t, echo(t))
	nc := connect(t, p)
	say(t, nc, "a")
	hear(t, nc, "a")
	p.Reset()
	if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after a reset: %v", err)
	}
	if n := p.Stats().Cut; n != 1 {
		t.Errorf("%d were cut", n)
	}
}

// TestDelayIsOfLatency: many chunks that are late together are not late one by one.
func TestDelayIsOfLatency(t *testing.T) {
	p := start(t, echo(t))
	const delay, lines = 200 * time.Millisecond, 100
	p.SetBoth(Fault{Delay: delay, Jitter: delay / 2})
	nc := connect(t, p)
	begun := time.Now()
	var want strings.Builder
	for i := range lines {
		line := fmt.Sprintf("%d,", i)
		say(t, nc, line)
		want.WriteString(line)
	}
	hear(t, nc, want.String())
	if took := time.Since(begun); took < 2*delay || took > lines*delay {
		t.Errorf("took %v", took)
	}
}

func TestThrottle(t *testing.T) {
	p := start(t, echo(t))
	p.Set(ToClient, Fault{BytesPerS: 100_000})
	nc := connect(t, p)
	text := strings.Repeat("x", 30_000)
	begun := time.Now()
	say(t, nc, text)
	hear(t, nc, text)
	if took := time.Since(begun); took < 200*time.Millisecond {
		t.Errorf("30 kB at 100 kB/s took %v", took)
	}
	begun = time.Now()
	p.Set(ToClient, Fault{BytesPerS: 1})
	say(t, nc, text)
	hear(t, nc, "x")
	_ = nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	more, err := io.ReadFull(nc, make([]byte, len(text)))
	if took := time.Since(begun); !errors.Is(err, os.ErrDeadlineExceeded) || more > int(took/time.Second) {
		t.Errorf("%d bytes in %v, %v", 1+more, took, err)
	}
	p.Set(ToClient, Fault{}) // a change is felt by what is under way
	_ = nc.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := io.CopyN(io.Discard, nc, int64(len(text)-1-more)); err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestHalfClose(t *testing.T) {
	p := start(t, echo(t))
	nc := connect(t, p)
	say(t, nc, "a")
	hear(t, nc, "a")
	p.HalfClose(ToClient)
	if n, err := nc.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
	before := p.Stats().Bytes[ToServer]
	say(t, nc, "bcd")
	await(t, "the bytes to reach the server", func() bool { return p.Stats().Bytes[ToServer] == before+3 })
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestRefuse(t *testing.T) {
	p := start(t, echo(t))
	nc := connect(t, p)
	say(t, nc, "a")
	hear(t, nc, "a")
	if err := p.Refuse(true); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", p.Addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connecting: %v", err)
	}
	say(t, nc, "b") // what stands, stands
	hear(t, nc, "b")
	if err := p.Refuse(false); err != nil {
		t.Fatal(err)
	}
	nc = connect(t, p)
	say(t, nc, "c")
	hear(t, nc, "c")
}

func TestCutAfter(t *testing.T) {
	p := start(t, echo(t))
	nc := connect(t, p)
	p.CutAfter(ToServer, 10)
	say(t, nc, "0123456789abc")
	got, err := io.ReadAll(nc)
	if err == nil || !bytes.HasPrefix([]byte("0123456789"), got) {
		t.Errorf("heard %q, %v", got, err)
	}
	if n := p.Stats().Bytes[ToServer]; n != 10 {
		t.Errorf("%d bytes reached the server", n)
	}
}

func redisThrough(t *testing.T) (*Proxy, *testredis.Server) {
	s := testredis.StartT(t)
	return start(t, s.Addr), s
}

func TestDropReplyAfterExecution(t *testing.T) {
	ctx := context.Background()
	for _, act := range []Action{DropReply, DropReplyAndCut} {
		p, s := redisThrough(t)
		p.SetTraps(Trap{Match: Command("incr"), Action: act, Times: 1})
		nc := connect(t, p)
		say(t, nc, "SET a 1\r\nINCR n\r\nSET b 2\r\n")
		hear(t, nc, "+OK\r\n")
		if act == DropReply {
			silent(t, nc)
		} else if n, err := nc.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("in place of the reply: %d bytes, %v", n, err)
		}
		await(t, "the commands to be executed", func() bool { return s.Client().Get(ctx, "b").Val() == "2" })
		if p.Sprung() != 1 || p.Stats().Swallowed != 1 {
			t.Errorf("%d: sprung %d, %+v", act, p.Sprung(), p.Stats())
		}
		nc = connect(t, p)
		say(t, nc, "INCR n\r\n")
		hear(t, nc, ":2\r\n") // the trap is spent
	}
}

func TestRequestThatDoesNotArrive(t *testing.T) {
	ctx := context.Background()
	for _, act := range []Action{CutBefore, HoldRequest} {
		p, s := redisThrough(t)
		big := strings.Repeat("x", 200_000) // in several pieces
		p.SetTraps(Trap{Match: Command("set", "b"), Action: act})
		nc := connect(t, p)
		say(t, nc, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$200000\r\n"+big+"\r\n")
		hear(t, nc, "+OK\r\n")
		go func() { _, _ = io.WriteString(nc, "*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$200000\r\n"+big+"\r\n") }()
		if act == HoldRequest {
			silent(t, nc)
		} else if n, err := nc.Read(make([]byte, 1)); err == nil {
			t.Errorf("in place of the reply: %d bytes", n)
		}
		_ = nc.Close()
		await(t, "the connection to end", func() bool { return p.Conns() == 0 })
		if n := s.Client().Exists(ctx, "b").Val(); n != 0 || p.Sprung() != 1 {
			t.Errorf("%d: sprung %d, executed %d", act, p.Sprung(), n)
		}
		p.SetTraps()
		nc = connect(t, p)
		say(t, nc, "SET b 1\r\n")
		hear(t, nc, "+OK\r\n")
	}
}

// TestServerAway: a server that can't be reached shows as a reset connection.
func TestServerAway(t *testing.T) {
	p, s := redisThrough(t)
	c := testredis.NewClient(p.Addr, "", 0)
	defer c.Close()
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(context.Background()).Err(); err == nil {
		t.Error("nobody is there, and answers")
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(context.Background()).Err(); err != nil {
		t.Error(err)
	}
	if n := p.Stats().Accepted; n != 1 {
		t.Errorf("%d accepted", n)
	}
}

// TestEndedWhileHeldBack: clients and servers that leave during a black hole leave nothing
// behind (TestMain looks for goroutines).
func TestEndedWhileHeldBack(t *testing.T) {
	p := start(t, echo(t))
	p.SetBoth(Fault{Blackhole: true})
	for i := range 20 {
		nc := connect(t, p)
		say(t, nc, "abc")
		if i%2 == 0 {
			_ = nc.SetLinger(0)
		}
		_ = nc.Close()
	}
	if err := p.Heal(); err != nil {
		t.Fatal(err)
	}
	await(t, "all connections to end", func() bool { return p.Conns() == 0 })
}

func TestAnswer(t *testing.T) {
	p, s := redisThrough(t)
	p.SetTraps(Trap{Match: Command("incr"), Action: Answer, Reply: "-LOADING not yet\r\n", Times: 1, Skip: 1})
	nc := connect(t, p)
	for _, want := range []string{":1\r\n", "-LOADING not yet\r\n", ":2\r\n"} {
		say(t, nc, "INCR n\r\n")
		hear(t, nc, want)
	}
	if v := s.Client().Get(context.Background(), "n").Val(); v != "2" {
		t.Errorf("the server counted to %s", v)
	}
}

// TestRetarget: an address that moves serves those who connect from then on; who is
// connected stays where he is.
func TestRetarget(t *testing.T) {
	ctx := context.Background()
	one, other := testredis.StartT(t), testredis.StartT(t)
	p, err := New(one.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	one.Client().Set(ctx, "who", "one", 0)
	other.Client().Set(ctx, "who", "other", 0)
	before := testredis.NewClient(p.Addr, "", 0)
	defer before.Close()
	if got := before.Get(ctx, "who").Val(); got != "one" {
		t.Fatal(got)
	}
	p.Retarget(other.Addr)
	after := testredis.NewClient(p.Addr, "", 0)
	defer after.Close()
	if got := after.Get(ctx, "who").Val(); got != "other" {
		t.Errorf("a new connection reaches %q", got)
	}
	if got := before.Get(ctx, "who").Val(); got != "one" {
		t.Errorf("an old connection reaches %q", got)
	}
}

// TestNarrowMakesSendersWait: nearly all that a black hole holds back is still with its sender.
func TestNarrowMakesSendersWait(t *testing.T) {
	p, err := NewNarrow(testredis.StartT(t).Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Set(ToServer, Fault{Blackhole: true})
	c, err := net.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	if n, err := c.Write(make([]byte, 64<<20)); err == nil || n > 8<<20 {
		t.Errorf("%d bytes went, %v", n, err)
	}
}
