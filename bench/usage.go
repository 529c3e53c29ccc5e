package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// usage is what a process has used since it began.
type usage struct {
	cpu      time.Duration
	switches int64 // context switches, of its own accord or not, of the threads that live
	calls    int64 // read and write system calls of every kind but recv and send
}

// usageOf is the usage of some processes together; pid 0 is nobody.
func usageOf(pids ...int) (sum usage, err error) {
	for _, pid := range pids {
		if pid == 0 {
			continue
		}
		cpu, err := processCPU(pid)
		if err != nil {
			return usage{}, err
		}
		switches, err := processSwitches(pid)
		if err != nil {
			return usage{}, err
		}
		calls, err := processCalls(pid)
		if err != nil {
			return usage{}, err
		}
		sum.cpu += cpu
		sum.switches += switches
		sum.calls += calls
	}
	return sum, nil
}

func (u usage) since(before usage) usage {
	return usage{u.cpu - before.cpu, u.switches - before.switches, u.calls - before.calls}
}

// processSwitches adds up the context switches of a process's threads.
func processSwitches(pid int) (total int64, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("bench: threads of pid %d: %w", pid, os.ErrNotExist)
	}
	for _, file := range files {
		status, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // the thread has ended meanwhile
		}
		if err != nil {
			return 0, fmt.Errorf("bench: %w", err)
		}
		total += procNumber(status, "voluntary_ctxt_switches:") + procNumber(status, "nonvoluntary_ctxt_switches:")
	}
	return total, nil
}

// processCalls is the number of reads and writes; 0 where the kernel does not say.
func processCalls(pid int) (int64, error) {
	io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("bench: calls of pid %d: %w", pid, err)
	}
	return procNumber(io, "syscr:") + procNumber(io, "syscw:"), nil
}

// procNumber is the number behind a name at the start of a line; 0 if there is none.
func procNumber(text []byte, name string) int64 {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			n, _ := strconv.ParseInt(string(bytes.TrimSpace(rest)), 10, 64)
			return n
		}
	}
	return 0
}
