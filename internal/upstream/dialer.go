package upstream

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"keyferry/internal/resp"
	"keyferry/internal/topology"
)

// Endpoint is a server. It is declared where it is stored, since what is stored must not
// depend on what connects; an alias here spares those who connect from knowing of topology.
type Endpoint = topology.Endpoint

// Target is a server, and what a connection to it is to be.
type Target struct {
	Endpoint
	DB    int
	Proto int    // RESP version; 0 is 2
	Name  string // one that the Dialer gave, with Name; "": the Dialer draws one
	Peer  bool   // it is another gateway, which looks after itself
}

// NamePrefix begins the name of every connection of every gateway to a server.
const NamePrefix = "keyferry:"

// GatewayPrefix begins the names of the connections of all incarnations of a gateway.
func GatewayPrefix(gateway string) string { return NamePrefix + gateway + ":" }

// Prefix begins the names of the connections of one incarnation of a gateway.
func Prefix(gateway string, incarnation uint64) string {
	return GatewayPrefix(gateway) + strconv.FormatUint(incarnation, 10) + ":"
}

// ParseName takes the name of a connection apart, which a Dialer of a gateway has given; else not ok.
func ParseName(name string) (gateway string, incarnation uint64, ok bool) {
	rest, ok := strings.CutPrefix(name, NamePrefix)
	if !ok {
		return "", 0, false
	}
	gateway, rest, ok = strings.Cut(rest, ":")
	if !ok {
		return "", 0, false
	}
	number, _, ok := strings.Cut(rest, ":")
	incarnation, err := strconv.ParseUint(number, 10, 64)
	return gateway, incarnation, ok && err == nil
}

// Dialer is the gateway's one door to its servers: whatever is said to a server goes over a
// connection that it has made, and that the server knows by a name of its own,
// keyferry:<gateway>:<incarnation>:<n>, before it hears the first command. Fencing relies on
// that: a connection without a name could execute something that nobody can stop.
//
// The gateway owns it, for as long as its process lasts: numbers are not used twice within
// an incarnation. Any goroutine may use it, but no loop, since it blocks.
type Dialer struct {
	// TLS is what connections to servers with TLS begin from: trusted authorities, and this
	// gateway's certificate. Nil: the system's authorities, and none. It is set before the
	// first connection.
	TLS *tls.Config

	// Tried hears of each try to connect, and what came of it. It is set before the first
	// connection; nil: nobody does. It must not wait for a server.
	Tried func(to Endpoint, err error)

	// Valid reports whether this gateway may still use servers; see control.Control.Validate. It is
	// asked of each connection when the server knows its name, and an error closes the
	// connection unused. Set before the first connection; nil: nobody can object.
	Valid func(context.Context) error

	// Admit is asked about a connection that nobody has named, before it is given to whoever wants it:
	// what clients send goes over such. It is set before the first connection; nil: all are admitted.
	// It may ask the server, over a connection with a name.
	Admit func(ctx context.Context, to Endpoint) error

	prefix string
	last   atomic.Int64 // number given to a name
}

// NewDialer makes the Dialer of an incarnation of a gateway.
func NewDialer(gateway string, incarnation uint64) *Dialer {
	return &Dialer{prefix: Prefix(gateway, incarnation)}
}

// Prefix begins the names that this Dialer gives.
func (d *Dialer) Prefix() string { return d.prefix }

// Name draws a name that no connection has had. The purpose, a letter or none, tells an
// operator who reads CLIENT LIST, and a fence, what the connection is for.
func (d *Dialer) Name(purpose string) string {
	return d.prefix + purpose + strconv.FormatInt(d.last.Add(1), 10)
}

// Dialed is a connection that is ready for the first command.
type Dialed struct {
	net.Conn
	Name string // that the server knows it by
	ID   int64  // CLIENT ID at the server; 0: it has none
	DB   int    // selected
}

const (
	// dialMax bounds connecting for those whose context does not.
	dialMax = 30 * time.Second
	// A peer that has gone without a word is found out after keepAliveIdle and
	// keepAliveCount times keepAliveEvery.
	keepAliveIdle  = 15 * time.Second
	keepAliveEvery = 5 * time.Second
	keepAliveCount = 3
)

// Dial connects, authenticates, names the connection and selects the protocol and the
// database. It has read every reply before it returns, so whatever the caller sends comes
// from a connection that the server knows by name. The deadline is ctx's, within dialMax.
func (d *Dialer) Dial(ctx context.Context, t Target) (*Dialed, error) {
	c, err := d.dial(ctx, t)
	if d.Tried != nil {
		d.Tried(t.Endpoint, err)
	}
	return c, err
}

func (d *Dialer) dial(ctx context.Context, t Target) (*Dialed, error) {
	ctx, cancel := context.WithTimeout(ctx, dialMax)
	defer cancel()
	unnamed := t.Name == ""
	if unnamed {
		t.Name = d.Name("")
	}
	c, err := d.connect(ctx, t.Endpoint)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	unhook := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer unhook()
	id, err := handshake(c, t)
	if err == nil && d.Valid != nil && !t.Peer {
		err = d.Valid(ctx)
	}
	if err == nil && unnamed && !t.Peer && d.Admit != nil {
		err = d.Admit(ctx, t.Endpoint)
	}
	if err != nil {
		_ = c.Close()
		// The connection has the deadline of ctx, and is closed by its end: which of the two a
		// read hears of first is chance, and a time-out is not to be told as anything else.
		if ended := ctx.Err(); ended != nil {
			err = fmt.Errorf("%w: %w", ended, err)
		}
		return nil, err
	}
	_ = c.SetDeadline(time.Time{})
	return &Dialed{c, t.Name, id, t.DB}, nil
}

func (d *Dialer) connect(ctx context.Context, e Endpoint) (net.Conn, error) {
	n := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveEvery, Count: keepAliveCount}}
	c, err := n.DialContext(ctx, "tcp", e.Addr)
	if err != nil || !e.TLS.On {
		return c, err
	}
	config := &tls.Config{}
	if d.TLS != nil {
		config = d.TLS.Clone()
	}
	host, _, _ := net.SplitHostPort(e.Addr)
	config.ServerName = cmp.Or(e.TLS.ServerName, config.ServerName, host)
	secure := tls.Client(c, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("TLS with %s: %w", e.Addr, err)
	}
	return secure, nil
}

// handshake goes out as one piece, so that it takes one round trip.
func handshake(c net.Conn, t Target) (id int64, err error) {
	var cmds [][]string
	switch secret := t.Secret.Reveal(); {
	case t.User != "":
		cmds = append(cmds, []string{"AUTH", t.User, secret})
	case secret != "":
		cmds = append(cmds, []string{"AUTH", secret})
	}
	cmds = append(cmds, []string{"CLIENT", "SETNAME", t.Name}, []string{"SELECT", strconv.Itoa(t.DB)}, []string{"CLIENT", "ID"})
	if t.Proto == 3 {
		cmds = append(cmds, []string{"HELLO", "3"})
	}
	if _, err := c.Write(encode(cmds)); err != nil {
		return 0, err
	}
	r := bufio.NewReaderSize(c, 512)
	var busy error
	for _, cmd := range cmds {
		reply, err := ReadReply(r)
		switch {
		case err != nil:
			return 0, fmt.Errorf("handshake (%s): %w", cmd[0], err)
		case bytes.HasPrefix(reply, []byte("-BUSY ")):
			busy = fmt.Errorf("handshake (%s): %w", cmd[0], serverError(reply))
		case len(cmd) == 2 && cmd[1] == "ID": // a server that has none says an error
			id, _ = resp.ParseInt(reply)
		case reply[0] == '-':
			return 0, fmt.Errorf("handshake (%s): %w", cmd[0], serverError(reply))
		}
	}
	if busy != nil && t.DB == 0 {
		return handshakeBusy(c, r, t, busy)
	}
	return id, busy
}

// handshakeBusy goes on with a server that runs a long script or function: it refuses CLIENT and
// SELECT, but takes HELLO, which can name the connection as well. So clients are told BUSY by the
// server itself, and the script can be killed. It has been authenticated. busy is what the server said.
func handshakeBusy(c net.Conn, r *bufio.Reader, t Target, busy error) (id int64, err error) {
	proto := strconv.Itoa(max(t.Proto, 2))
	if _, err := c.Write(encode([][]string{{"HELLO", proto, "SETNAME", t.Name}})); err != nil {
		return 0, err
	}
	reply, err := ReadReply(r)
	if err != nil {
		return 0, fmt.Errorf("handshake (HELLO): %w", err)
	}
	fields, ok := resp.SplitAggregate(reply)
	if !ok {
		return 0, busy
	}
	for i := 0; i+1 < len(fields); i += 2 {
		if name, _ := resp.BulkBody(fields[i]); string(name) == "id" {
			id, _ = resp.ParseInt(fields[i+1])
		}
	}
	return id, nil
}

func serverError(reply []byte) ServerError {
	return ServerError(strings.TrimRight(string(reply[1:]), "\r\n"))
}

// Once sends one command over a connection of its own and returns the reply as it came. It is for what
// is rare, and above all for what is meant to interrupt a server, or to ask what it is busy with: on a
// connection that others use that would wait behind what it is about. The deadline is ctx's, within dialMax.
func (d *Dialer) Once(ctx context.Context, t Target, frame []byte) ([]byte, error) {
	if t.Name == "" {
		t.Name = d.Name("") // and so it needs no admission
	}
	c, err := d.Dial(ctx, t)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(dialMax)
	}
	_ = c.SetDeadline(deadline)
	unhook := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer unhook()
	if _, err := c.Write(frame); err != nil {
		return nil, err
	}
	return ReadReply(bufio.NewReader(c))
}

func encode(cmds [][]string) []byte {
	var out []byte
	for _, cmd := range cmds {
		args := make([][]byte, len(cmd))
		for i, a := range cmd {
			args[i] = []byte(a)
		}
		out = resp.AppendRequest(out, args...)
	}
	return out
}

// failuresMin is how often a client's dial fails until go-redis stops to ask the Dialer, and
// has a goroutine try every second instead, which outlives Close. That number is the pool's
// size, so the pool is larger than the one connection that is ever in it.
const failuresMin = 1024

// Client is a go-redis client, for control commands that are rare and whose replies are
// laborious to take apart. It has one connection at a time, and never sends anything twice:
// what to do about a command whose outcome is not known is the caller's to say. bound is for
// connecting, and for each command. go-redis heeds a context's deadline, but not its end
// while a reply is awaited: who must stop at once closes the client.
func (d *Dialer) Client(t Target, bound time.Duration) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: t.Addr, Protocol: 2, DisableIdentity: true,
		Dialer:     func(ctx context.Context, _, _ string) (net.Conn, error) { return d.Dial(ctx, t) },
		MaxRetries: -1, DialerRetries: 1, PoolSize: failuresMin, MaxActiveConns: 1, ContextTimeoutEnabled: true,
		DialTimeout: bound, ReadTimeout: bound, WriteTimeout: bound, PoolTimeout: bound,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}
