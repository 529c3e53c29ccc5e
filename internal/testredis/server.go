package testredis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	startBound = time.Minute     // until a fresh server answers; loading an AOF included
	stopBound  = 5 * time.Second // between SIGTERM and SIGKILL
	portTries  = 5               // other processes look for free ports too
)

var (
	// ErrRunning is returned by Restart when the server has not been killed.
	ErrRunning = errors.New("testredis: server is still running")
	// ErrNoBinary is returned when the server's program is not installed.
	ErrNoBinary = errors.New("install it: apt-get install redis-server")

	// errEnded is returned when the server ended before it answered, as it
	// does when its port is taken.
	errEnded = errors.New("testredis: server ended while starting")
)

// Options say how to start a server; the zero value is a server on a free port
// with a temporary directory, no password and no persistence.
type Options struct {
	Dir      string   // "" makes a temporary directory, removed by Stop
	Password string   // also used to log in to a master
	Args     []string // more redis.conf settings, e.g. "--appendonly", "yes"
	Port     int      // 0 takes a free one
	Binary   string   // "" is redis-server, found in PATH
}

// Server is one redis-server process and what is needed to start it again.
// Stop, Kill and Restart are for one goroutine; the rest may be called from any.
type Server struct {
	Addr     string // 127.0.0.1:port
	Port     int
	Dir      string // holds redis.log and what the server persists
	Password string

	binary    string
	args      []string
	removeDir bool

	mu      sync.Mutex            // guards what follows
	child   *Child                // the last one started
	clients map[int]*redis.Client // by database
}

// Start starts a server and returns when it answers and has loaded its data.
func Start(opts Options) (*Server, error) {
	name := opts.Binary
	if name == "" {
		name = "redis-server"
	}
	binary, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("testredis: %s not found: %w", name, ErrNoBinary)
	}
	s := &Server{
		Dir: opts.Dir, Password: opts.Password, binary: binary, args: opts.Args,
		clients: map[int]*redis.Client{},
	}
	if s.Dir == "" {
		if s.Dir, err = os.MkdirTemp("", "keyferry-redis-"); err != nil {
			return nil, fmt.Errorf("testredis: %w", err)
		}
		s.removeDir = true
	}
	if err := s.startOn(opts.Port); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// startOn starts the server on port, or, when port is 0, on a free port,
// trying another when somebody else was faster.
func (s *Server) startOn(port int) error {
	if port != 0 {
		s.setPort(port)
		return s.launch()
	}
	var err error
	for range portTries {
		if port, err = FreePort(); err != nil {
			return err
		}
		s.setPort(port)
		if err = s.launch(); err == nil || !errors.Is(err, errEnded) {
			return err
		}
	}
	return err
}

func (s *Server) setPort(port int) {
	s.Port, s.Addr = port, "127.0.0.1:"+strconv.Itoa(port)
}

// Path of the file that receives everything the server says.
func (s *Server) logPath() string { return filepath.Join(s.Dir, "redis.log") }

// launch starts the process and waits until it is ready.
func (s *Server) launch() error {
	log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("testredis: %w", err)
	}
	defer log.Close() // the child has its own descriptor
	cmd := exec.Command(s.binary, s.commandLine()...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, log, log
	child, err := StartChild(cmd)
	if err != nil {
		return fmt.Errorf("testredis: start %s: %w", s.binary, err)
	}
	s.mu.Lock()
	s.child = child
	s.mu.Unlock()
	if err := s.awaitReady(child); err != nil {
		return errors.Join(fmt.Errorf("%w; end of %s:\n%s", err, s.logPath(), s.logTail()), child.Kill())
	}
	return nil
}

// commandLine lists the settings; the caller's come last, so that they win.
func (s *Server) commandLine() []string {
	line := []string{
		"--port", strconv.Itoa(s.Port),
		"--bind", "127.0.0.1",
		"--dir", s.Dir,
		"--daemonize", "no",
		"--logfile", "",
		"--save", "",
		"--appendonly", "no",
		"--enable-debug-command", "yes",
	}
	if s.Password != "" {
		line = append(line, "--requirepass", s.Password, "--masterauth", s.Password)
	}
	return append(line, s.args...)
}

// awaitReady polls until the server answers and has loaded its data. It asks
// for the process id: when another process took the port first, then it is
// that one's server which answers here, while ours is about to end.
func (s *Server) awaitReady(child *Child) error {
	ctx, cancel := context.WithTimeout(context.Background(), startBound)
	defer cancel()
	client := NewClient(s.Addr, s.Password, 0)
	defer client.Close()
	go func() { // whoever else listens there may be silent
		select {
		case <-child.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	ready := "process_id:" + strconv.Itoa(child.PID()) + "\r\n"
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := listening(s.Addr)
		if err == nil {
			var info string
			info, err = client.Info(ctx, "server").Result()
			if err == nil && strings.Contains(info, ready) && client.Ping(ctx).Err() == nil {
				return nil
			}
		}
		select {
		case <-child.Done():
			return errEnded
		case <-ctx.Done():
			if child.ended() {
				return errEnded
			}
			return fmt.Errorf("testredis: %s did not answer within %v (%v)", s.Addr, startBound, err)
		case <-tick.C:
		}
	}
}

// listening tells whether anyone accepts connections at addr. go-redis writes a
// line to stderr for every refused one, so it is asked only after this.
func listening(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// logTail returns the last lines of the server's log, for error messages.
func (s *Server) logTail() string {
	const tailBytes = 1000
	log, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(log[max(0, len(log)-tailBytes):]))
}

// Stop ends the server (SIGTERM, then SIGKILL after a bound), closes the
// clients that Client gave out and removes the directory if Start made it.
// Stopping twice is no error.
func (s *Server) Stop() error {
	s.mu.Lock()
	child, clients := s.child, s.clients
	s.clients = map[int]*redis.Client{}
	s.mu.Unlock()
	var errs []error
	for _, client := range clients {
		if err := client.Close(); !errors.Is(err, redis.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if child != nil {
		errs = append(errs, child.Terminate(stopBound))
	}
	if s.removeDir {
		errs = append(errs, os.RemoveAll(s.Dir))
	}
	return errors.Join(errs...)
}

// Kill ends the server with SIGKILL and reaps it. Port and directory are kept
// for Restart.
func (s *Server) Kill() error { return s.current().Kill() }

// Restart starts a server that was killed again, on the same port and with the
// same directory. It returns ErrRunning when it was not killed.
func (s *Server) Restart() error {
	select {
	case <-s.current().Done():
		return s.launch()
	default:
		return ErrRunning
	}
}

// Pause freezes the server (SIGSTOP): its connections stay open and silent.
func (s *Server) Pause() error { return s.current().Signal(syscall.SIGSTOP) }

// Continue ends a Pause.
func (s *Server) Continue() error { return s.current().Signal(syscall.SIGCONT) }

// PID is the process id of the running server, or of the last one that ran.
func (s *Server) PID() int { return s.current().PID() }

// Done is closed when the process that is running now has ended.
func (s *Server) Done() <-chan struct{} { return s.current().Done() }

func (s *Server) current() *Child {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.child
}

// Client returns the client of database 0. Every call returns the same one;
// Stop closes it, and nobody else should.
func (s *Server) Client() *redis.Client { return s.ClientDB(0) }

// ClientDB is Client for another database.
func (s *Server) ClientDB(db int) *redis.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[db] == nil {
		s.clients[db] = NewClient(s.Addr, s.Password, db)
	}
	return s.clients[db]
}

// NewClient makes a client of any address, which the caller closes. It sends what
// it is told and nothing else: no HELLO 3, no CLIENT SETINFO, no retries that would
// hide an error from a test. Its time-outs end a hang; they are no expectation of speed.
func NewClient(addr, password string, db int) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:                  addr,
		Password:              password,
		DB:                    db,
		Protocol:              2,
		DisableIdentity:       true,
		MaxRetries:            -1,
		DialerRetries:         1,
		DialTimeout:           10 * time.Second,
		ReadTimeout:           30 * time.Second,
		WriteTimeout:          30 * time.Second,
		ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	})
}
