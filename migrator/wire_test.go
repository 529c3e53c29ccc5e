package migrator

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

func wireTo(t *testing.T, s *testredis.Server) *wire {
	t.Helper()
	w, err := dialWire(context.Background(), topology.Group{Endpoint: topology.Endpoint{Addr: s.Addr, Secret: topology.NewSecret(s.Password)}}, "test", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return w
}

// TestWireGreets: the server knows the name, and the wire the server, when dialWire returns.
func TestWireGreets(t *testing.T) {
	s, err := testredis.Start(testredis.Options{Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	w := wireTo(t, s)
	list, err := s.Client().ClientList(context.Background()).Result()
	if err != nil || !strings.Contains(list, "name=test") {
		t.Errorf("%s, %v", list, err)
	}
	if len(w.info.runID) != 40 || w.info.role != "master" || w.info.policy != "noeviction" {
		t.Errorf("%+v", w.info)
	}
	_, err = dialWire(context.Background(), topology.Group{Endpoint: topology.Endpoint{Addr: s.Addr, Secret: topology.NewSecret("wrong")}}, "test", time.Minute)
	if !refused(err) || jobError(fromSource, err).Code != "WRONGPASS" {
		t.Errorf("wrong password: %v", err)
	}
}

// TestWireCarriesAnything sends values of all sizes and bytes in one exchange and finds
// all replies valid at its end, in their order, refusals between them.
func TestWireCarriesAnything(t *testing.T) {
	s := testredis.StartT(t)
	w := wireTo(t, s)
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(1, 2))
	var values [][]byte
	for _, n := range []int{0, 1, 9, 10, 99, 1000, wireArgWhole - 1, wireArgWhole, wireBufferMin, 1 << 20, 3 << 20, 5, 0, 70_000} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		values = append(values, b)
	}
	for round := range 3 {
		w.begin(ctx)
		for i, v := range values {
			w.command("SET", 2)
			w.arg(fmt.Sprint("k", i))
			w.argBytes(v)
		}
		if err := w.flush(); err != nil {
			t.Fatal(err)
		}
		for range values {
			if r, err := w.answer(); err != nil || r.kind != '+' || string(r.text) != "OK" {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		w.begin(ctx)
		for i := range values {
			w.command("GET", 1)
			w.arg(fmt.Sprint("k", i))
			w.command("PTTL", 1)
			w.arg(fmt.Sprint("k", i))
			w.command("GET", 1)
			w.arg("missing")
			w.command("NONSENSE", 0)
		}
		if err := w.flush(); err != nil {
			t.Fatal(err)
		}
		var got [][]byte
		for range values {
			r, err := w.answer()
			if err != nil || r.kind != '$' {
				t.Fatalf("%c, %v", r.kind, err)
			}
			got = append(got, r.text)
			if n, err := w.integer(); n != -1 || err != nil {
				t.Fatalf("PTTL %d, %v", n, err)
			}
			if r, err := w.answer(); r.kind != 0 || err != nil {
				t.Fatalf("null: %+v, %v", r, err)
			}
			if _, err := w.answer(); !refused(err) || !strings.HasPrefix(err.Error(), "ERR unknown command") {
				t.Fatalf("nonsense: %v", err)
			}
		}
		for i := range values {
			if !bytes.Equal(got[i], values[i]) {
				t.Errorf("round %d: value %d of %d bytes came back as %d others", round, i, len(values[i]), len(got[i]))
			}
		}
	}
	if cap(w.in) < wireBufferKept {
		t.Fatal("the test was to grow the buffer")
	}
	if w.begin(ctx); cap(w.in) > wireBufferKept {
		t.Errorf("%d bytes of buffer kept", cap(w.in))
	}
}

// pipeWire is a wire to whatever writes to the other end.
func pipeWire(t *testing.T, timeout time.Duration) (*wire, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	w := &wire{c: near, timeout: timeout, unhook: func() bool { return true }}
	t.Cleanup(func() { w.close(); _ = far.Close() })
	w.begin(context.Background())
	return w, far
}

// TestWireInPieces: it does not matter where the network cuts a reply.
func TestWireInPieces(t *testing.T) {
	big := strings.Repeat("x\r\n$3\r\n", 30_000)
	text := "+OK\r\n:12\r\n:-2\r\n$-1\r\n*-1\r\n$0\r\n\r\n$5\r\na\r\nb\n\r\n-ERR no\r\n*2\r\n$1\r\n0\r\n*0\r\n" + fmt.Sprintf("$%d\r\n%s\r\n", len(big), big) + ":9223372036854775807\r\n"
	want := []string{"+ 0 OK", ": 12 ", ": -2 ", "\x00 0 ", "\x00 0 ", "$ 0 ", "$ 0 a\r\nb\n", "ERR no", "* 2 ", "$ 0 0", "* 0 ", "$ 0 " + big, ": 9223372036854775807 "}
	for seed := range uint64(20) {
		w, far := pipeWire(t, time.Minute)
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
			r, err := w.answer()
			got := fmt.Sprintf("%c %d %s", r.kind, r.n, r.text)
			if err != nil {
				got = err.Error()
			}
			if got != s {
				t.Fatalf("seed %d, reply %d: %.40q, want %.40q", seed, i, got, s)
			}
		}
		if _, err := w.answer(); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
	}
}

// TestWireHostile: what is not RESP is an error that is no refusal, at once and without
// memory for what was only declared.
func TestWireHostile(t *testing.T) {
	for _, text := range []string{
		"\r\n", "\n", "x\r\n", "HTTP/1.1 400\r\n", ":\r\n", ":1x\r\n", "$x\r\n", "$\r\n", "$1099511627777\r\n", "$3\r\nabcde", "+OK\n",
		":99999999999999999999999\r\n", "+" + strings.Repeat("x", replyLineMax+2), "$5\r\nab\r\n\x00\x00\x00\x00",
	} {
		w, far := pipeWire(t, time.Minute)
		go func() { _, _ = far.Write([]byte(text)) }()
		if _, err := w.answer(); !errors.Is(err, errProtocol) || refused(err) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	w, far := pipeWire(t, 50*time.Millisecond)
	go func() { _, _ = far.Write([]byte("$1099511627776\r\nabc")) }()
	_, err := w.answer()
	if e := jobError(fromSource, err); e.Code != "TIMEOUT" || refused(err) || cap(w.in) > wireBufferMin {
		t.Errorf("%+v; a buffer of %d", e, cap(w.in))
	}
}

func FuzzWire(f *testing.F) {
	f.Add([]byte("+OK\r\n$3\r\nabc\r\n*1\r\n:1\r\n-ERR\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, far := pipeWire(t, time.Second)
		go func() {
			_, _ = far.Write(data)
			_ = far.Close()
		}()
		for range len(data) + 1 {
			if _, err := w.answer(); err != nil && !refused(err) {
				return
			}
		}
		t.Error("more replies than bytes")
	})
}

// TestWireEndsWithItsContext: a server that is silent does not hold up a stop.
func TestWireEndsWithItsContext(t *testing.T) {
	s := testredis.StartT(t)
	ctx, cancel := context.WithCancel(context.Background())
	w, err := dialWire(ctx, topology.Group{Endpoint: topology.Endpoint{Addr: s.Addr}}, "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Continue() }()
	time.AfterFunc(20*time.Millisecond, cancel)
	w.begin(ctx)
	w.command("PING", 0)
	if err = w.flush(); err == nil {
		_, err = w.answer()
	}
	if err == nil || refused(err) {
		t.Errorf("%v", err)
	}
}
