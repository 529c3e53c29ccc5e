package testrig

import (
	"bytes"
	"sync"
)

// Log is what the gateway wrote. It can be read while the gateway writes to it.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Tail is the last n bytes of s, or all of it.
func Tail(s string, n int) string { return s[max(0, len(s)-n):] }
