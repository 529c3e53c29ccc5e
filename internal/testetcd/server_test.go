package testetcd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
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

// TestLeftDirectories: what a killed test has left in memory is removed, and what others use is not.
func TestLeftDirectories(t *testing.T) {
	mine, err := tempDir()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(mine)
	if !strings.HasPrefix(mine, "/dev/shm/") {
		return // there is too little memory to keep any in
	}
	child := exec.Command("true")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	left := fmt.Sprintf("/dev/shm/keyferry-etcd-%d-left", child.Process.Pid)
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	again, err := tempDir()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(again)
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there (%v)", left, err)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
}

func TestStartSaysWhyItFailed(t *testing.T) {
	if _, err := Start(Options{Args: []string{"--no-such-setting", "1"}}); err == nil || !strings.Contains(err.Error(), "no-such-setting") {
		t.Errorf("bad setting: %v", err)
	}
}
