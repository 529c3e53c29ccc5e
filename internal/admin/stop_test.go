package admin

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/control"
	"keyferry/internal/topology"
	"keyferry/internal/topology/bolt"
	"keyferry/internal/upstream"
	"keyferry/migrator"
)

// stop ends a server of a test, which has nothing to wait for.
func stop(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// TestStopWithConnections: whatever state connections are in, none keeps Stop from ending.
func TestStopWithConnections(t *testing.T) {
	for name, begin := range map[string]struct{ send, answer string }{
		"silent":         {"", ""},
		"idle":           {"PING\r\n", "+PONG\r\n"},
		"half a request": {"PING\r\n*2\r\n$4\r\nPI", "+PONG\r\n"},
		"subscribed":     {"SUBSCRIBE " + ChannelMigrations + "\r\n", "*3\r\n"},
		"subscribed, and speaks on": {"SUBSCRIBE " + ChannelMigrations + "\r\n" + strings.Repeat("PING\r\n", 1000),
			"*3\r\n"},
		"does not read": {strings.Repeat("PROXY HELP\r\n", 20_000), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{Log: zap.NewNop()}
			s.Control, s.Manager = newManager(t)
			if err := s.Start("127.0.0.1:0"); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				c, err := net.Dial("tcp", s.Addr())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if begin.answer == "" {
					go func() { _, _ = io.WriteString(c, begin.send) }()
					continue
				}
				if got := say(t, c, begin.send, strings.Count(begin.answer, "\n")); got != begin.answer {
					t.Fatalf("%q", got)
				}
			}
			for s.connections() < 3 {
				time.Sleep(time.Millisecond)
			}
			stop(t, s)
			if n := s.connections(); n != 0 {
				t.Errorf("%d connections are left", n)
			}
		})
	}
}

func (s *Server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// TestStopGivesUp: a command that does not end keeps Stop until its context ends, no longer.
func TestStopGivesUp(t *testing.T) {
	s := &Server{Log: zap.NewNop()}
	if err := s.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if !s.begin() { // as handle does
		t.Fatal("a server that runs takes no command")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); err == nil {
		t.Error("a command was under way, and Stop says that all have ended")
	}
	if s.begin() {
		t.Error("a command begins at a server that has stopped")
	}
	s.wg.Done()
}

// newManager runs nothing: it has an empty cluster.
func newManager(t *testing.T) (*control.Control, *migrator.Manager) {
	t.Helper()
	store, err := bolt.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	ctl, err := control.Open(t.Context(), store, control.Member{Gateway: topology.Gateway{Name: "gw"}}, topology.NewState("redis", 16384, 16))
	if err != nil {
		t.Fatal(err)
	}
	m, err := migrator.New(store, migrator.Config{}, ctl, upstream.NewDialer("gw", ctl.Incarnation()), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return ctl, m
}
