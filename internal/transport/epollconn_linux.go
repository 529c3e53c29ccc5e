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
	out      outQueue // written and not taken by the kernel
	events   uint32   // as the poller knows them
	err      error    // why it is being closed
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
	rest, err := c.sendFirst(p)
	if err != nil {
		return 0, err
	}
	if len(rest) > 0 {
		c.out.copy(rest)
		c.watch()
	}
	return len(p), nil
}

func (c *epollConn) WriteLent(p, buf []byte, from Lender) (lent bool) {
	if c.fd < 0 || c.closing {
		return false
	}
	rest, err := c.sendFirst(p)
	if err != nil || len(rest) == 0 {
		return false
	}
	c.out.push(piece{rest: rest, buf: buf, from: from})
	c.watch()
	return true
}

// sendFirst sends what it can of p, if nothing stands before it, and returns the rest.
func (c *epollConn) sendFirst(p []byte) (rest []byte, err error) {
	if c.out.bytes > 0 {
		return p, nil
	}
	n, err := c.send(p)
	return p[max(n, 0):], err
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
	for c.out.bytes > 0 {
		n, err := c.send(c.out.first())
		if err != nil {
			return
		}
		if n == 0 {
			break
		}
		c.out.sent(n)
	}
	c.watch()
}

// watch tells the poller what the connection waits for, if that has changed.
func (c *epollConn) watch() {
	var events uint32
	if !c.held && !c.eof {
		events |= unix.EPOLLIN
	}
	if c.out.bytes > 0 {
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

func (c *epollConn) Buffered() int { return c.out.bytes }

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
	for c.out.bytes > 0 && err == nil { // as much as fits
		n, e := write(fd, c.out.first())
		if n <= 0 || e != nil {
			break
		}
		c.out.sent(n)
	}
	c.out.drop()
	c.l.conns[fd] = nil
	c.fd, c.closing = -1, true
	if c.accepted {
		c.l.load.Add(-1)
	}
	c.l.e.h.Closed(c, err) // before the number can be somebody else's
	if queued, e := unix.IoctlGetInt(fd, unix.TIOCOUTQ); err == nil && e == nil && queued > 0 {
		_ = unix.EpollCtl(c.l.epfd, unix.EPOLL_CTL_DEL, fd, nil)
		c.l.e.linger.closeLater(fd)
	} else {
		_ = unix.Close(fd)
	}
}

func (c *epollConn) FD() int { return c.fd }

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
