package testredis

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
)

// Ports are taken from below Linux's ephemeral range (32768 and up). A port
// inside that range can be given to anyone's outgoing connection while a server
// is down, and the server could then not be restarted on it.
const (
	portMin    = 15000
	portMax    = 32000
	blockPorts = 20
)

// errNoPort is returned when the port range is exhausted.
var errNoPort = errors.New("testredis: no free TCP port found on 127.0.0.1")

var ports = struct {
	sync.Mutex       // guards what follows
	left       []int // of the blocks that are ours
	blocks     []int // first ports of those that have not been tried, in random order
	claims     []net.Listener
}{}

// FreePort returns a TCP port of 127.0.0.1 on which nobody listens at the
// moment. It never returns the same port twice within one process, and on Linux
// none that it has returned in another one that still lives: that port stays
// the other's also while nobody listens there, as before a gateway's start and
// between a server's kill and its restart.
func FreePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	for {
		for len(ports.left) > 0 {
			port := ports.left[0]
			ports.left = ports.left[1:]
			listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				continue
			}
			if err := listener.Close(); err != nil {
				return 0, fmt.Errorf("testredis: free port %d: %w", port, err)
			}
			return port, nil
		}
		if !nextBlock() {
			return 0, errNoPort
		}
	}
}

// nextBlock claims another block of ports, and reports whether there was one.
// The lock of ports is held.
func nextBlock() bool {
	if ports.blocks == nil {
		for _, i := range rand.Perm((portMax - portMin) / blockPorts) {
			ports.blocks = append(ports.blocks, portMin+i*blockPorts)
		}
	}
	for len(ports.blocks) > 0 {
		first := ports.blocks[0]
		ports.blocks = ports.blocks[1:]
		claim, ours := claimBlock(first)
		if !ours {
			continue
		}
		ports.claims = append(ports.claims, claim)
		for i := range blockPorts {
			ports.left = append(ports.left, first+i)
		}
		return true
	}
	return false
}

// claimBlock makes the block of ports that begins with first this process's
// own. What claims it is a Unix socket in Linux's abstract namespace: it is of
// the same network namespace as the ports, and is gone with its process.
func claimBlock(first int) (claim net.Listener, ours bool) {
	if runtime.GOOS != "linux" {
		return nil, true
	}
	claim, err := net.Listen("unix", fmt.Sprintf("@keyferry-test-ports-%d", first))
	return claim, err == nil
}
