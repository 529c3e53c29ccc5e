package transport

import "golang.org/x/sys/unix"

// PeersGone says which connections, by the numbers of their sockets, have ended at the other end, or
// will send no more. Any goroutine may call it; it reads nothing, and does not wait. A number that is
// no socket's any more counts as gone.
//
// It looks at the sockets themselves: a loop may not have been told yet, or not read that far.
func PeersGone(fds []int) []bool {
	polls := make([]unix.PollFd, len(fds))
	for i, fd := range fds {
		polls[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP}
	}
	for {
		n, err := unix.Poll(polls, 0)
		if err == unix.EINTR {
			continue
		}
		gone := make([]bool, len(fds))
		for i := range polls {
			gone[i] = err == nil && n > 0 && polls[i].Revents != 0
		}
		return gone
	}
}
