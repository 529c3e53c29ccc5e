// Package admin answers operators: `PROXY …` and its aliases over RESP on a listener of
// its own.
//
// The server is redcon's. redcon panics on some malformed requests, and its server dies
// of that, so every byte goes through guard first, which lets whole, valid frames pass
// and nothing else:
//
//	client ─► guard (resp.RequestScanner) ─► redcon ─► handler ─► control, migrator
package admin

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/redcon"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"keyferry/internal/control"
	"keyferry/internal/observe"
	"keyferry/internal/resp"
	"keyferry/migrator"
	"keyferry/proxy"
)

// Server answers admin commands.
type Server struct {
	Control  *control.Control
	Manager  *migrator.Manager
	Password string                            // "": none
	Info     func(want map[string]bool) string // INFO of the data plane
	Observer *observe.Observer
	Plane    *proxy.Server
	Log      *zap.Logger

	ln     net.Listener
	wg     sync.WaitGroup // what Stop waits for: the listener, commands under way, subscribers
	ctx    context.Context
	cancel context.CancelFunc // ends ctx: Stop has been called

	crossProtocol rate.Sometimes // lets one connection a minute be logged that speaks HTTP

	// mu protects what follows. Nobody calls anything that can come back here, as a
	// connection's Close does, while it is held.
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	stopped bool // nothing is added to conns or wg any more
}

// callTimeout bounds one admin command: what is not done by then is reported as an error
// and may still come about (a stored change does).
const callTimeout = 10 * time.Second

// Start listens on addr.
func (s *Server) Start(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.ln = ln
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.conns = make(map[net.Conn]struct{})
	s.crossProtocol.Interval = time.Minute
	s.wg.Go(func() {
		err := redcon.Serve(guard{ln, s}, s.handle, func(redcon.Conn) bool { return true }, nil)
		if err != nil && !errors.Is(err, net.ErrClosed) {
			s.Log.Error("admin listener ended", zap.Error(err))
		}
	})
	return nil
}

// Addr is where it listens.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Stop closes the listener and every connection, and tells commands under way to end. It
// returns when nothing of the server is left, or with an error when ctx ends first.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	s.cancel()
	_ = s.ln.Close()
	for _, c := range conns {
		_ = c.Close()
	}
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("admin commands have not ended: %w", ctx.Err())
	}
}

// begin counts something that Stop waits for, and reports whether it may begin: not once
// Stop has been called.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.wg.Add(1)
	}
	return !s.stopped
}

// guard hands out connections from which only whole, valid requests can be read.
type guard struct {
	net.Listener
	s *Server
}

// acceptPause is how long nothing is accepted after that has failed, for want of
// descriptors most likely: redcon would try again at once.
const acceptPause = 50 * time.Millisecond

func (g guard) Accept() (net.Conn, error) {
	c, err := g.Listener.Accept()
	if err != nil {
		if !errors.Is(err, net.ErrClosed) {
			g.s.Log.Warn("an admin connection could not be accepted", zap.Error(err))
			select {
			case <-g.s.ctx.Done():
			case <-time.After(acceptPause):
			}
		}
		return nil, err
	}
	gc := &guardedConn{Conn: c, s: g.s, authed: g.s.Password == ""}
	if !g.s.keep(gc) {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	return gc, nil
}

// keep adds a connection to those that Stop closes. False: that has been.
func (s *Server) keep(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.conns[c] = struct{}{}
	}
	return !s.stopped
}

// Limits of a request. That of all its bytes is far above a list of all slots one by one.
const (
	maxBulk    = 1 << 20
	maxArgs    = 1024
	maxRequest = 4 << 20
)

type guardedConn struct {
	net.Conn
	s      *Server
	authed bool
	scan   resp.RequestScanner
	end    bool   // nothing that comes is passed on: the request in front of it was a line of HTTP
	in     []byte // received, not yet scanned to the end of a frame
	out    []byte // whole frames for redcon
}

func (c *guardedConn) Close() error {
	c.s.mu.Lock()
	delete(c.s.conns, c)
	c.s.mu.Unlock()
	return c.Conn.Close()
}

// Read is called by redcon between the commands that it hands to handle.
func (c *guardedConn) Read(p []byte) (int, error) {
	for {
		if bad := c.frames(); bad != "" {
			_, _ = c.Conn.Write(resp.AppendErr(nil, bad))
			return 0, net.ErrClosed
		}
		if len(c.out) > 0 {
			break
		}
		if c.end {
			return 0, net.ErrClosed
		}
		n, err := c.Conn.Read(p)
		if err != nil {
			return 0, err
		}
		c.in = append(c.in, p[:n]...)
	}
	n := copy(p, c.out)
	c.out = c.out[n:]
	return n, nil
}

// frames passes on what is whole: one at a time before the password was given, since what
// may follow depends on it.
func (c *guardedConn) frames() (bad string) {
	c.scan.MaxBulk, c.scan.MaxArgs = maxBulk, maxArgs
	if !c.authed {
		c.scan.MaxBulk, c.scan.MaxArgs = resp.UnauthMaxBulk, resp.UnauthMaxArgs
	}
	for len(c.in) > 0 && !c.end && (c.authed || len(c.out) == 0) {
		n, st := c.scan.Scan(c.in)
		switch {
		case st == resp.Invalid && len(c.out) > 0:
			return "" // said when what came before has been answered
		case st == resp.Invalid:
			return c.scan.ErrText()
		case st == resp.Again && len(c.in) > maxRequest:
			return "ERR Protocol error: too big request"
		case st == resp.Again:
			return ""
		}
		args := c.scan.Args()
		if resp.CrossProtocol(args) {
			c.s.crossProtocol.Do(func() { c.s.Log.Warn(resp.CrossProtocolText, zap.Stringer("addr", c.RemoteAddr())) })
			c.end = true
			return ""
		}
		if len(args) > 0 {
			c.out = resp.AppendRequest(c.out, args...)
		}
		c.in = c.in[n:]
	}
	return ""
}

func (s *Server) handle(c redcon.Conn, cmd redcon.Command) {
	st := c.NetConn().(*guardedConn)
	args := make([]string, len(cmd.Args))
	for i, a := range cmd.Args {
		args[i] = string(a)
	}
	name := strings.ToUpper(args[0])
	if !st.authed && name != "AUTH" && name != "QUIT" && name != "HELLO" {
		c.WriteError("NOAUTH Authentication required.")
		return
	}
	if !s.begin() {
		_ = c.Close()
		return
	}
	defer s.wg.Done()
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	switch name {
	case "AUTH":
		s.auth(c, st, args)
	case "PING":
		c.WriteString("PONG")
	case "QUIT":
		c.WriteString("OK")
		_ = c.Close()
	case "INFO":
		want := make(map[string]bool)
		for _, a := range args[1:] {
			want[strings.ToLower(a)] = true
		}
		c.WriteBulkString(s.Info(want))
	case "PROXY":
		s.write(c, s.proxy(ctx, args[1:]))
	case "SUBSCRIBE":
		s.subscribe(c, args)
	case "CLUSTER":
		s.write(c, s.cluster(ctx, args[1:]))
	case "COMMAND": // redis-cli asks at start
		c.WriteArray(0)
	case "CLIENT":
		c.WriteString("OK")
	default:
		c.WriteError("ERR unknown command '" + args[0] + "' on the admin port: try PROXY HELP")
	}
}

func (s *Server) auth(c redcon.Conn, st *guardedConn, args []string) {
	switch {
	case len(args) != 2 && len(args) != 3:
		c.WriteError("ERR wrong number of arguments for 'auth' command")
	case s.Password == "":
		c.WriteError("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
	case subtle.ConstantTimeCompare([]byte(args[len(args)-1]), []byte(s.Password)) != 1, len(args) == 3 && args[1] != "default":
		c.WriteError("WRONGPASS invalid username-password pair or user is disabled.")
	default:
		st.authed = true
		c.WriteString("OK")
	}
}

// status is a simple string reply.
type status string

const ok status = "OK"

// write sends a reply: error, status, string (bulk), int, or a list of these.
func (s *Server) write(c redcon.Conn, v any) {
	switch x := v.(type) {
	case error:
		text := x.Error()
		if !hasCode(text) {
			text = "ERR " + text
		}
		c.WriteRaw(resp.AppendErr(nil, text))
	case status:
		c.WriteString(string(x))
	case string:
		c.WriteBulkString(x)
	case int:
		c.WriteInt(x)
	case int64:
		c.WriteInt64(x)
	case []any:
		c.WriteArray(len(x))
		for _, e := range x {
			s.write(c, e)
		}
	default:
		c.WriteNull()
	}
}

// hasCode reports whether an error text begins with a code. Words of our own that stand in
// capitals are none: RATE "x": want …
func hasCode(text string) bool {
	word, _, _ := strings.Cut(text, " ")
	return word == "ERR" || word == "TRYAGAIN" || word == "CLUSTERDOWN"
}
