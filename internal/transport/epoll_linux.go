package transport

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const haveEpoll = true

// epollEngine runs event loops on epoll, level-triggered. A loop waits, handles what is
// ready, runs the tasks of other goroutines, calls Turn and closes what has to be closed:
//
//	epoll_wait ─► read, Data … ─► tasks ─► Turn (writes) ─► close ─► epoll_wait
//
// Reads and writes are done when something is ready, so one loop makes one wait, one read
// for each connection with input and one write for each with output, and no other system
// call.
type epollEngine struct {
	h     Handler
	log   *zap.Logger
	ln    net.Listener
	loops []*epollLoop
	wg    sync.WaitGroup
	ended chan struct{} // closed when the loops are told to end

	linger *lingerers
}

func startEpoll(o Options, h Handler) (Engine, error) {
	cfg := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive / 5, Count: 5}}
	ln, err := cfg.Listen(context.Background(), "tcp", o.Listen)
	if err != nil {
		return nil, err
	}
	e := &epollEngine{h: h, log: o.Log, ln: ln, ended: make(chan struct{}), linger: newLingerers()}
	for range max(o.Loops, 1) {
		l, err := newEpollLoop(e, o.ReadBuffer)
		if err != nil {
			_ = e.Stop(time.Second)
			return nil, err
		}
		e.loops = append(e.loops, l)
		e.wg.Go(l.run)
	}
	e.wg.Go(e.accept)
	return e, nil
}

func (e *epollEngine) Stop(limit time.Duration) error {
	_ = e.ln.Close()
	close(e.ended)
	for _, l := range e.loops {
		l.post(func() { l.ending = true })
	}
	end := time.Now().Add(limit)
	done := make(chan struct{})
	go func() { e.wg.Wait(); close(done) }()
	select {
	case <-done:
		e.linger.stop(time.Until(end))
		return nil
	case <-time.After(limit):
		return errors.New("event loops did not end in time")
	}
}

func (e *epollEngine) Unlingered() uint64 { return e.linger.refused.Load() }

// accept takes new connections and gives each to the loop that has the fewest.
func (e *epollEngine) accept() {
	for {
		nc, err := e.ln.Accept()
		switch {
		case err == nil:
			_ = e.Adopt(nc, nil)
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of descriptors, most likely
			e.log.Warn("a connection could not be accepted", zap.Error(err))
			select {
			case <-e.ended:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// Adopt implements Engine.
func (e *epollEngine) Adopt(nc net.Conn, owner any) error {
	defer nc.Close()
	fd, err := dup(nc)
	if err != nil {
		e.log.Warn("a connection could not be taken over", zap.Error(err))
		return err
	}
	best := e.loops[0]
	for _, l := range e.loops[1:] {
		if l.load.Load() < best.load.Load() {
			best = l
		}
	}
	best.load.Add(1)
	if !best.post(func() { _ = best.add(fd, owner, true) }) {
		_ = unix.Close(fd)
		return ErrStopped
	}
	return nil
}

// epollLoop is one event loop. What is not marked otherwise belongs to its goroutine.
type epollLoop struct {
	e       *epollEngine
	epfd    int
	wakefd  int          // eventfd, edge-triggered: it is never read
	conns   []*epollConn // by descriptor
	nextGen int32
	buf     []byte
	armed   bool
	owner   any
	closing []*epollConn
	ending  bool
	full    bool         // the last wait told of as many events as it may: there can be more
	load    atomic.Int64 // accepted connections
	busy    atomic.Bool  // it does not wait: it handles what a wait has told

	signalled atomic.Bool // the eventfd has been written to since the last look at it
	mu        sync.Mutex  // protects tasks and ended
	tasks     []func()
	ended     bool
}

func newEpollLoop(e *epollEngine, readBuffer int) (*epollLoop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epfd)
		return nil, err
	}
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, wakefd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(wakefd)}); err != nil {
		_, _ = unix.Close(epfd), unix.Close(wakefd)
		return nil, err
	}
	return &epollLoop{e: e, epfd: epfd, wakefd: wakefd, buf: make([]byte, max(readBuffer, 4096))}, nil
}

// eventsMax is how many ready connections one wait tells of.
const eventsMax = 512

func (l *epollLoop) run() {
	events := make([]unix.EpollEvent, eventsMax)
	for !l.ending {
		l.busy.Store(false)
		n, err := unix.EpollWait(l.epfd, events, -1)
		l.busy.Store(true)
		l.full = n == len(events)
		if err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			l.e.log.Error("event loop ends", zap.Error(err))
			break
		}
		woken := false
		for i := range n {
			ev := &events[i]
			if int(ev.Fd) == l.wakefd {
				woken = true
				continue
			}
			// A connection that was closed by an earlier event of this wait has left its
			// place, perhaps to another: hence the generation.
			if c := l.conns[ev.Fd]; c != nil && c.gen == ev.Pad {
				c.ready(ev.Events)
			}
		}
		if woken {
			l.signalled.Store(false)
			l.armed = true
			l.runTasks()
		}
		for l.armed || len(l.closing) > 0 {
			if l.armed {
				l.armed = false
				l.e.h.Turn(l)
			}
			l.closeAll()
		}
	}
	l.end()
}

func (l *epollLoop) runTasks() {
	l.mu.Lock()
	tasks := l.tasks
	l.tasks = nil
	l.mu.Unlock()
	for _, f := range tasks {
		f()
	}
}

// end closes every connection and frees the loop.
func (l *epollLoop) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.runTasks() // they may bring new connections
	for _, c := range l.conns {
		if c != nil {
			c.end(nil)
		}
	}
	l.e.h.Turn(l)
	// The eventfd is left to the process: whoever wakes the loop may be about to write to it.
	_ = unix.Close(l.epfd)
}

// post runs f on the loop; false: it has ended.
func (l *epollLoop) post(f func()) bool {
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return false
	}
	l.tasks = append(l.tasks, f)
	l.mu.Unlock()
	l.Wake()
	return true
}

func (l *epollLoop) Owner() any         { return l.owner }
func (l *epollLoop) SetOwner(owner any) { l.owner = owner }

func (l *epollLoop) Arm() { l.armed = true }

var one = []byte{1, 0, 0, 0, 0, 0, 0, 0}

func (l *epollLoop) Wake() {
	if !l.signalled.Swap(true) {
		_, _ = unix.Write(l.wakefd, one)
	}
}

func (l *epollLoop) Enroll(nc net.Conn, owner any) error {
	defer nc.Close()
	fd, err := dup(nc)
	if err != nil {
		return err
	}
	added := make(chan error, 1)
	if !l.post(func() { added <- l.add(fd, owner, false) }) {
		_ = unix.Close(fd)
		return ErrStopped
	}
	select {
	case err := <-added:
		return err
	case <-l.e.ended:
		return ErrStopped // the loop's end closes it
	}
}

// add makes a connection of a descriptor.
func (l *epollLoop) add(fd int, owner any, accepted bool) error {
	l.nextGen++
	c := &epollConn{l: l, fd: fd, gen: l.nextGen, owner: owner, accepted: accepted, events: unix.EPOLLIN}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: c.events, Fd: int32(fd), Pad: c.gen}); err != nil {
		_ = unix.Close(fd)
		if accepted {
			l.load.Add(-1)
		}
		return err
	}
	for fd >= len(l.conns) {
		l.conns = append(l.conns, make([]*epollConn, max(64, len(l.conns)))...)
	}
	l.conns[fd] = c
	if !l.e.h.Opened(c) {
		c.Close()
	}
	return nil
}

func (l *epollLoop) closeAll() {
	for len(l.closing) > 0 {
		list := l.closing
		l.closing = nil
		for _, c := range list {
			c.end(c.err)
		}
	}
}
