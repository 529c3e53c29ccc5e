package web

import (
	"errors"
	"net"
	"testing"
)

// TestLimitedListener: a connection beyond the limit is taken when another one ends, and
// Close ends a wait for a place.
func TestLimitedListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := limit(inner, 2)
	var dialed []net.Conn
	for range 4 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		dialed = append(dialed, c)
	}
	defer func() {
		for _, c := range dialed {
			_ = c.Close()
		}
	}()
	a, _ := l.Accept()
	b, _ := l.Accept()
	third := make(chan net.Conn)
	go func() { c, _ := l.Accept(); third <- c }()
	if len(l.places) != 2 {
		t.Errorf("%d places taken of 2", len(l.places))
	}
	_ = a.Close()
	_ = a.Close() // gives back one place, not two
	c := <-third
	ended := make(chan error)
	go func() { _, err := l.Accept(); ended <- err }()
	_ = l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a wait for a place ended with %v", err)
	}
	_ = b.Close()
	_ = c.Close()
	if len(l.places) != 0 {
		t.Errorf("%d places are still taken", len(l.places))
	}
}
