//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminalRows is how many lines a terminal has; 0: the file is none.
func terminalRows(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return max(int(size.Row), 2)
}
