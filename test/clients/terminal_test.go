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

// terminal runs a program at a terminal of its own, types lines as it prompts, and returns
// what the terminal showed when the program has ended.
func terminal(t *testing.T, r *testrig.Rig, argv []string, lines ...string) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil { // of no size, the program would ask the terminal for it
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 200})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Env = append(os.Environ(), "TERM=xterm", "HOME="+t.TempDir(), "REDISCLI_HISTFILE=/dev/null")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = cmd.Start()
	_ = slave.Close()
	if err != nil {
		t.Fatal(err)
	}
	var screen testrig.Log
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf) // an error once nobody has the other end open
			_, _ = screen.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	// What is typed before the prompt is thrown away, as getpass does.
	prompted := func(from int) bool {
		shown := escapes.ReplaceAllString(screen.String()[from:], "")
		last := shown[strings.LastIndexByte(shown, '\n')+1:]
		return (from == 0 || len(last) < len(shown)) && prompt.MatchString(last)
	}
	mark := 0
	for _, line := range lines {
		r.Await("a prompt before "+line, func() bool { return prompted(mark) })
		mark = len(screen.String())
		if _, err := master.Write([]byte(line + "\r")); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		t.Errorf("%s does not end; the screen:\n%s", strings.Join(argv, " "), screen.String())
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v; the screen:\n%s", strings.Join(argv, " "), err, screen.String())
	}
	return screen.String()
}
