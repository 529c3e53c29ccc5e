package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// total is the memory of a process and all its descendants.
type total struct {
	bytes   int64
	largest string // the largest of them
}

// sampleEvery is how often memory is added up: often enough for what lasts.
const sampleEvery = 200 * time.Millisecond

// watch adds up the memory of a process and its descendants until done is closed, and returns
// the most. Where there is no /proc that is nothing.
func watch(pid int, done <-chan struct{}) (most total) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return most
		case <-tick.C:
		}
		if now := memoryOf(pid); now.bytes > most.bytes {
			most = now
		}
	}
}

// process is a line of the kernel's list.
type process struct {
	parent   int
	name     string
	resident int64 // bytes
}

func memoryOf(pid int) (sum total) {
	all := processes()
	largest := int64(0)
	for id, p := range all {
		if !descends(all, id, pid) {
			continue
		}
		sum.bytes += p.resident
		if p.resident > largest {
			largest, sum.largest = p.resident, fmt.Sprintf("of that %s %d MB", p.name, p.resident>>20)
		}
	}
	return sum
}

func descends(all map[int]process, id, from int) bool {
	for ; id > 1; id = all[id].parent {
		if id == from {
			return true
		}
	}
	return false
}

func processes() map[int]process {
	all := map[int]process{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		open, end := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
		if err != nil || end < open {
			continue // it has ended
		}
		id, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		fields := strings.Fields(string(text[end+1:])) // from the third on, see proc(5)
		if id == 0 || len(fields) < 22 {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		pages, _ := strconv.ParseInt(fields[21], 10, 64)
		all[id] = process{parent, string(text[open+1 : end]), pages * int64(os.Getpagesize())}
	}
	return all
}
