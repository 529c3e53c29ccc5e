package transport

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// lingerers are sockets that have been closed but whose peers have not yet received all
// that was written to them. The kernel would throw that away if at the close there is input
// that nobody has read, so they are shut for writing, read from, and closed when the peers
// have acknowledged all:
//
//	close ─► shut for writing ─► each tick: read and drop, ask how much is queued ─► close
//
// All that a peer can make of this is bounded: how many sockets there are, how long each
// stays, how often they are looked at and how much is read each time. One goroutine serves
// them all and exists only while there are any.
type lingerers struct {
	wg sync.WaitGroup // the goroutine

	mu      sync.Mutex    // protects what follows
	limit   time.Duration // how long a peer may take
	max     int           // sockets at a time; one more is closed at once
	added   []lingerer    // since the last tick
	n       int           // all there are
	running bool
	ended   chan struct{} // closed: no peer is waited for any longer
	stopped bool          // ended is closed

	refused atomic.Uint64 // closed at once, though something was queued
	looks   atomic.Int64  // ticks at which there were sockets
	reads   atomic.Int64

	first int // whose turn it is to be read from; of the goroutine, as is ready
	ready []unix.PollFd
}

const (
	lingerMax         = 2 * time.Second // how long a peer may take to receive its last replies
	lingerSocketsMax  = 1024
	lingerTick        = 5 * time.Millisecond
	lingerReadBuffer  = 32 << 10 // bytes
	lingerReadsMax    = 16       // of one socket in one tick
	lingerReadsMaxAll = 64       // of all of them
)

type lingerer struct {
	fd     int
	end    time.Time
	eof    bool // the peer sends no more
	broken bool
}

func newLingerers() *lingerers {
	return &lingerers{limit: lingerMax, max: lingerSocketsMax, ended: make(chan struct{})}
}

// closeLater closes a descriptor, which nobody else may use any more, when its peer has what
// was written to it; at once if too many are waited for.
func (g *lingerers) closeLater(fd int) {
	if !g.take(fd) {
		_ = unix.Close(fd)
	}
}

func (g *lingerers) take(fd int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n >= g.max || g.stopped {
		g.refused.Add(1)
		return false
	}
	_ = unix.Shutdown(fd, unix.SHUT_WR)
	g.added = append(g.added, lingerer{fd: fd, end: time.Now().Add(g.limit)})
	g.n++
	if !g.running {
		g.running = true
		g.wg.Go(g.run)
	}
	return true
}

// stop waits until the peers have all or the time limit has passed. Nobody may call
// closeLater any more.
func (g *lingerers) stop(limit time.Duration) {
	t := time.AfterFunc(limit, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.stopped = true
		close(g.ended)
	})
	g.wg.Wait()
	t.Stop()
}

func (g *lingerers) run() {
	tick := time.NewTicker(lingerTick)
	defer tick.Stop()
	var list []lingerer
	buf := make([]byte, lingerReadBuffer)
	for {
		wait := true
		select {
		case <-tick.C:
		case <-g.ended:
			wait = false
		}
		var more bool
		if list, more = g.merge(list); !more {
			return
		}
		g.looks.Add(1)
		g.poll(list)
		g.drop(list, buf)
		list = g.sweep(list, wait)
	}
}

// merge adds what has come since the last tick. False: there are no sockets, and the
// goroutine has to end.
func (g *lingerers) merge(list []lingerer) ([]lingerer, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	list = append(list, g.added...)
	g.added = g.added[:0]
	g.n = len(list)
	g.running = g.n > 0
	return list, g.running
}

// poll finds out which sockets have input, or are broken. It does not wait: at the end of
// the input a socket is always ready.
func (g *lingerers) poll(list []lingerer) {
	g.ready = g.ready[:0]
	for _, s := range list {
		p := unix.PollFd{Fd: int32(s.fd)}
		if !s.eof {
			p.Events = unix.POLLIN
		}
		g.ready = append(g.ready, p)
	}
	if _, err := unix.Poll(g.ready, 0); err != nil {
		for i := range g.ready {
			g.ready[i].Revents = 0 // there is another tick
		}
	}
}

// drop reads what has come, as much as the bounds allow; who is left out is the first of the
// next tick.
func (g *lingerers) drop(list []lingerer, buf []byte) {
	left := lingerReadsMaxAll
	first := g.first % len(list)
	for i := range list {
		i = (first + i) % len(list)
		s := &list[i]
		s.broken = g.ready[i].Revents&(unix.POLLERR|unix.POLLNVAL) != 0
		if g.ready[i].Revents&unix.POLLIN == 0 || s.broken {
			continue
		}
		if left == 0 {
			g.first = i
			return
		}
		left -= g.read(s, buf, min(left, lingerReadsMax))
	}
}

// read returns how many reads it took to find the end of what has come, or the bound.
func (g *lingerers) read(s *lingerer, buf []byte, most int) int {
	for n := 1; ; n++ {
		g.reads.Add(1)
		got, err := read(s.fd, buf)
		s.eof = got == 0 && err == nil
		s.broken = err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
		if got < len(buf) || n == most {
			return n
		}
	}
}

// sweep closes the sockets that are done with and returns the others.
func (g *lingerers) sweep(list []lingerer, wait bool) []lingerer {
	now := time.Now()
	return slices.DeleteFunc(list, func(s lingerer) bool {
		queued, err := unix.IoctlGetInt(s.fd, unix.TIOCOUTQ)
		done := !wait || s.broken || err != nil || queued == 0 || now.After(s.end)
		if done {
			_ = unix.Close(s.fd)
		}
		return done
	})
}
