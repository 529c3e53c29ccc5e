package faultproxy

import (
	"io"
	"net"
	"sync"
	"time"
)

// conn is one proxied connection. Each direction has a reader and a writer, so that a
// delay is one of latency and not of throughput.
type conn struct {
	p      *Proxy
	end    [2]*net.TCPConn // by Direction: whom its bytes are written to
	queue  [2]chan chunk
	tap    *tap
	gone   chan struct{}    // closed by close
	idle   [2]chan struct{} // closed when nobody takes from the queue any more
	once   sync.Once
	mu     sync.Mutex // protects closed
	closed [2]bool    // what comes this way is thrown away
}

// chunk is what one read gave; eof is the peer's FIN.
type chunk struct {
	bytes []byte
	at    time.Time
	eof   bool
	last  bool // the reader has ended: nothing follows
	cut   bool // a trap wants the connection cut when the bytes before are written
	wall  bool // a trap wants no byte behind this to get through
}

const (
	chunkBytes  = 32 << 10
	queueChunks = 32 // what is under way beyond this waits in the kernel
)

func newConn(p *Proxy, client, server *net.TCPConn) *conn {
	c := &conn{p: p, end: [2]*net.TCPConn{ToServer: server, ToClient: client}, gone: make(chan struct{})}
	for d := range c.queue {
		c.queue[d], c.idle[d] = make(chan chunk, queueChunks), make(chan struct{})
	}
	c.tap = &tap{p: p, answer: func(b []byte) { c.put(ToClient, chunk{bytes: b, at: time.Now()}) }}
	return c
}

// carry returns when the connection has ended at both sides.
func (c *conn) carry() {
	var wg sync.WaitGroup
	for _, d := range []Direction{ToServer, ToClient} {
		wg.Go(func() { c.read(d) })
		wg.Go(func() { c.write(d) })
	}
	wg.Wait()
	c.close(false)
}

// cut resets both ends.
func (c *conn) cut() { c.close(true) }

func (c *conn) close(reset bool) {
	c.once.Do(func() {
		close(c.gone)
		for _, nc := range c.end {
			if reset {
				_ = nc.SetLinger(0)
			}
			_ = nc.Close()
		}
		if reset {
			c.p.mu.Lock()
			c.p.stats.Cut++
			c.p.mu.Unlock()
		}
	})
}

func (c *conn) halfClose(d Direction) {
	c.mu.Lock()
	c.closed[d] = true
	c.mu.Unlock()
	_ = c.end[d].CloseWrite()
}

func (c *conn) halfClosed(d Direction) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed[d]
}

func (c *conn) read(d Direction) {
	defer c.put(d, chunk{last: true})
	from := c.end[1-d]
	for {
		buf := make([]byte, chunkBytes)
		n, err := from.Read(buf)
		now := time.Now()
		if n > 0 {
			for _, ch := range c.tap.see(d, buf[:n]) {
				ch.at = now
				if !c.put(d, ch) {
					return
				}
			}
		}
		switch {
		case err == nil:
		case err == io.EOF:
			c.put(d, chunk{at: now, eof: true})
			return
		default:
			c.put(d, chunk{at: now, cut: true})
			return
		}
	}
}

func (c *conn) put(d Direction, ch chunk) bool {
	select {
	case c.queue[d] <- ch:
		return true
	case <-c.idle[d]:
		return false
	case <-c.gone:
		return false
	}
}

// write brings chunks to their end when the faults let it.
func (c *conn) write(d Direction) {
	defer close(c.idle[d])
	var last time.Time // no byte overtakes another
	walled := false
	for {
		var ch chunk
		select {
		case ch = <-c.queue[d]:
		case <-c.gone:
			return
		}
		if ch.last {
			return
		}
		due := ch.at.Add(c.p.lateness(d))
		if due.Before(last) {
			due = last
		}
		last = due
		if !c.waitFor(d, due) {
			return
		}
		switch {
		case ch.cut:
			c.cut()
			return
		case ch.eof:
			_ = c.end[d].CloseWrite()
			return
		case ch.wall || walled:
			walled = true
		case !c.send(d, ch.bytes):
			return
		}
	}
}

// waitFor waits until due and until the direction is no black hole.
func (c *conn) waitFor(d Direction, due time.Time) bool {
	for {
		f, changed := c.p.now(d)
		wait := time.Until(due)
		if !f.Blackhole && wait <= 0 {
			return true
		}
		var alarm <-chan time.Time
		if !f.Blackhole {
			if f.Delay == 0 && f.Jitter == 0 { // healed: nothing is late any more
				return true
			}
			alarm = time.After(wait)
		}
		select {
		case <-alarm:
		case <-changed:
		case <-c.gone:
			return false
		}
	}
}

// send writes bytes, at the speed that is allowed, up to where the link is to be cut.
func (c *conn) send(d Direction, b []byte) bool {
	for len(b) > 0 {
		f, changed := c.p.now(d)
		piece := b
		if f.BytesPerS > 0 {
			piece = b[:min(len(b), max(1, f.BytesPerS/50))]
		}
		n, cut := c.p.spend(d, len(piece))
		if n > 0 && !c.halfClosed(d) {
			if _, err := c.end[d].Write(piece[:n]); err != nil {
				c.close(true)
				return false
			}
		}
		if cut {
			c.p.Reset()
			return false
		}
		b = b[n:]
		if f.BytesPerS > 0 {
			select {
			case <-time.After(time.Second * time.Duration(n) / time.Duration(f.BytesPerS)):
			case <-changed:
			case <-c.gone:
				return false
			}
		}
	}
	return true
}

// now is the fault of a direction and the channel that tells when it changes.
func (p *Proxy) now(d Direction) (Fault, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault[d], p.changed
}

// lateness is picked for each chunk.
func (p *Proxy) lateness(d Direction) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.fault[d]
	if f.Jitter <= 0 {
		return f.Delay
	}
	return f.Delay + time.Duration(p.rng.Int64N(int64(f.Jitter)))
}

// spend says how many of n bytes may go before the cut, and whether it is due then.
func (p *Proxy) spend(d Direction, n int) (allowed int, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if left := p.cutLeft[d]; left >= 0 {
		if int64(n) >= left {
			n, cut = int(left), true
			p.cutLeft[d] = -1
		} else {
			p.cutLeft[d] -= int64(n)
		}
	}
	p.stats.Bytes[d] += int64(n)
	return n, cut
}
