// Command measure runs a command that runs Go tests, as "measure make test", and reports what
// each test process took: time, processor time and peak memory. It fails if the command fails,
// if a test process or one that it started was larger than processMax, or if all together were
// larger than totalMax.
//
// It has go test start each test through itself (go help test: -exec), so that it can ask the
// kernel what the process used.
package main

import (
	"bufio"
	"cmp"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	processMax = 2 << 30 // bytes, resident
	totalMax   = 4 << 30
)

// reportVar names the file that test processes are reported to. Where it is set, measure is
// what go test starts.
const reportVar = "MEASURE_REPORT" // the gateway takes KEYFERRY_… for settings

// taken is what one test process took. Processor time includes that of the processes which it
// started and waited for, and Peak is that of the largest of them.
type taken struct {
	Test     string
	Wall     time.Duration
	CPU      time.Duration
	Peak     int64 // bytes, resident
	ExitCode int
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: measure COMMAND [ARGUMENT …]")
		os.Exit(2)
	}
	var code int
	var err error
	if report := os.Getenv(reportVar); report != "" {
		code, err = runTest(report, os.Args[1:])
	} else {
		code, err = runAll(os.Stdout, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// runTest runs one test process and adds what it took to the report.
func runTest(report string, args []string) (int, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	signals := make(chan os.Signal, 4) // go test sends SIGQUIT when the time is over
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	_ = cmd.Wait() // the exit code says it
	state := cmd.ProcessState
	line, err := json.Marshal(taken{testName(args[0]), time.Since(begin), state.UserTime() + state.SystemTime(), peakOf(state), state.ExitCode()})
	if err != nil {
		return 1, err
	}
	f, err := os.OpenFile(report, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 1, err
	}
	_, err = f.Write(append(line, '\n')) // one write: others report too
	if code := state.ExitCode(); code >= 0 {
		return code, errors.Join(err, f.Close())
	}
	return 1, errors.Join(err, f.Close()) // a signal
}

func peakOf(state *os.ProcessState) int64 {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	switch {
	case !ok:
		return 0
	case runtime.GOOS == "darwin":
		return usage.Maxrss
	default:
		return usage.Maxrss << 10
	}
}

// testName is the package whose tests a binary has, and whether the race detector is in it.
func testName(binary string) string {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return filepath.Base(binary)
	}
	name := strings.TrimSuffix(info.Path, ".test")
	for _, s := range info.Settings {
		if s.Key == "-race" && s.Value == "true" {
			name += " (race)"
		}
	}
	return name
}

// runAll runs the command, prints the report to w and returns the exit code.
func runAll(w io.Writer, args []string) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "keyferry-measure-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	report := filepath.Join(dir, "report")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), reportVar+"="+report, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -count=1 -exec="+self))
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	done := make(chan struct{})
	peak := make(chan total)
	go func() { peak <- watch(cmd.Process.Pid, done) }()
	_ = cmd.Wait()
	wall := time.Since(begin)
	close(done)
	all := <-peak
	state := cmd.ProcessState
	tests, err := readReport(report)
	if err != nil {
		return 1, err
	}
	print(w, tests)
	fmt.Fprintf(w, "%8.1f %8.1f %8s  all, compilers too; together at most %d MB, %s\n",
		wall.Seconds(), (state.UserTime() + state.SystemTime()).Seconds(), "", all.bytes>>20, all.largest)
	code := state.ExitCode()
	for _, t := range tests {
		if t.Peak > processMax {
			code = max(code, 1)
			fmt.Fprintf(w, "%s: more than %d MB\n", t.Test, processMax>>20)
		}
	}
	if all.bytes > totalMax {
		code = max(code, 1)
		fmt.Fprintf(w, "together more than %d MB\n", totalMax>>20)
	}
	if code < 0 { // a signal
		code = 1
	}
	return code, nil
}

func readReport(name string) (tests []taken, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("no test was run: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var t taken
		if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
			return nil, err
		}
		tests = append(tests, t)
	}
	slices.SortStableFunc(tests, func(a, b taken) int { return cmp.Compare(b.CPU, a.CPU) })
	return tests, nil
}

func print(w io.Writer, tests []taken) {
	fmt.Fprintf(w, "\n%8s %8s %8s  %s\n", "time s", "CPU s", "peak MB", "tests of")
	for _, t := range tests {
		failed := ""
		if t.ExitCode != 0 {
			failed = "  FAILED"
		}
		fmt.Fprintf(w, "%8.1f %8.1f %8d  %s%s\n", t.Wall.Seconds(), t.CPU.Seconds(), t.Peak>>20, t.Test, failed)
	}
}
