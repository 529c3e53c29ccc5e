package testetcd

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// roomMin is what the largest test takes of memory: etcd reserves 128 MB a member for its log.
const roomMin = 2 << 30

// tempDir is in memory, where there is enough: etcd syncs each change, which takes seconds on a disk that
// others keep busy. A killed process leaves the same behind in both; what a killed test has left of its
// directories is removed by the next one, since it is memory.
func tempDir() (string, error) {
	const memory = "/dev/shm"
	var st unix.Statfs_t
	if unix.Access(memory, unix.W_OK) != nil {
		return os.MkdirTemp("", "keyferry-etcd-")
	}
	left, _ := filepath.Glob(memory + "/keyferry-etcd-*-*")
	for _, dir := range left {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(dir), "keyferry-etcd-%d-", &pid); err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			_ = os.RemoveAll(dir)
		}
	}
	if unix.Statfs(memory, &st) != nil || st.Bavail*uint64(st.Bsize) < roomMin {
		return os.MkdirTemp("", "keyferry-etcd-")
	}
	return os.MkdirTemp(memory, fmt.Sprintf("keyferry-etcd-%d-", os.Getpid()))
}
