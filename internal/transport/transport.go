// Package transport is what the data plane's event loops stand on: connections that are
// read, written and closed on the goroutine of one loop. There are two: gnet, which runs
// everywhere, and on Linux one that talks to epoll itself, which costs fewer system calls
// and can stop to read from a client.
//
//	accept ─► Opened ─► Data … Data ─► [EOF] ─► Closed
//	              events of one wait of the poller ─► Turn
package transport

import (
	"errors"
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"
)

// Handler is the data plane as a transport sees it. All calls that concern one loop come
// from that loop's goroutine, one at a time.
type Handler interface {
	// Opened is called for a new connection before anything else: an accepted one, whose
	// Owner is nil, or an enrolled one. False: it is closed, after what was written to it.
	Opened(c Conn) bool
	// Data is given what has been received, valid during the call only. False: the
	// connection is closed.
	Data(c Conn, b []byte) bool
	// EOF tells that the peer sends no more. True: there is more to be written to it, and
	// the connection stays until Close; else it is closed now.
	EOF(c Conn) bool
	// Closed ends a connection: nothing can be written to it any more. err is nil after
	// Close. It may be called while Write runs.
	Closed(c Conn, err error)
	// Turn is called after Arm or Wake, when the events at hand have been handled.
	Turn(l Loop)
}

// Loop is one event loop.
type Loop interface {
	// Arm asks for a Turn when the events at hand have been handled. On the loop only.
	Arm()
	// Wake asks for a Turn soon, from any goroutine. After Stop it does nothing.
	Wake()
	// Enroll makes nc, which it takes over, a connection of the loop with an owner, and
	// returns after Opened. Not for the loop's goroutine, which it waits for.
	Enroll(nc net.Conn, owner any) error
	// Owner is what SetOwner has given; both on the loop only.
	Owner() any
	SetOwner(owner any)
}

// Conn is a connection on its loop. Its methods are for the loop's goroutine.
type Conn interface {
	// Write takes all of p; what the kernel does not take at once is kept.
	Write(p []byte) (int, error)
	// WriteLent is Write of p, a part of buf, but what the kernel does not take at once is
	// not copied: true, and buf is with the connection until from is given it back, which
	// is not before the present event ends. False: buf is no longer needed.
	WriteLent(p, buf []byte, from Lender) (lent bool)
	// Buffered is the number of bytes that were written and the kernel has not taken.
	Buffered() int
	// Close ends the connection after the present event. What Buffered counts is lost.
	Close()
	// HoldReads stops to read, or goes on. A transport that can't stop does nothing.
	HoldReads(hold bool)
	// ReadInto has the next read go to b, so that Data is given a part of b instead of the
	// loop's buffer. False: the transport can't do that.
	ReadInto(b []byte) bool
	// Owner is what SetOwner or Enroll has given.
	Owner() any
	SetOwner(owner any)
	Loop() Loop
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
	// FD is the number of the socket, for PeersGone; -1 once the connection has ended. It stays
	// open until Closed has returned, or Owner has called Close.
	FD() int
}

// Lender has lent memory to a connection, and is given it back on the connection's loop.
type Lender interface {
	GiveBack(buf []byte)
}

// Engine is a running transport.
type Engine interface {
	// Stop closes the listener and every connection, and returns when the loops have
	// ended, or after the time limit with an error.
	Stop(limit time.Duration) error
	// Unlingered counts the connections that were closed before their peers had all that
	// was written to them, since too many others waited for that.
	Unlingered() uint64
	// Adopt makes nc, which it takes over and which somebody else has accepted, a connection of the
	// loop that has the fewest, with an owner. Not for a loop's goroutine.
	Adopt(nc net.Conn, owner any) error
	// CatchUp runs f on l when every loop has handled what its connections had received when it
	// was called; perhaps before it returns. It is called at a Turn of l.
	CatchUp(l Loop, f func())
}

// Options of a transport.
type Options struct {
	Kind       string // "auto", "epoll" or "gnet"
	Listen     string // host:port
	Loops      int
	ReadBuffer int // bytes, of each loop
	Log        *zap.Logger
}

// keepAlive is after how long an idle peer is asked whether it is still there.
const keepAlive = time.Minute

// ErrStopped is returned by Enroll when the loops end.
var ErrStopped = errors.New("event loops have ended")

// Start listens and returns when connections are accepted. Errors: the address is taken or
// malformed; a kind that this system has not.
func Start(o Options, h Handler) (Engine, error) {
	switch o.Kind {
	case "", "auto":
		if haveEpoll {
			return startEpoll(o, h)
		}
		return startGnet(o, h)
	case "epoll":
		return startEpoll(o, h)
	case "gnet":
		return startGnet(o, h)
	}
	return nil, fmt.Errorf("transport %q: want auto, epoll or gnet", o.Kind)
}
