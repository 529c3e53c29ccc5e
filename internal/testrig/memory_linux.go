package testrig

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// memoryNeeded is the room in memory for which temporary files are put there; Docker gives
// 64 MB to /dev/shm unless told otherwise.
const memoryNeeded = 4 << 30

// intoMemory makes a directory in memory the place of this process's temporary files, and of
// those that it starts. The servers of rigs sync every write, and the gateway every change of a
// job: on a disk tests do little but wait for that, while a process that is killed loses nothing
// that it has written, wherever the file is. The returned function removes it. Directories of
// runs that were killed are removed by the next one: the lock on each ends with its process.
func intoMemory() (remove func()) {
	const shm = "/dev/shm"
	var fs unix.Statfs_t
	nothing := func() {}
	if os.Getenv("TMPDIR") != "" || unix.Statfs(shm, &fs) != nil || fs.Type != unix.TMPFS_MAGIC || int64(fs.Bavail)*fs.Bsize < memoryNeeded || memoryFree() < memoryNeeded {
		return nothing
	}
	stale, _ := filepath.Glob(filepath.Join(shm, "keyferry-rig-*"))
	for _, dir := range stale {
		if lock := lockDir(dir, os.O_RDWR); lock != nil {
			_ = os.RemoveAll(dir)
			_ = lock.Close()
		}
	}
	dir, err := os.MkdirTemp(shm, "keyferry-rig-")
	if err != nil {
		return nothing
	}
	lock := lockDir(dir, os.O_RDWR|os.O_CREATE)
	if lock == nil || os.Setenv("TMPDIR", dir) != nil {
		_ = os.RemoveAll(dir)
		return nothing
	}
	return func() {
		_ = os.RemoveAll(dir)
		_ = lock.Close()
	}
}

// lockDir takes the lock of a directory; nil if another process has it, or if one has just
// removed the directory.
func lockDir(dir string, flags int) *os.File {
	name := filepath.Join(dir, "lock")
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		if _, err := os.Stat(name); err == nil {
			return f
		}
	}
	_ = f.Close()
	return nil
}

// memoryFree is what this process could still use: of the machine's memory, and of what its
// container may have.
func memoryFree() int64 {
	var free int64
	text, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			_, _ = fmt.Sscan(n, &free)
		}
	}
	free <<= 10 // from kB
	var most, used int64
	for name, n := range map[string]*int64{"memory.max": &most, "memory.current": &used} {
		text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", name))
		if _, no := fmt.Sscan(string(text), n); err != nil || no != nil { // "max": there is no limit
			return free
		}
	}
	return min(free, most-used)
}
