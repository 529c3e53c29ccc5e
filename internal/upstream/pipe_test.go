package upstream

import (
	"errors"
	"testing"
	"time"
)

// breaking is a socket that, once it is broken, reports its end from within Write, as gnet's do.
type breaking struct {
	p      *Pipe
	broken bool
}

func (c *breaking) Write(b []byte) (int, error) {
	if !c.broken {
		return len(b), nil
	}
	err := errors.New("broken pipe")
	c.p.Closed(err)
	return 0, err
}

func (c *breaking) Buffered() int { return 0 }
func (c *breaking) Close()        {}

// noted is a call that keeps what it is told.
type noted struct {
	got    string
	err    error
	ends   int
	reply  func()
	failed func()
}

func (c *noted) Reply(b []byte, last bool) {
	c.got += string(b)
	if last {
		c.ends++
	}
	if c.reply != nil {
		c.reply()
	}
}

func (c *noted) Fail(err error, _ bool) {
	c.err = err
	c.ends++
	if c.failed != nil {
		c.failed()
	}
}

// onBreaking is a pipe that is up and has been of use, so that its connection is replaced at once.
func onBreaking(t *testing.T) (*Pipe, *breaking) {
	t.Helper()
	env := &Env{Dial: func(*Pipe) {}, Dirty: func(*Pipe) {}, Retry: func(*Pipe, time.Duration) {},
		Lost: func(*Pipe, string) func() { return func() {} }}
	p := New("g", Target{Endpoint: Endpoint{Addr: "server:1"}, Proto: 2}, env, Limits{QueueBytes: 1 << 20, ReconnectMin: time.Second, ReconnectMax: time.Second})
	t.Cleanup(func() {
		if p.sent-p.answered != uint64(p.calls.n) {
			t.Errorf("%d calls taken, %d ended and %d in flight", p.sent, p.answered, p.calls.n)
		}
	})
	p.connect()
	conn := &breaking{p: p}
	p.Connected(conn, "name", 1, time.Now())
	p.Send(&noted{}, []byte("ping"))
	if err := p.Data([]byte("+PONG\r\n"), time.Now()); err != nil {
		t.Fatal(err)
	}
	return p, conn
}

// TestRepliesOfALostConnection: a connection that ends while its replies are handed out has no
// more of them, least of all for what was sent since and waits for the next connection.
func TestRepliesOfALostConnection(t *testing.T) {
	p, conn := onBreaking(t)
	next := &noted{}
	first, second := &noted{}, &noted{failed: func() { p.Send(next, []byte("next")) }}
	first.reply = func() {
		conn.broken = true
		p.Send(&noted{}, make([]byte, directWrite))
	}
	p.Send(first, []byte("first"))
	p.Send(second, []byte("second"))
	p.Flush()
	if err := p.Data([]byte("+for the first\r\n+for the second\r\n"), time.Now()); err != nil {
		t.Error(err)
	}
	if first.got != "+for the first\r\n" || second.got != "" || !errors.Is(second.err, ErrLost) {
		t.Errorf("the first got %q, the second %q and %v", first.got, second.got, second.err)
	}
	if next.got != "" || next.ends > 0 || p.InFlight() != 1 {
		t.Errorf("what waits for the next connection got %q and %v", next.got, next.err)
	}
}

// TestRetiredByABrokenWrite: a pipe whose connection turns out to have ended when it is retired
// ends every call, also those that came because others have failed.
func TestRetiredByABrokenWrite(t *testing.T) {
	p, conn := onBreaking(t)
	next := &noted{}
	first := &noted{failed: func() { p.Send(next, []byte("next")) }}
	p.Send(first, []byte("first"))
	conn.broken = true
	p.Retire()
	if !errors.Is(first.err, ErrLost) || first.ends != 1 {
		t.Errorf("the one in flight ended %d times, with %v", first.ends, first.err)
	}
	if !errors.Is(next.err, ErrClosed) || next.ends != 1 {
		t.Errorf("the one behind ended %d times, with %v", next.ends, next.err)
	}
}

// TestLossWithinALoss: a connection is found lost while another one's calls are being failed. Each
// call is failed between the beginning and the end of the loss of its own connection.
func TestLossWithinALoss(t *testing.T) {
	outer, outerConn := onBreaking(t)
	inner, innerConn := onBreaking(t)
	var losing []*Pipe
	lost := func(p *Pipe, _ string) func() {
		losing = append(losing, p)
		return func() { losing = losing[:len(losing)-1] }
	}
	outer.env.Lost, inner.env.Lost = lost, lost
	expect := func(want *Pipe, ends *int) func() {
		return func() {
			*ends++
			if len(losing) == 0 || losing[len(losing)-1] != want {
				t.Error("a call was failed within the loss of another connection")
			}
		}
	}
	var ofOuter, ofInner int
	first := &noted{failed: func() {
		innerConn.broken = true
		inner.Send(&noted{failed: expect(inner, &ofInner)}, make([]byte, directWrite))
		expect(outer, &ofOuter)()
	}}
	inner.Send(&noted{failed: expect(inner, &ofInner)}, []byte("first"))
	outer.Send(first, []byte("first"))
	outer.Send(&noted{failed: expect(outer, &ofOuter)}, []byte("second"))
	outerConn.broken = true
	outer.Flush()
	if ofOuter != 2 || ofInner != 2 || len(losing) != 0 {
		t.Errorf("%d and %d calls were failed, and %d losses have no end", ofOuter, ofInner, len(losing))
	}
}

// TestSilenceCountsFromTheCall: what was sent just now has not waited since the server was last
// heard, however long ago that is.
func TestSilenceCountsFromTheCall(t *testing.T) {
	at := time.Unix(1e9, 0)
	p := &Pipe{state: Up, silence: silence{heardAt: at}}
	look := func(after, want time.Duration, what string) {
		t.Helper()
		if at = at.Add(after); p.Silent(at) != want {
			t.Errorf("%s: silent for %v, want %v", what, p.Silent(at), want)
		}
	}
	look(time.Second, 0, "nothing in flight")
	p.calls.n = 1
	look(time.Second, 0, "a call that is new")
	look(time.Second, time.Second, "the same call")
	p.answered++ // and another one
	look(time.Second, 0, "another call")
	look(time.Second, time.Second, "that again")
	p.heardAt = at // a piece of its reply
	look(time.Second, time.Second, "that, in the midst of its reply")
	p.calls.n = 0
	look(time.Second, 0, "none")
}
