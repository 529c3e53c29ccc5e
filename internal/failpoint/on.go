//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type point struct {
	kill  bool
	on    bool
	sleep time.Duration
	until string // the file that ends the wait
	at    int    // acts when reached for this time, counted from 1
	fails int    // so many times it fails
	hits  int
}

var (
	mu     sync.Mutex // protects the points
	points = parse(os.Getenv("KEYFERRY_FAILPOINTS"))
)

func parse(env string) map[string]*point {
	out := make(map[string]*point)
	for _, item := range strings.Split(env, ";") {
		name, act, ok := strings.Cut(item, "=")
		if !ok {
			continue
		}
		p := &point{at: 1}
		act, count, _ := strings.Cut(act, "@")
		if n, err := strconv.Atoi(count); err == nil {
			p.at = n
		}
		if d, ok := strings.CutPrefix(act, "sleep:"); ok {
			p.sleep, _ = time.ParseDuration(d)
		} else if file, ok := strings.CutPrefix(act, "hold:"); ok {
			p.until = file
		} else if n, ok := strings.CutPrefix(act, "fail:"); ok {
			p.fails, _ = strconv.Atoi(n)
		} else {
			p.kill, p.on = act == "kill", act == "on"
		}
		out[name] = p
	}
	return out
}

// Hit is reached at the named line.
func Hit(name string) {
	mu.Lock()
	p := points[name]
	if p == nil {
		mu.Unlock()
		return
	}
	p.hits++
	due := p.hits == p.at
	mu.Unlock()
	if !due {
		return
	}
	fmt.Fprintf(os.Stderr, "failpoint %s\n", name) // tests wait for this line
	if p.kill {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	time.Sleep(p.sleep)
	for p.until != "" {
		if _, err := os.Stat(p.until); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// On reports whether a planted mistake is to be made.
func On(name string) bool {
	mu.Lock()
	defer mu.Unlock()
	p := points[name]
	return p != nil && p.on
}

// Fails reports whether what comes here is to fail this time.
func Fails(name string) bool {
	mu.Lock()
	defer mu.Unlock()
	p := points[name]
	if p == nil || p.fails == 0 {
		return false
	}
	p.fails--
	return true
}
