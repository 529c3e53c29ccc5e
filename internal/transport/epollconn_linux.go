package transport

import (
	"errors"
	"io"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// epollConn is a connection on an epollLoop.
type epollConn struct {
	l        *epollLoop
	fd       int // -1 once closed: the number may be somebody else's
	gen      int32
	owner    any
	out      []byte // written and not taken by the kernel, from sent on
	sent     int
	events   uint32 // as the poller knows them
	err      error  // why it is being closed
	accepted bool
	closing  bool   // on the loop's list
	into     []byte // where the next read goes; nil: to the loop's buffer
	held     bool   // reads are stopped by the owner
	eof      bool   // the peer sends no more
}

// ready handles what the poller reports.
func (c *epollConn) ready(events uint32) {
	if events&unix.EPOLLOUT != 0 {
		c.flush()
	}
	if c.fd < 0 || c.closing {
		return
	}
	gone := events&(unix.EPOLLERR|unix.EPOLLHUP) != 0
	switch {
	case !c.held && !c.eof && (gone || events&unix.EPOLLIN != 0):
		c.read()
	case gone:
		c.closeFor(c.socketError())
	}
}

func (c *epollConn) read() {
	buf := c.l.buf
	if c.into != nil {
		buf = c.into
	}
	n, err := read(c.fd, buf)
	switch {
	case n > 0:
		c.into = nil
		if !c.l.e.h.Data(c, buf[:n]) {
			c.Close()
		}
	case n == 0 && err == nil:
		if !c.l.e.h.EOF(c) {
			c.closeFor(io.EOF)
			return
		}
		c.eof = true
		c.watch()
	case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
		c.closeFor(err)
	}
}

// socketError is why the kernel says that the connection is over.
func (c *epollConn) socketError() error {
	if n, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && n != 0 {
		return syscall.Errno(n)
	}
	return io.EOF
}

func (c *epollConn) Write(p []byte) (int, error) {
	if c.fd < 0 || c.closing {
		return 0, net.ErrClosed
	}
	n := 0
	if len(c.out) == 0 {
		var err error
		if n, err = c.send(p); err != nil {
			return 0, err
		}
		if n == len(p) {
			return n, nil
		}
	}
	c.out = append(c.out, p[n:]...)
	c.watch()
	return len(p), nil
}

// send gives bytes to the kernel. On an error the connection is being closed.
func (c *epollConn) send(p []byte) (int, error) {
	for {
		n, err := write(c.fd, p)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, unix.EAGAIN):
			return 0, nil
		case !errors.Is(err, unix.EINTR):
			c.closeFor(err)
			return 0, err
		}
	}
}

// flush sends what is kept.
func (c *epollConn) flush() {
	for c.sent < len(c.out) {
		n, err := c.send(c.out[c.sent:])
		if err != nil {
			return
		}
		if n == 0 {
			break
		}
		c.sent += n
	}
	switch {
	case c.sent == len(c.out):
		c.out, c.sent = nil, 0 // an idle connection keeps no buffer
	case c.sent > len(c.out)/2: // moved down when half is used up: the copies stay linear
		n := copy(c.out, c.out[c.sent:])
		c.out, c.sent = c.out[:n], 0
	}
	c.watch()
}

// watch tells the poller what the connection waits for, if that has changed.
func (c *epollConn) watch() {
	var events uint32
	if !c.held && !c.eof {
		events |= unix.EPOLLIN
	}
	if len(c.out) > 0 {
		events |= unix.EPOLLOUT
	}
	if events == c.events || c.fd < 0 {
		return
	}
	c.events = events
	if err := unix.EpollCtl(c.l.epfd, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: events, Fd: int32(c.fd), Pad: c.gen}); err != nil {
		c.closeFor(err)
	}
}

func (c *epollConn) Buffered() int { return len(c.out) - c.sent }

func (c *epollConn) ReadInto(b []byte) bool {
	c.into = b
	return len(b) > 0
}

func (c *epollConn) HoldReads(hold bool) {
	c.held = hold
	c.watch()
}

func (c *epollConn) Close() { c.closeFor(nil) }

func (c *epollConn) closeFor(err error) {
	if c.closing || c.fd < 0 {
		return
	}
	c.closing, c.err = true, err
	c.l.closing = append(c.l.closing, c)
}

// end closes the descriptor and says so.
func (c *epollConn) end(err error) {
	if c.fd < 0 {
		return
	}
	fd := c.fd
	if len(c.out) > 0 && err == nil {
		_, _ = unix.Write(fd, c.out[c.sent:]) // as much as fits
	}
	c.l.conns[fd] = nil
	c.fd, c.out, c.closing = -1, nil, true
	if queued, e := unix.IoctlGetInt(fd, unix.TIOCOUTQ); err == nil && e == nil && queued > 0 {
		_ = unix.EpollCtl(c.l.epfd, unix.EPOLL_CTL_DEL, fd, nil)
		c.l.e.linger.closeLater(fd)
	} else {
		_ = unix.Close(fd)
	}
	if c.accepted {
		c.l.load.Add(-1)
	}
	c.l.e.h.Closed(c, err)
}

func (c *epollConn) Owner() any         { return c.owner }
func (c *epollConn) SetOwner(owner any) { c.owner = owner }
func (c *epollConn) Loop() Loop         { return c.l }

func (c *epollConn) LocalAddr() net.Addr {
	if c.fd < 0 {
		return nil
	}
	sa, err := unix.Getsockname(c.fd)
	return tcpAddr(sa, err)
}

func (c *epollConn) RemoteAddr() net.Addr {
	if c.fd < 0 {
		return nil
	}
	sa, err := unix.Getpeername(c.fd)
	return tcpAddr(sa, err)
}

func tcpAddr(sa unix.Sockaddr, err error) net.Addr {
	if err != nil {
		return &net.TCPAddr{}
	}
	switch x := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: x.Addr[:], Port: x.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: x.Addr[:], Port: x.Port}
	}
	return &net.TCPAddr{}
}

// dup gives the descriptor of nc a second number, which is the caller's and does not block.
func dup(nc net.Conn) (int, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return -1, errors.New("not a connection of the system")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	if e := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return -1, e
	}
	if err != nil {
		return -1, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// read and write are the system calls without telling Go's scheduler, which need not know:
// the sockets do not block.
func read(fd int, p []byte) (int, error) { return raw(unix.SYS_READ, fd, p) }

func write(fd int, p []byte) (int, error) { return raw(unix.SYS_WRITE, fd, p) }

func raw(trap uintptr, fd int, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, _, errno := unix.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
