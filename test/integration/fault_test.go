package integration

import (
	"net"
	"strings"
	"sync"
	"testing"

	"keyferry/internal/resp"
)

// fault stands between the gateway and one server and can answer in its place. (What
// networks do to connections is internal/faultproxy's matter.)
type fault struct {
	t      *testing.T
	ln     net.Listener
	server string

	mu    sync.Mutex // protects what follows
	conns map[net.Conn]struct{}
	ended bool
	// onRequest sees each whole request. What it returns is written in the place of the
	// server's reply, and cut then resets the connection.
	onRequest func(args []string) (reply string, cut bool)
}

func newFault(t *testing.T, server string) *fault {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fault{t: t, ln: ln, server: server, conns: map[net.Conn]struct{}{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		f.mu.Lock()
		f.ended = true
		f.mu.Unlock()
		f.reset()
		wg.Wait()
	})
	return f
}

func (f *fault) addr() string { return f.ln.Addr().String() }

// set changes how the link behaves, for what is read from now on.
func (f *fault) set(change func(*fault)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// reset cuts every connection with RST.
func (f *fault) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		cut(c)
	}
}

func cut(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

func (f *fault) track(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		_ = c.Close()
		return false
	}
	f.conns[c] = struct{}{}
	return true
}

func (f *fault) forget(c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
	_ = c.Close()
}

func (f *fault) serve(c net.Conn) {
	if !f.track(c) {
		return
	}
	defer f.forget(c)
	s, err := net.Dial("tcp", f.server)
	if err != nil {
		cut(c)
		return
	}
	if !f.track(s) {
		return
	}
	defer f.forget(s)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { _ = c.(*net.TCPConn).CloseWrite() }()
		b := make([]byte, 64<<10)
		for {
			n, err := s.Read(b)
			if err != nil {
				return
			}
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
		}
	})
	f.requests(c, s)
	_ = s.Close()
	wg.Wait()
}

// requests passes what the gateway sends, request by request.
func (f *fault) requests(c, s net.Conn) {
	scan := resp.RequestScanner{MaxBulk: 512 << 20, MaxArgs: 1 << 20}
	var in []byte
	b := make([]byte, 64<<10)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		in = append(in, b[:n]...)
		for len(in) > 0 {
			n, st := scan.Scan(in)
			if st == resp.Again {
				break
			}
			if st == resp.Invalid {
				f.t.Errorf("the gateway sent what is no request: %q", in[:min(len(in), 200)])
				return
			}
			frame := in[:n]
			in = in[n:]
			f.mu.Lock()
			hook := f.onRequest
			f.mu.Unlock()
			if hook != nil {
				args := make([]string, 0, 8)
				for _, a := range scan.Args() {
					args = append(args, string(a))
				}
				if reply, end := hook(args); reply != "" || end {
					_, _ = c.Write([]byte(reply))
					if end {
						cut(c)
						return
					}
					continue
				}
			}
			if _, err := s.Write(frame); err != nil {
				return
			}
		}
	}
}

// isCommand reports whether a request is the named command, in any case.
func isCommand(args []string, name string) bool {
	return len(args) > 0 && strings.EqualFold(args[0], name)
}
