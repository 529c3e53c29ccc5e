package transport

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Two clients of different loops can know of each other: one has sent something, then the other. A
// plain Redis reads sockets in the order in which they became ready; loops do so each for itself,
// and one of them may be late.
//
//	client A ─► socket of loop 1, which has not run yet
//	client B ─► socket of loop 2 ─► CatchUp ─► loop 1 has handled it ─► f
//
// CatchUp is for the few commands that must not overtake what was sent before them.

// CatchUp implements Engine. Mostly no loop is behind, which costs one system call.
func (e *epollEngine) CatchUp(l Loop, f func()) {
	me := l.(*epollLoop)
	behind := e.behind(me)
	if len(behind) == 0 {
		f()
		return
	}
	var left atomic.Int64
	left.Store(int64(len(behind)))
	for _, b := range behind {
		b.afterRound(func() {
			if left.Add(-1) == 0 {
				_ = me.post(f) // a loop that has ended has no clients
			}
		})
	}
}

// behind are the loops that perhaps have something to handle. The order of the two questions
// matters: a socket counts as ready until it has been read, and before a loop reads it is busy.
//
//	asked 1: nothing ready    the loop has read all, and was busy by then
//	asked 2: not busy         … and has handled it
//
// The loop that asks is busy itself, but not with what came before.
func (e *epollEngine) behind(me *epollLoop) (list []*epollLoop) {
	ready := make([]unix.PollFd, len(e.loops))
	for i, l := range e.loops {
		ready[i] = unix.PollFd{Fd: int32(l.epfd), Events: unix.POLLIN}
	}
	if _, err := unix.Poll(ready, 0); err != nil {
		return e.loops
	}
	for i, l := range e.loops {
		if ready[i].Revents != 0 || l != me && l.busy.Load() {
			list = append(list, l)
		}
	}
	return list
}

// afterRound runs f, on the loop, when a wait that began after now has been handled: a task runs
// at the end of a round, which may have begun before, and one that it posts at the end of the next.
// While a wait tells of as much as it may, more was perhaps ready.
func (l *epollLoop) afterRound(f func()) {
	var next func()
	next = func() {
		if l.full {
			l.postOr(next)
		} else {
			f()
		}
	}
	l.postOr(func() { l.postOr(next) })
}

// postOr runs f on the loop; at once if that has ended, and handles nothing any more.
func (l *epollLoop) postOr(f func()) {
	if !l.post(f) {
		f()
	}
}
