package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets this binary stand for measure, and for a test that uses 100 MB.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv("MEASURE_TEST_USE") != "":
		b := make([]byte, 100<<20)
		for i := range b {
			b[i] = 1
		}
		os.Exit(3)
	case os.Getenv("MEASURE_TEST_ACT") != "":
		main()
	}
	os.Exit(m.Run())
}

func TestReport(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "report")
	cmd := exec.Command(self, "/bin/sh", "-c", `MEASURE_TEST_USE=1 "$0"`, self)
	cmd.Env = append(os.Environ(), "MEASURE_TEST_ACT=1", reportVar+"="+report)
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 3 {
		t.Fatalf("%v: %s", err, out)
	}
	tests, err := readReport(report)
	if err != nil || len(tests) != 1 {
		t.Fatal(tests, err)
	}
	if got := tests[0]; got.Peak < 100<<20 || got.CPU <= 0 || got.Wall < got.CPU/8 || got.ExitCode != 3 {
		t.Errorf("%+v", got)
	}
	var b strings.Builder
	print(&b, tests)
	if !strings.Contains(b.String(), "sh  FAILED") {
		t.Error(b.String())
	}
	if name := testName(self); name != "keyferry/test/measure" && name != "keyferry/test/measure (race)" {
		t.Errorf("this binary is called %s", name)
	}
}

func TestMemoryOfAll(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Log("no /proc: nothing is added up")
		return
	}
	alone := memoryOf(os.Getpid())
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	all := processes()
	if p, ok := all[cmd.Process.Pid]; !ok || p.parent != os.Getpid() || !descends(all, cmd.Process.Pid, os.Getpid()) || descends(all, os.Getppid(), os.Getpid()) {
		t.Errorf("the child is %+v", p)
	}
	if alone.bytes < 1<<20 {
		t.Errorf("%+v for this process", alone)
	}
	_ = in.Close()
	_ = cmd.Wait()
}
