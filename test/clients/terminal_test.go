package clients

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keyferry/internal/testrig"
)

var (
	escapes = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]|\r")
	prompt  = regexp.MustCompile(`^(\S+> )+$`)
)

// screen is a terminal of its own with a program at it.
type screen struct {
	t     *testing.T
	cmd   *exec.Cmd
	keys  *os.File
	shown testrig.Log
	ended chan struct{} // closed when nobody has the terminal open any more
}

func onScreen(t *testing.T, argv []string) *screen {
	t.Helper()
	master, slave, err := openTerminal()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	s := &screen{t: t, keys: master, ended: make(chan struct{}), cmd: exec.Command(argv[0], argv[1:]...)}
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.Env = append(os.Environ(), "TERM=xterm", "HOME="+t.TempDir(), "REDISCLI_HISTFILE=/dev/null")
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = s.cmd.Start()
	_ = slave.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			_, _ = s.shown.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	return s
}

func openTerminal() (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil { // of no size, the program would ask the terminal for it
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 200})
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		_ = master.Close()
	}
	return master, slave, err
}

// text is what was shown, without the escapes.
func (s *screen) text(from int) string {
	return escapes.ReplaceAllString(s.shown.String()[from:], "")
}

// end waits until the program has ended by itself.
func (s *screen) end() string {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(cliBound):
		_ = s.cmd.Process.Kill()
		s.t.Errorf("%v does not end; the screen:\n%s", s.cmd, s.shown.String())
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("%v: %v; the screen:\n%s", s.cmd, err, s.shown.String())
	}
	return s.text(0)
}

// kill ends what does not end by itself.
func (s *screen) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	<-s.ended
}

// terminal runs a program, types each line when it prompts, and returns what was shown.
func terminal(t *testing.T, r *testrig.Rig, argv []string, lines ...string) string {
	t.Helper()
	s := onScreen(t, argv)
	// What is typed before the prompt is thrown away, as getpass does.
	prompted := func(from int) bool {
		shown := s.text(from)
		last := shown[strings.LastIndexByte(shown, '\n')+1:]
		return (from == 0 || len(last) < len(shown)) && prompt.MatchString(last)
	}
	mark := 0
	for _, line := range lines {
		r.Await("a prompt before "+line, func() bool { return prompted(mark) })
		mark = len(s.shown.String())
		if _, err := s.keys.Write([]byte(line + "\r")); err != nil {
			t.Fatal(err)
		}
	}
	return s.end()
}
