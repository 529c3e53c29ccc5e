package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"keyferry/internal/testredis"
)

const (
	nutcrackerStartBound = 30 * time.Second
	nutcrackerStopBound  = 2 * time.Second
)

var (
	// ErrNoNutcracker is returned when twemproxy is not installed.
	ErrNoNutcracker = errors.New("nutcracker (twemproxy) not found; install it: apt-get install nutcracker")

	errNutcrackerEnded = errors.New("bench: nutcracker ended while starting")
)

// Nutcracker is a running twemproxy.
type Nutcracker struct {
	Addr  string // 127.0.0.1:port
	PID   int
	child *testredis.Child
}

// StartNutcracker starts twemproxy in front of servers, over which it spreads the
// keys by CRC16. Its configuration and log go to dir. listenPort 0 takes a free
// port. It dies with this process.
func StartNutcracker(dir string, listenPort int, servers []string) (*Nutcracker, error) {
	binary, err := exec.LookPath("nutcracker")
	if err != nil {
		// Debian has it in /usr/sbin, which is not in every user's PATH.
		if binary, err = exec.LookPath("/usr/sbin/nutcracker"); err != nil {
			return nil, ErrNoNutcracker
		}
	}
	statsPort, err := testredis.FreePort()
	if err == nil && listenPort == 0 {
		listenPort, err = testredis.FreePort()
	}
	if err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(listenPort)
	if err := portIsFree(addr); err != nil {
		return nil, err
	}
	config, log := filepath.Join(dir, "nutcracker.yml"), filepath.Join(dir, "nutcracker.log")
	if err := os.WriteFile(config, nutcrackerConfig(addr, servers), 0o644); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	cmd := exec.Command(binary, "-c", config, "-o", log, "-p", filepath.Join(dir, "nutcracker.pid"),
		"-a", "127.0.0.1", "-s", strconv.Itoa(statsPort))
	child, err := testredis.StartChild(cmd)
	if err != nil {
		return nil, fmt.Errorf("bench: start %s: %w", binary, err)
	}
	n := &Nutcracker{Addr: addr, PID: child.PID(), child: child}
	if err := n.awaitReady(); err != nil {
		said, _ := os.ReadFile(log) // without it the message is poorer, no more
		return nil, errors.Join(fmt.Errorf("%w; %s says:\n%s", err, log, said), n.Stop())
	}
	return n, nil
}

// portIsFree fails when somebody listens on addr: awaitReady would take them for
// our nutcracker.
func portIsFree(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("bench: port for nutcracker: %w", err)
	}
	return listener.Close()
}

func nutcrackerConfig(addr string, servers []string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "peers:\n  listen: %s\n  hash: crc16\n  distribution: modula\n", addr)
	b.WriteString("  redis: true\n  preconnect: true\n  auto_eject_hosts: false\n  servers:\n")
	for i, server := range servers {
		fmt.Fprintf(&b, "   - %s:1 server%d\n", server, i)
	}
	return []byte(b.String())
}

// awaitReady waits until it accepts connections or has ended.
func (n *Nutcracker) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), nutcrackerStartBound)
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- AwaitPort(ctx, n.Addr) }()
	select {
	case err := <-ready:
		return err
	case <-n.child.Done():
		cancel()
		<-ready
		return errNutcrackerEnded
	}
}

// AwaitPort returns when somebody accepts connections at addr, or with an error
// when ctx is done before.
func AwaitPort(ctx context.Context, addr string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("bench: nobody listens on %s: %w", addr, err)
		case <-tick.C:
		}
	}
}

// Stop ends twemproxy and returns when it is gone.
func (n *Nutcracker) Stop() error { return n.child.Terminate(nutcrackerStopBound) }
