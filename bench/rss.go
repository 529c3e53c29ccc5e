package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

var errProcStatm = errors.New("bench: unexpected format of /proc/<pid>/statm")

// residentMB is the resident memory of a process in millions of bytes; 0 for pid 0.
func residentMB(pid int) (float64, error) {
	if pid == 0 {
		return 0, nil
	}
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("bench: memory of pid %d: %w", pid, err)
	}
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0, errProcStatm
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0, errProcStatm
	}
	return float64(pages*int64(os.Getpagesize())) / 1e6, nil
}

// watchRSS looks at a process's memory now and then; the function that it returns ends
// that and gives the most that was seen.
func watchRSS(ctx context.Context, pid int) func() float64 {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	peak := 0.0
	look := func() {
		if mb, err := residentMB(pid); err == nil {
			peak = max(peak, mb)
		}
	}
	wg.Go(func() {
		t := time.NewTicker(100 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				look()
			case <-ctx.Done():
				return
			}
		}
	})
	return func() float64 {
		cancel()
		wg.Wait()
		look()
		return peak
	}
}
