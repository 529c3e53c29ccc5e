package transport

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// lingerTimeout bounds how long a peer that has closed its sending side may take to read
// the replies that are left.
const lingerTimeout = 10 * time.Second

// linger writes the replies that are due to a client which has sent its last byte, as in
// `printf 'GET k\r\n' | nc -N host port`. gnet closes a connection at the end of its
// input, whatever is still to be sent; so its descriptor is duplicated and a goroutine
// writes the rest.
type linger struct {
	net.Conn
	out     chan []byte
	pending atomic.Int64
}

// lingerConnsMax bounds how many such clients there are at a time; one more is closed at once.
const lingerConnsMax = 1024

var errLingering = errors.New("too many connections linger")

// newLinger takes the connection over from gnet, which closes its own descriptor.
func (e *gnetEngine) newLinger(c gnet.Conn) (*linger, error) {
	if e.lingering.Add(1) > lingerConnsMax {
		e.lingering.Add(-1)
		e.unlingered.Add(1)
		return nil, errLingering
	}
	l, err := e.dupLinger(c)
	if err != nil {
		e.lingering.Add(-1)
		return nil, err
	}
	stop := context.AfterFunc(e.ctx, func() { _ = l.SetWriteDeadline(time.Now()) })
	e.wg.Go(func() {
		defer e.lingering.Add(-1)
		defer stop()
		l.run(e.ctx)
	})
	return l, nil
}

func (e *gnetEngine) dupLinger(c gnet.Conn) (*linger, error) {
	fd, err := c.Dup()
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "client")
	defer f.Close()
	nc, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	l := &linger{Conn: nc, out: make(chan []byte, 16)}
	_ = nc.SetWriteDeadline(time.Now().Add(lingerTimeout))
	return l, nil
}

// run writes what is queued until there is no more, the peer takes too long or ctx ends.
func (l *linger) run(ctx context.Context) {
	defer l.Conn.Close()
	for {
		select {
		case b, more := <-l.out:
			if !more {
				return
			}
			if _, err := l.Conn.Write(b); err != nil {
				return // what comes later finds the channel full or is collected with it
			}
			l.pending.Add(-int64(len(b)))
		case <-ctx.Done():
			return
		}
	}
}

// Write queues a copy; a client that reads too slowly for the queue is given up.
func (l *linger) Write(p []byte) (int, error) {
	l.pending.Add(int64(len(p)))
	select {
	case l.out <- append([]byte(nil), p...):
		return len(p), nil
	default:
		return 0, net.ErrClosed
	}
}

func (l *linger) OutboundBuffered() int { return int(l.pending.Load()) }

// Close ends the connection when what was written before has gone out.
func (l *linger) Close() error {
	close(l.out)
	return nil
}
