package testredis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	envParent = "TESTREDIS_PARENT"
	envClaim  = "TESTREDIS_CLAIM"
)

func TestMain(m *testing.M) {
	if os.Getenv(envParent) != "" {
		beParent()
		return
	}
	if first, err := strconv.Atoi(os.Getenv(envClaim)); err == nil {
		_, ours := claimBlock(first)
		fmt.Println(ours)
		return
	}
	goleak.VerifyTestMain(m)
}

// beParent is the body of the process that TestChildDiesWithItsParent kills: it
// starts a server, says its pid and waits.
func beParent() {
	s, err := Start(Options{Dir: os.Getenv(envParent)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.PID())
	select {}
}

func TestStartAnswersAndStopCleansUp(t *testing.T) {
	s, err := Start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if got := s.Client().Ping(ctx).Val(); got != "PONG" {
		t.Errorf("PING = %q", got)
	}
	if one, two := s.Client(), s.Client(); one != two {
		t.Error("Client must be shared: a test calls it in loops")
	}
	for name, want := range map[string]string{"save": "", "appendonly": "no", "daemonize": "no"} {
		if got := s.Client().ConfigGet(ctx, name).Val()[name]; got != want {
			t.Errorf("config %s = %q, want %q", name, got, want)
		}
	}
	if err := s.Client().Do(ctx, "DEBUG", "JMAP").Err(); err == nil || strings.Contains(err.Error(), "not allowed") {
		t.Errorf("DEBUG must be enabled, got %v", err)
	}
	if err := s.ClientDB(3).Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Error(err)
	}
	if n := s.Client().Exists(ctx, "k").Val(); n != 0 {
		t.Error("database 3's key is seen in database 0")
	}
	for range 2 { // the second is no error
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(s.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("temporary directory is still there: %v", err)
	}
	if alive(s.PID()) {
		t.Errorf("pid %d is still there", s.PID())
	}
}

func TestKillKeepsWhatRestartNeeds(t *testing.T) {
	s := StartT(t, "--appendonly", "yes", "--appendfsync", "always")
	ctx := context.Background()
	if err := s.Client().Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(); !errors.Is(err, ErrRunning) {
		t.Fatalf("Restart of a running server = %v, want ErrRunning", err)
	}
	first := s.PID()
	for range 2 {
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	if alive(first) {
		t.Errorf("pid %d survived Kill", first)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if s.PID() == first {
		t.Error("Restart did not start a new process")
	}
	if got := s.Client().Get(ctx, "k").Val(); got != "v" {
		t.Errorf("after the restart k = %q, want v", got)
	}
}

func TestPauseFreezesAndContinueThaws(t *testing.T) {
	s := StartT(t)
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := s.Client().Ping(ctx).Err(); err == nil {
		t.Error("a paused server answered")
	}
	if err := s.Continue(); err != nil {
		t.Fatal(err)
	}
	if err := s.Client().Ping(context.Background()).Err(); err != nil {
		t.Errorf("after Continue: %v", err)
	}
}

func TestStopOfAPausedServerIsBounded(t *testing.T) {
	s, err := Start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > stopBound+time.Minute { // it ends, however slow the machine
		t.Errorf("Stop took %v", took)
	}
}

func TestPasswordAndOwnDirectory(t *testing.T) {
	dir := t.TempDir()
	s, err := Start(Options{Dir: dir, Password: "s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Client().Ping(context.Background()).Err(); err != nil {
		t.Error(err)
	}
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "PING\r\n")
	if line, _ := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, "-NOAUTH") {
		t.Errorf("without the password: %q", line)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.logPath()); err != nil {
		t.Errorf("a directory that the caller gave must stay, with the log: %v", err)
	}
}

func TestStartSaysWhyItFailed(t *testing.T) {
	if _, err := Start(Options{Binary: "redis-server-that-is-not"}); !errors.Is(err, ErrNoBinary) {
		t.Errorf("missing binary: %v", err)
	}
	if _, err := Start(Options{Args: []string{"--no-such-setting", "1"}}); err == nil || !strings.Contains(err.Error(), "no-such-setting") {
		t.Errorf("bad setting: %v", err)
	}
	s := StartT(t)
	if _, err := Start(Options{Port: s.Port}); !errors.Is(err, errEnded) {
		t.Errorf("port taken by another server: %v", err)
	}
}

func TestFreePortNeverRepeats(t *testing.T) {
	var mu sync.Mutex
	seen := map[int]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				port, err := FreePort()
				mu.Lock()
				if err != nil || seen[port] {
					t.Errorf("FreePort = %d, %v", port, err)
				}
				seen[port] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestPortsAreOfOneProcess: what one process may use no other takes, though nobody
// listens there yet.
func TestPortsAreOfOneProcess(t *testing.T) {
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), envClaim+"="+strconv.Itoa(port-(port-portMin)%blockPorts))
	out, err := other.Output()
	if free := runtime.GOOS != "linux"; err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(free) {
		t.Errorf("another process takes the block of port %d: %q, %v", port, out, err)
	}
}

func TestChildDiesWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), envParent+"="+t.TempDir())
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the parent said %q", line)
	}
	// Long enough for Go to retire idle threads: the child must not mind.
	time.Sleep(300 * time.Millisecond)
	if !alive(pid) {
		t.Fatal("the server died before its parent")
	}
	if err := parent.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	for deadline := time.Now().Add(time.Minute); alive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("server %d outlived its parent", pid)
		}
	}
}

// alive reports whether pid is a process that runs; one that has ended and
// waits for init to reap it is not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	after := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
	return !strings.HasPrefix(after, " Z")
}
