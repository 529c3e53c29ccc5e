package testetcd

import "golang.org/x/sys/unix"

// roomMin is what the largest test takes of memory: etcd reserves 128 MB a member for its log.
const roomMin = 2 << 30

// tempRoot is in memory, where there is enough: etcd syncs each change, which takes seconds on a disk that
// others keep busy. A killed process leaves the same behind in both.
func tempRoot() string {
	const memory = "/dev/shm"
	var st unix.Statfs_t
	if unix.Statfs(memory, &st) == nil && st.Bavail*uint64(st.Bsize) > roomMin && unix.Access(memory, unix.W_OK) == nil {
		return memory
	}
	return ""
}
