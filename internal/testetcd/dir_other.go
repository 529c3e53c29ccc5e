//go:build !linux

package testetcd

import "os"

func tempDir() (string, error) { return os.MkdirTemp("", "keyferry-etcd-") }
