package web

import (
	"net"
	"sync"
)

// maxConns bounds the connections that are open at once: more wait in the kernel's queue.
const maxConns = 512

// limited is a listener that hands out so many connections at a time.
type limited struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func limit(ln net.Listener, n int) *limited {
	return &limited{Listener: ln, places: make(chan struct{}, n), closed: make(chan struct{})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &placed{Conn: c, l: l}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// placed gives its place back when it is closed.
type placed struct {
	net.Conn
	l    *limited
	once sync.Once
}

func (p *placed) Close() error {
	p.once.Do(func() { <-p.l.places })
	return p.Conn.Close()
}
