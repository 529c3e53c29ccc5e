package faultproxy

import (
	"syscall"
)

// smallBuffer is the receive buffer of SmallBuffers, in bytes; Linux doubles it.
const smallBuffer = 64 << 10

// smallSegment is the segment size of SmallBuffers, in bytes: that of an Ethernet. The loopback
// interface's is 64 KB, and a sender's first buffer is a multiple of it.
const smallSegment = 1460

// SmallBuffers is a Control function for net.Dialer and net.ListenConfig. Whoever sends to such
// a socket soon has to wait when its owner does not read, whatever the machine's settings: a
// buffer that the kernel sizes by itself may take 32 MB and more (net.ipv4.tcp_rmem) before the
// sender notices.
func SmallBuffers(_, _ string, c syscall.RawConn) error {
	var err error
	controlErr := c.Control(func(fd uintptr) {
		if err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, smallBuffer); err == nil {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, smallSegment)
		}
	})
	if controlErr != nil {
		return controlErr
	}
	return err
}
