package testredis

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports are taken from below Linux's ephemeral range (32768 and up). A port
// inside that range can be given to anyone's outgoing connection while a server
// is down, and the server could then not be restarted on it.
const (
	portMin = 15000
	portMax = 32000
)

// errNoPort is returned when the port range is exhausted.
var errNoPort = errors.New("testredis: no free TCP port found on 127.0.0.1")

var ports = struct {
	sync.Mutex // guards taken
	taken      map[int]bool
}{taken: map[int]bool{}}

// FreePort returns a TCP port of 127.0.0.1 on which nobody listens at the
// moment. It never returns the same port twice within one process; another
// process may still take it before the caller does.
func FreePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	const tries = 10 * (portMax - portMin)
	for range tries {
		port := portMin + rand.IntN(portMax-portMin)
		if ports.taken[port] {
			continue
		}
		ports.taken[port] = true
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("testredis: free port %d: %w", port, err)
		}
		return port, nil
	}
	return 0, errNoPort
}
