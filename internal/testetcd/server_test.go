package testetcd

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMember(t *testing.T) {
	s := StartT(t)
	if err := s.Restart(); !errors.Is(err, ErrRunning) {
		t.Errorf("Restart of a running member: %v", err)
	}
	for range 2 {
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if c, err := net.Dial("tcp", s.Addr); err == nil {
			c.Close()
			t.Error("a killed member listens")
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestStartSaysWhyItFailed(t *testing.T) {
	if _, err := Start(Options{Args: []string{"--no-such-setting", "1"}}); err == nil || !strings.Contains(err.Error(), "no-such-setting") {
		t.Errorf("bad setting: %v", err)
	}
}
