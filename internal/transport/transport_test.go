package transport

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testredis"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1")) // gnet's pool lives as long as the process
}

// hangBound is no expectation of speed: it ends a hang.
const hangBound = 2 * time.Minute

// spy is a Handler made of functions; what is nil does nothing.
type spy struct {
	opened func(Conn) bool
	data   func(Conn, []byte) bool
	eof    func(Conn) bool
	closed func(Conn, error)
	turn   func(Loop)
}

func (s *spy) Opened(c Conn) bool         { return s.opened == nil || s.opened(c) }
func (s *spy) Data(c Conn, b []byte) bool { return s.data == nil || s.data(c, b) }
func (s *spy) EOF(c Conn) bool            { return s.eof != nil && s.eof(c) }
func (s *spy) Closed(c Conn, err error) {
	if s.closed != nil {
		s.closed(c, err)
	}
}
func (s *spy) Turn(l Loop) {
	if s.turn != nil {
		s.turn(l)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	port, err := testredis.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// onEach runs a test on every transport of this system.
func onEach(t *testing.T, test func(t *testing.T, start func(h Handler) (addr string))) {
	kinds := []string{"gnet"}
	if haveEpoll {
		kinds = append(kinds, "epoll")
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			test(t, func(h Handler) string {
				addr := freeAddr(t)
				e, err := Start(Options{Kind: kind, Listen: addr, Loops: 2, ReadBuffer: 16 << 10, Log: zap.NewNop()}, h)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := e.Stop(hangBound); err != nil {
						t.Error(err)
					}
				})
				return addr
			})
		})
	}
}

// dial connects a client whose socket takes little that it does not read, and keeps little that
// the other side does not read; see smallReceive.
func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	dialer := net.Dialer{Control: faultproxy.SmallBuffers}
	c, err := dialer.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(hangBound))
	_ = c.(*net.TCPConn).SetWriteBuffer(smallBuffer)
	return c.(*net.TCPConn)
}

const smallBuffer = 64 << 10 // of a socket; the kernel may double it

// TestEcho: a hundred clients send 200 KB each and get it back, in order, while the
// answers are written in turns.
func TestEcho(t *testing.T) {
	onEach(t, func(t *testing.T, start func(Handler) string) {
		type state struct {
			c    Conn
			out  []byte
			done bool
		}
		var mu sync.Mutex // the loops are two
		dirty := map[Loop][]*state{}
		addr := start(&spy{
			opened: func(c Conn) bool { c.SetOwner(&state{c: c}); return true },
			data: func(c Conn, b []byte) bool {
				st := c.Owner().(*state)
				st.out = append(st.out, b...)
				mu.Lock()
				dirty[c.Loop()] = append(dirty[c.Loop()], st)
				mu.Unlock()
				c.Loop().Arm()
				return true
			},
			closed: func(c Conn, _ error) { c.Owner().(*state).done = true },
			turn: func(l Loop) {
				mu.Lock()
				list := dirty[l]
				delete(dirty, l)
				mu.Unlock()
				for _, st := range list {
					if len(st.out) > 0 && !st.done {
						_, _ = st.c.Write(st.out)
						st.out = nil
					}
				}
			},
		})
		var wg sync.WaitGroup
		for i := range 100 {
			c := dial(t, addr)
			sent := bytes.Repeat([]byte(fmt.Sprintf("client %03d ", i)), 18000)
			wg.Go(func() { _, _ = c.Write(sent) })
			wg.Go(func() {
				got := make([]byte, len(sent))
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
					t.Errorf("client %d: what came back differs: %v", i, err)
				}
			})
		}
		wg.Wait()
	})
}

// TestBigReplyToSlowReader: 8 MB written at once to a client that reads late arrive whole,
// and Buffered says how much waits.
func TestBigReplyToSlowReader(t *testing.T) {
	onEach(t, func(t *testing.T, start func(Handler) string) {
		big := bytes.Repeat([]byte("0123456789abcdef"), 512<<10)
		waits := make(chan int, 1)
		addr := start(&spy{data: func(c Conn, _ []byte) bool {
			_, _ = c.Write(big)
			_, _ = c.Write([]byte("end"))
			waits <- c.Buffered()
			return true
		}})
		c := dial(t, addr)
		_, _ = c.Write([]byte("x"))
		if n := <-waits; n < len(big)/2 || n > len(big)+3 {
			t.Errorf("Buffered is %d after %d bytes that nobody has read", n, len(big)+3)
		}
		got := make([]byte, len(big)+3)
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, append(big, "end"...)) {
			t.Errorf("the reply did not arrive whole: %v", err)
		}
	})
}

// TestHalfClose: a client that has closed its sending side gets what is written to it
// afterwards, and then the end.
func TestHalfClose(t *testing.T) {
	onEach(t, func(t *testing.T, start func(Handler) string) {
		var conn Conn
		var mu sync.Mutex
		ended := make(chan struct{})
		pending := false
		addr := start(&spy{
			eof: func(c Conn) bool { mu.Lock(); conn = c; mu.Unlock(); close(ended); return true },
			turn: func(l Loop) {
				mu.Lock()
				defer mu.Unlock()
				if conn != nil && conn.Loop() == l && pending {
					pending = false
					_, _ = conn.Write([]byte("late reply"))
					conn.Close()
				}
			},
		})
		c := dial(t, addr)
		_, _ = c.Write([]byte("question"))
		_ = c.CloseWrite()
		<-ended
		mu.Lock()
		pending = true
		l := conn.Loop()
		mu.Unlock()
		l.Wake()
		got, err := io.ReadAll(c)
		if string(got) != "late reply" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// TestCloses: every way in which a connection ends is told once, also when the handler
// closes it twice or writes to it afterwards, and a new connection that gets the same
// descriptor is not taken for the old one.
func TestCloses(t *testing.T) {
	onEach(t, func(t *testing.T, start func(Handler) string) {
		var opened, closed atomic.Int64
		type tag struct{ ended bool }
		addr := start(&spy{
			opened: func(c Conn) bool { opened.Add(1); c.SetOwner(&tag{}); return opened.Load()%7 != 0 },
			data: func(c Conn, b []byte) bool {
				if c.Owner().(*tag).ended {
					t.Error("data after the end")
				}
				switch b[0] {
				case 'q':
					_, _ = c.Write([]byte("bye"))
					c.Close()
					c.Close()
					return true
				case 'f':
					return false
				}
				_, _ = c.Write(b)
				return true
			},
			closed: func(c Conn, _ error) {
				x := c.Owner().(*tag)
				if x.ended {
					t.Error("a connection ended twice")
				}
				x.ended = true
				closed.Add(1)
				if _, err := c.Write([]byte("x")); err == nil {
					t.Error("a connection that has ended was written to")
				}
				c.Close()
			},
		})
		const clients = 300
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(hangBound))
				_, _ = c.Write([]byte(string("qfeh"[i%4]) + "ello"))
				if i%4 < 2 {
					_, _ = io.ReadAll(c)
				} else if i%4 == 2 {
					_, _ = io.ReadFull(c, make([]byte, 5))
				} else {
					_ = c.(*net.TCPConn).SetLinger(0) // a reset
				}
			})
		}
		wg.Wait()
		deadline := time.Now().Add(hangBound)
		for closed.Load() != clients && time.Now().Before(deadline) {
			time.Sleep(5 * time.Millisecond)
		}
		if opened.Load() != clients || closed.Load() != clients {
			t.Errorf("%d clients: %d opened, %d closed", clients, opened.Load(), closed.Load())
		}
	})
}

// TestEnroll: connections made elsewhere are served on the loop that they are given to.
func TestEnroll(t *testing.T) {
	onEach(t, func(t *testing.T, start func(Handler) string) {
		far, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		loops := make(chan Loop, 1)
		got := make(chan string, 1)
		addr := start(&spy{
			opened: func(c Conn) bool {
				if c.Owner() == nil {
					loops <- c.Loop()
				} else {
					_, _ = c.Write([]byte("hello " + c.Owner().(string)))
				}
				return true
			},
			data: func(c Conn, b []byte) bool {
				if name, ok := c.Owner().(string); ok {
					got <- name + " got " + string(b)
				}
				return true
			},
		})
		dial(t, addr)
		l := <-loops
		nc, err := net.Dial("tcp", far.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		peer, err := far.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		if err := l.Enroll(nc, "server"); err != nil {
			t.Fatal(err)
		}
		_ = peer.SetDeadline(time.Now().Add(hangBound))
		buf := make([]byte, 12)
		if _, err := io.ReadFull(peer, buf); err != nil || string(buf) != "hello server" {
			t.Errorf("the peer got %q, %v", buf, err)
		}
		_, _ = peer.Write([]byte("ok"))
		if s := <-got; s != "server got ok" {
			t.Error(s)
		}
	})
}

// TestWake: no wake-up from any goroutine is lost.
func TestWake(t *testing.T) {
	onEach(t, func(t *testing.T, start func(Handler) string) {
		loops := make(chan Loop, 1)
		var mailed, seen atomic.Int64
		all := make(chan struct{})
		const each, senders = 2000, 8
		addr := start(&spy{
			opened: func(c Conn) bool { loops <- c.Loop(); return true },
			turn: func(Loop) {
				if n := mailed.Load(); n > seen.Load() {
					seen.Store(n)
					if n == each*senders {
						close(all)
					}
				}
			},
		})
		dial(t, addr)
		l := <-loops
		for range senders {
			go func() {
				for range each {
					mailed.Add(1)
					l.Wake()
				}
			}()
		}
		select {
		case <-all:
		case <-time.After(hangBound):
			t.Errorf("%d of %d letters were seen", seen.Load(), mailed.Load())
		}
	})
}

// TestReadInto: what a transport takes for the next read gets it, once and no more than it
// has room for; from one that does not, Data has the loop's buffer as always. Either way no
// byte is lost.
func TestReadInto(t *testing.T) {
	onEach(t, func(t *testing.T, start func(Handler) string) {
		const total = 1 << 20
		type state struct {
			into   []byte // given to ReadInto and not used yet
			got    []byte
			direct int
		}
		done := make(chan *state, 1)
		addr := start(&spy{
			opened: func(c Conn) bool { c.SetOwner(&state{}); return true },
			data: func(c Conn, b []byte) bool {
				st := c.Owner().(*state)
				if st.into != nil {
					if len(b) > len(st.into) || &b[0] != &st.into[0] {
						t.Errorf("%d bytes are not where they were to be read", len(b))
					}
					st.direct++
				}
				st.got = append(st.got, b...)
				st.into = nil
				if into := make([]byte, 1+len(st.got)%5000); len(st.got)%3 != 0 && c.ReadInto(into) {
					st.into = into
				}
				if len(st.got) == total {
					done <- st
				}
				return true
			},
		})
		c := dial(t, addr)
		want := make([]byte, total)
		for i := range want {
			want[i] = byte(i * 31 / 7)
		}
		if _, err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		select {
		case st := <-done:
			if !bytes.Equal(st.got, want) {
				t.Error("other bytes")
			}
			t.Logf("%d reads went to memory of the owner's", st.direct)
		case <-time.After(hangBound):
			t.Fatal("bytes are missing")
		}
	})
}
