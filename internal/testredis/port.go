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
	sync.Mutex // guards held
	held       map[int]net.PacketConn
}{held: map[int]net.PacketConn{}}

// FreePort returns a TCP port of 127.0.0.1 on which nobody listens. It never returns the same
// port twice within one process, nor one that another process has been given that still runs:
// the UDP port of the same number, which nothing here has a use for, is held for as long as
// this process lives and says so. A server may thus take its time to listen, and may be
// restarted later on the port that it had, also when many tests run at once.
func FreePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	const tries = 10 * (portMax - portMin)
	for range tries {
		port := portMin + rand.IntN(portMax-portMin)
		if ports.held[port] != nil {
			continue
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		claim, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			_ = claim.Close()
			continue
		}
		ports.held[port] = claim
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("testredis: free port %d: %w", port, err)
		}
		return port, nil
	}
	return 0, errNoPort
}
