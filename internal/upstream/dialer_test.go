package upstream

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/internal/topology"
)

// TestDialGivenUp: a handshake that ends by its deadline ends once, whoever notices first,
// the reader of the reply or the watch over the context.
func TestDialGivenUp(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts by the kernel alone and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	d := NewDialer("test", 1)
	for range 200 {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Millisecond)
		c, err := d.Dial(ctx, Target{Endpoint: Endpoint{Addr: ln.Addr().String()}})
		cancel()
		if err == nil {
			t.Fatal("nobody has answered the handshake")
		}
		if c != nil {
			t.Fatal("a connection and an error")
		}
	}
}

// TestDialTimesOut: a server that takes the connection and says nothing is a time-out, however
// close the deadline of the read and the end of the context are.
func TestDialTimesOut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := NewDialer("test", 1)
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			c, err := d.Dial(ctx, Target{Endpoint: Endpoint{Addr: l.Addr().String()}})
			if err == nil {
				_ = c.Close()
			}
			if timeout := net.Error(nil); !errors.Is(err, context.DeadlineExceeded) && !(errors.As(err, &timeout) && timeout.Timeout()) {
				t.Errorf("no time-out: %v", err)
			}
		})
	}
	all.Wait()
}

// TestNameBeforeCommands: whichever way somebody comes to a server, the first thing that the
// server executes on the connection is the naming.
func TestNameBeforeCommands(t *testing.T) {
	server := testredis.StartT(t)
	ctx := context.Background()
	d := NewDialer("gw", 7)
	to := Target{Endpoint: at(server), DB: 3}

	monitor, err := d.Dial(ctx, Target{Endpoint: at(server)})
	if err != nil {
		t.Fatal(err)
	}
	defer monitor.Close()
	_ = monitor.SetDeadline(time.Now().Add(time.Minute))
	seen := bufio.NewReader(monitor)
	if _, err := monitor.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := seen.ReadString('\n'); line != "+OK\r\n" {
		t.Fatal(line, err)
	}
	for way, use := range map[string]func() error{
		"Dial": func() error {
			c, err := d.Dial(ctx, to)
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Write([]byte("ECHO Dial\r\n")); err != nil {
				return err
			}
			_, err = ReadReply(bufio.NewReader(c))
			return err
		},
		"Dial by RESP3": func() error {
			c, err := d.Dial(ctx, Target{Endpoint: to.Endpoint, Proto: 3, Name: d.Name("x")})
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Write([]byte("ECHO \"Dial by RESP3\"\r\n")); err != nil {
				return err
			}
			_, err = ReadReply(bufio.NewReader(c))
			return err
		},
		"Conn": func() error {
			c, err := d.Conn(ctx, to, time.Minute)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Do(ctx, "ECHO", "Conn")
			return err
		},
		"Client": func() error {
			c := d.Client(to, time.Minute)
			defer c.Close()
			return c.Echo(ctx, "Client").Err()
		},
		"Fence": func() error {
			return d.Fence(ctx, to.Endpoint, time.Minute, func(string) bool { return false })
		},
	} {
		if err := use(); err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		first := make(map[string]string) // by the client's address
		for {
			line, err := seen.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			// +1700000000.123456 [0 127.0.0.1:1234] "client" "setname" "…"
			addr := strings.TrimSuffix(strings.Fields(line)[2], "]")
			if first[addr] == "" {
				first[addr] = line[strings.Index(line, "] ")+2:]
			}
			if strings.Contains(line, `"ECHO" "`+way+`"`) || strings.Contains(line, `"echo" "`+way+`"`) ||
				way == "Fence" && strings.Contains(line, `"ID"`) { // what it goes on with, CLIENT LIST, is not shown
				if !strings.Contains(strings.ToLower(first[addr]), `"client" "setname" "keyferry:gw:7:`) {
					t.Errorf("%s: the first command was %s", way, first[addr])
				}
				break
			}
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	d := NewDialer("gw", 7)
	var mu sync.Mutex
	var wg sync.WaitGroup
	given := make(map[string]bool)
	for range 8 {
		wg.Go(func() {
			for range 100 {
				for _, purpose := range []string{"", "m"} {
					name := d.Name(purpose)
					mu.Lock()
					if given[name] || !strings.HasPrefix(name, "keyferry:gw:7:"+purpose) {
						t.Errorf("%s given", name)
					}
					given[name] = true
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if d.Prefix() != Prefix("gw", 7) || !strings.HasPrefix(d.Prefix(), GatewayPrefix("gw")) || !strings.HasPrefix(GatewayPrefix("gw"), NamePrefix) {
		t.Error(d.Prefix())
	}
}

// TestDialAsUser: an endpoint with a user is entered as that user, by every door.
func TestDialAsUser(t *testing.T) {
	server := testredis.StartT(t)
	ctx := context.Background()
	if err := server.Client().Do(ctx, "ACL", "SETUSER", "mover", "on", ">open sesame", "~*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	d := NewDialer("gw", 7)
	e := Endpoint{Addr: server.Addr, User: "mover", Secret: topology.NewSecret("open sesame")}
	c, err := d.Conn(ctx, Target{Endpoint: e}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if r, err := c.Do(ctx, "ACL", "WHOAMI"); err != nil || string(r.Text) != "mover" {
		t.Errorf("Conn: %s, %v", r.Text, err)
	}
	g := d.Client(Target{Endpoint: e}, time.Minute)
	defer g.Close()
	if who, err := g.Do(ctx, "ACL", "WHOAMI").Text(); err != nil || who != "mover" {
		t.Errorf("Client: %s, %v", who, err)
	}
	for what, wrong := range map[string]Endpoint{
		"another password": {Addr: e.Addr, User: e.User, Secret: topology.NewSecret("wrong")},
		"no password":      {Addr: e.Addr, User: e.User},
		"another user":     {Addr: e.Addr, User: "nobody", Secret: e.Secret},
	} {
		_, err := d.Conn(ctx, Target{Endpoint: wrong}, time.Minute)
		if !refused(err) || !strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "open sesame") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestDialByTLS: TLS is what the endpoint says, and its certificate must be one that the
// Dialer trusts, of the name that the endpoint has.
func TestDialByTLS(t *testing.T) {
	server := testredis.StartT(t)
	cert, trusted := certificate(t, "redis.example")
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer ln.Close()
	wg.Go(func() { forward(&wg, ln, server.Addr) })
	ctx := context.Background()
	d := NewDialer("gw", 7)
	d.TLS = &tls.Config{RootCAs: trusted}
	e := Endpoint{Addr: ln.Addr().String(), TLS: topology.TLS{On: true, ServerName: "redis.example"}}
	c, err := d.Conn(ctx, Target{Endpoint: e}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if r, err := c.Do(ctx, "CLIENT", "GETNAME"); err != nil || string(r.Text) != c.Name {
		t.Errorf("%s, %v", r.Text, err)
	}
	g := d.Client(Target{Endpoint: e}, time.Minute)
	defer g.Close()
	if err := g.Ping(ctx).Err(); err != nil {
		t.Error(err)
	}
	wrong := e
	wrong.TLS.ServerName = "other.example"
	var mismatch x509.HostnameError
	if _, err := d.Conn(ctx, Target{Endpoint: wrong}, time.Minute); !errors.As(err, &mismatch) {
		t.Errorf("another name: %v", err)
	}
	wrong.TLS.ServerName = "" // then the host's, 127.0.0.1
	if _, err := d.Conn(ctx, Target{Endpoint: wrong}, time.Minute); !errors.As(err, &mismatch) {
		t.Errorf("no name: %v", err)
	}
	var unknown x509.UnknownAuthorityError
	if _, err := NewDialer("gw", 7).Conn(ctx, Target{Endpoint: e}, time.Minute); !errors.As(err, &unknown) {
		t.Errorf("an authority that nobody trusts: %v", err)
	}
	wrong = e
	wrong.Addr = server.Addr // which waits for the end of a line
	if _, err := d.Conn(ctx, Target{Endpoint: wrong}, 50*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server without TLS: %v", err)
	}
}

// forward connects what comes to ln with addr.
func forward(wg *sync.WaitGroup, ln net.Listener, addr string) {
	for {
		near, err := ln.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer near.Close()
			far, err := net.Dial("tcp", addr)
			if err != nil {
				return
			}
			defer far.Close()
			wg.Go(func() { _, _ = io.Copy(near, far); _ = near.Close() })
			_, _ = io.Copy(far, near)
		})
	}
}

// certificate makes one of a name, and the pool of authorities that has issued it.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, x, x, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestFence: those that match are dead when it returns, however many, and nobody else.
func TestFence(t *testing.T) {
	server := testredis.StartT(t)
	ctx := context.Background()
	d, former := NewDialer("gw", 8), NewDialer("gw", 7)
	var dead []*Conn
	for range 5 {
		c, err := former.Conn(ctx, Target{Endpoint: at(server)}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		dead = append(dead, c)
	}
	alive, err := d.Conn(ctx, Target{Endpoint: at(server)}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	if err := d.Fence(ctx, at(server), time.Minute, func(name string) bool { return strings.HasPrefix(name, former.Prefix()) }); err != nil {
		t.Fatal(err)
	}
	for i, c := range dead {
		if _, err := c.Do(ctx, "SET", "k", "v"); err == nil || refused(err) {
			t.Errorf("former connection %d: %v", i, err)
		}
	}
	if r, err := alive.Do(ctx, "EXISTS", "k"); err != nil || r.N != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := d.Fence(ctx, at(server), time.Minute, func(name string) bool { return name == alive.Name }); err != nil {
		t.Fatal(err)
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if d.Fence(ctx, at(server), time.Minute, func(string) bool { return true }) == nil {
		t.Error("a server that is away proves nothing")
	}
}

// TestClientAfterFailures: each command of a client whose connections fail tries anew, so that
// it works as soon as the server takes it, and nothing tries on when the client is closed; see
// TestMain.
func TestClientAfterFailures(t *testing.T) {
	server, err := testredis.Start(testredis.Options{Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Stop() }()
	ctx, d := context.Background(), NewDialer("gw", 7)
	to := Target{Endpoint: Endpoint{Addr: server.Addr, Secret: topology.NewSecret("next")}}
	c, closed := d.Client(to, time.Minute), d.Client(to, time.Minute)
	defer c.Close()
	for range 5 {
		if err := c.Ping(ctx).Err(); !refused(err) {
			t.Fatal(err)
		}
	}
	if err := closed.Ping(ctx).Err(); !refused(err) {
		t.Fatal(err)
	}
	_ = closed.Close()
	if err := server.Client().ConfigSet(ctx, "requirepass", "next").Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(ctx).Err(); err != nil {
		t.Errorf("the server takes the password now: %v", err)
	}
}
