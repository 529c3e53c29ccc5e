// Package testredis runs real redis-server processes for tests and for the demo.
package testredis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Options of a server.
type Options struct {
	Dir      string   // where it keeps its files; "": a temporary one, removed by Stop
	Port     int      // 0: a free one
	Password string   // requirepass
	Args     []string // more redis-server arguments, as "--appendonly", "yes"
}

// Server is one redis-server process on 127.0.0.1.
type Server struct {
	Addr     string
	Dir      string
	Password string

	port    int
	args    []string
	tempDir bool
	cmd     *exec.Cmd
}

// ErrMissing is returned when there is no redis-server to run.
var ErrMissing = errors.New("redis-server is not installed: apt-get install redis-server")

// Start runs a server and returns when it answers PING.
func Start(o Options) (*Server, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, ErrMissing
	}
	s := &Server{Dir: o.Dir, Password: o.Password, port: o.Port, args: o.Args}
	if s.Dir == "" {
		dir, err := os.MkdirTemp("", "keyferry-redis-")
		if err != nil {
			return nil, err
		}
		s.Dir, s.tempDir = dir, true
	}
	for try := 0; ; try++ {
		if o.Port == 0 {
			port, err := FreePort()
			if err != nil {
				return nil, err
			}
			s.port = port
		}
		s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
		err := s.run()
		if err == nil {
			return s, nil
		}
		if o.Port != 0 || try == 5 { // somebody may have taken the port meanwhile
			_ = s.Stop()
			return nil, err
		}
	}
}

// TB is the part of testing.TB that is used here: the demo must not link package testing.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(f func())
}

// StartT is Start for a test: it fails the test, and stops the server with it.
func StartT(t TB, args ...string) *Server {
	t.Helper()
	s, err := Start(Options{Args: args})
	if err != nil {
		t.Fatalf("testredis: %v", err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	return s
}

func (s *Server) run() error {
	args := []string{"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.Dir, "--save", "", "--daemonize", "no",
		"--enable-debug-command", "yes", "--logfile", filepath.Join(s.Dir, "redis.log")}
	if s.Password != "" {
		args = append(args, "--requirepass", s.Password)
	}
	cmd := exec.Command("redis-server", append(args, s.args...)...)
	if err := StartChild(cmd); err != nil {
		return err
	}
	s.cmd = cmd
	return s.waitReady()
}

// readyTimeout is generous: a server that loads a large dump on a busy machine.
const readyTimeout = 30 * time.Second

func (s *Server) waitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	c := s.Client()
	defer c.Close()
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		err := c.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		if s.exited() {
			return fmt.Errorf("redis-server ended at once: see %s", filepath.Join(s.Dir, "redis.log"))
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("redis-server at %s does not answer: %w", s.Addr, err)
		}
	}
}

func (s *Server) exited() bool {
	var ws syscall.WaitStatus
	pid, err := syscall.Wait4(s.cmd.Process.Pid, &ws, syscall.WNOHANG, nil)
	return err == nil && pid == s.cmd.Process.Pid
}

// Stop ends the server, by force if need be, and removes its files if Start made the
// directory.
func (s *Server) Stop() error {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(syscall.SIGCONT)
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(5*time.Second, func() { _ = s.cmd.Process.Kill() })
		_ = s.cmd.Wait()
		kill.Stop()
		s.cmd = nil
	}
	if s.tempDir {
		return os.RemoveAll(s.Dir)
	}
	return nil
}

// Kill ends the server with SIGKILL. Its directory and port stay its own.
func (s *Server) Kill() error {
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = s.cmd.Wait()
	s.cmd = nil
	return nil
}

// Restart runs the server again on the same port and directory, after Kill.
func (s *Server) Restart() error { return s.run() }

// Pause stops the process where it is (SIGSTOP); Continue lets it go on.
func (s *Server) Pause() error    { return s.cmd.Process.Signal(syscall.SIGSTOP) }
func (s *Server) Continue() error { return s.cmd.Process.Signal(syscall.SIGCONT) }

// PID is the process's id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Client is a new client of the server.
func (s *Server) Client() *redis.Client { return NewClient(s.Addr, s.Password) }

// NewClient is a go-redis client without background traffic or silent retries.
func NewClient(addr, password string) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: addr, Password: password, Protocol: 2, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1,
		DialTimeout: 2 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
}

var (
	portsMu sync.Mutex
	given   = map[int]bool{}
)

// FreePort finds a port that is free now, and never the same twice in one process.
func FreePort() (int, error) {
	for range 100 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := ln.Addr().(*net.TCPAddr).Port
		_ = ln.Close()
		portsMu.Lock()
		taken := given[port]
		given[port] = true
		portsMu.Unlock()
		if !taken {
			return port, nil
		}
	}
	return 0, errors.New("no free port found")
}

var (
	forkOnce sync.Once
	forks    chan forkRequest
)

type forkRequest struct {
	cmd  *exec.Cmd
	done chan error
}

// StartChild starts a process that dies when this one does, even by kill -9. The kernel
// ties that to the thread that forked, so all are forked by one thread that lives on.
func StartChild(cmd *exec.Cmd) error {
	forkOnce.Do(func() {
		forks = make(chan forkRequest)
		go func() {
			runtime.LockOSThread()
			for r := range forks {
				r.done <- r.cmd.Start()
			}
		}()
	})
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	r := forkRequest{cmd, make(chan error, 1)}
	forks <- r
	return <-r.done
}
