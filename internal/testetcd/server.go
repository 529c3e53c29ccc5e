package testetcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"keyferry/internal/testredis"
)

const (
	startBound = time.Minute     // until a fresh member is healthy
	stopBound  = 5 * time.Second // between SIGTERM and SIGKILL
	portTries  = 5               // other processes look for free ports too
)

var (
	// ErrNoBinary is returned when etcd is not installed.
	ErrNoBinary = errors.New("install it: apt-get install etcd-server")
	// ErrRunning is returned by Restart when the member has not been killed.
	ErrRunning = errors.New("testetcd: etcd is still running")

	// errEnded is returned when etcd ended before it was healthy, as it does when a port is taken.
	errEnded = errors.New("testetcd: etcd ended while starting")
)

// Options say how to start etcd; the zero value is a member on free ports with a temporary
// directory.
type Options struct {
	Args   []string // more settings, which win: "--max-request-bytes", "100000"
	Scheme string   // of the clients' URL; "": http. With https, Args name the certificates
}

// Server is one member and what is needed to start it again. Its methods are for one
// goroutine, but for Addr.
type Server struct {
	Addr string // 127.0.0.1:port, for clients
	Dir  string // a temporary one, removed by Stop: its data, and etcd.log

	name, scheme  string
	peer, metrics string // 127.0.0.1:port each
	cluster       string // --initial-cluster; "": it is alone
	args          []string
	child         *testredis.Child // the last one started
}

// Start starts one member and returns when it is healthy.
func Start(o Options) (*Server, error) {
	var err error
	for range portTries {
		var s *Server
		if s, err = newServer("m0", o); err != nil {
			return nil, err
		}
		if err = s.launch(); err == nil {
			err = s.awaitHealth()
		}
		if err == nil {
			return s, nil
		}
		err = errors.Join(err, s.Stop())
		if !errors.Is(err, errEnded) {
			break
		}
	}
	return nil, err
}

// StartCluster starts n members and returns when all are healthy.
func StartCluster(n int, o Options) ([]*Server, error) {
	var all []*Server
	var names []string
	fail := func(err error) ([]*Server, error) {
		for _, s := range all {
			err = errors.Join(err, s.Stop())
		}
		return nil, err
	}
	for i := range n {
		s, err := newServer(fmt.Sprint("m", i), o)
		if err != nil {
			return fail(err)
		}
		all = append(all, s)
		names = append(names, s.name+"=http://"+s.peer)
	}
	for _, s := range all { // all at once: none is healthy alone
		s.cluster = strings.Join(names, ",")
		if err := s.launch(); err != nil {
			return fail(err)
		}
	}
	for _, s := range all {
		if err := s.awaitHealth(); err != nil {
			return fail(err)
		}
	}
	return all, nil
}

func newServer(name string, o Options) (*Server, error) {
	if _, err := exec.LookPath("etcd"); err != nil {
		return nil, fmt.Errorf("testetcd: etcd not found: %w", ErrNoBinary)
	}
	s := &Server{name: name, scheme: o.Scheme, args: o.Args}
	if s.scheme == "" {
		s.scheme = "http"
	}
	for _, addr := range []*string{&s.Addr, &s.peer, &s.metrics} {
		port, err := testredis.FreePort()
		if err != nil {
			return nil, err
		}
		*addr = fmt.Sprintf("127.0.0.1:%d", port)
	}
	var err error
	if s.Dir, err = tempDir(); err != nil {
		return nil, fmt.Errorf("testetcd: %w", err)
	}
	return s, nil
}

// launch starts the process.
func (s *Server) launch() error {
	log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("testetcd: %w", err)
	}
	defer log.Close() // the child has its own descriptor
	cluster := s.cluster
	if cluster == "" {
		cluster = s.name + "=http://" + s.peer
	}
	cmd := exec.Command("etcd", append([]string{
		"--name", s.name, "--data-dir", filepath.Join(s.Dir, "data"),
		"--listen-client-urls", s.scheme + "://" + s.Addr, "--advertise-client-urls", s.scheme + "://" + s.Addr,
		"--listen-peer-urls", "http://" + s.peer, "--initial-advertise-peer-urls", "http://" + s.peer,
		"--listen-metrics-urls", "http://" + s.metrics, "--initial-cluster", cluster,
		"--logger", "zap", "--log-level", "warn",
	}, s.args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, log, log
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	s.child, err = testredis.StartChild(cmd)
	if err != nil {
		return fmt.Errorf("testetcd: start etcd: %w", err)
	}
	return nil
}

func (s *Server) logPath() string { return filepath.Join(s.Dir, "etcd.log") }

// awaitHealth polls until the member says that it is healthy, as it does when it has a leader.
func (s *Server) awaitHealth() error {
	ctx, cancel := context.WithTimeout(context.Background(), startBound)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if s.healthy(ctx) {
			return nil
		}
		select {
		case <-s.child.Done():
			return fmt.Errorf("%w; end of %s:\n%s", errEnded, s.logPath(), s.logTail())
		case <-ctx.Done():
			return fmt.Errorf("testetcd: %s was not healthy within %v; end of %s:\n%s", s.Addr, startBound, s.logPath(), s.logTail())
		case <-tick.C:
		}
	}
}

var noKeepAlive = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}

func (s *Server) healthy(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.metrics+"/health", nil)
	if err != nil {
		return false
	}
	resp, err := noKeepAlive.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return err == nil && bytes.Contains(text, []byte(`"true"`))
}

// logTail returns the last lines of the log, for error messages.
func (s *Server) logTail() string {
	const tailBytes = 1500
	log, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(log[max(0, len(log)-tailBytes):]))
}

// URL is where clients connect, with its scheme.
func (s *Server) URL() string { return s.scheme + "://" + s.Addr }

// Kill ends the member with SIGKILL and reaps it. Ports and directory are kept for Restart.
func (s *Server) Kill() error { return s.child.Kill() }

// Restart starts a member that was killed again. It returns ErrRunning when it was not killed.
func (s *Server) Restart() error {
	select {
	case <-s.child.Done():
	default:
		return ErrRunning
	}
	if err := s.launch(); err != nil {
		return err
	}
	return s.awaitHealth()
}

// Pause freezes the member (SIGSTOP): its connections stay open and silent.
func (s *Server) Pause() error { return s.child.Signal(syscall.SIGSTOP) }

// Continue ends a Pause.
func (s *Server) Continue() error { return s.child.Signal(syscall.SIGCONT) }

// Stop ends the member and removes its directory. Stopping twice is no error.
func (s *Server) Stop() error {
	var err error
	if s.child != nil {
		err = s.child.Terminate(stopBound)
	}
	return errors.Join(err, os.RemoveAll(s.Dir))
}
