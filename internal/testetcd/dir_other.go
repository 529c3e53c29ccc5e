//go:build !linux

package testetcd

func tempRoot() string { return "" }
