package gateway

import (
	"fmt"
	"math"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"keyferry/conf"
)

// ownFiles are descriptors for all that is not a client and not a connection of one client's
// own at a server: the shared connections to servers, the store, listeners and their clients.
const ownFiles = 128

// filesMax is how many descriptors the process may have: its hard limit, to which Go raises
// the soft one.
func filesMax() uint64 {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) != nil {
		return math.MaxUint64
	}
	return uint64(r.Cur)
}

// fit reduces a number of clients and one of connections of their own at servers, each in
// proportion, to what so many descriptors allow: clients that took all would leave none for
// the servers, and nobody could be served.
func fit(files uint64, clients, dedicated int) (int, int) {
	if files >= uint64(clients+dedicated+ownFiles) {
		return clients, dedicated
	}
	room := int(max(files, ownFiles+2)) - ownFiles
	fewer := max(room*clients/(clients+dedicated), 1)
	return fewer, max(room-fewer, 1)
}

// fitFiles lowers what c allows to what the system does, and says so.
func (g *Gateway) fitFiles(c *conf.Config) {
	files := filesMax()
	clients, dedicated := fit(files, c.Clients.MaxClients, c.Servers.MaxDedicated)
	if clients == c.Clients.MaxClients && dedicated == c.Servers.MaxDedicated {
		return
	}
	g.log.Warn("fewer clients are let in than configured: the process may not open more files (ulimit -n)", zap.Uint64("files", files),
		zap.Int("clients.max-clients", clients), zap.Int("configured", c.Clients.MaxClients),
		zap.Int("servers.max-dedicated", dedicated), zap.Int("needed", c.Clients.MaxClients+c.Servers.MaxDedicated+ownFiles))
	c.Clients.MaxClients, c.Servers.MaxDedicated = clients, dedicated
}

// checkFiles refuses settings for which there are too few descriptors.
func checkFiles(files uint64, c *conf.Config) error {
	clients, dedicated := fit(files, c.Clients.MaxClients, c.Servers.MaxDedicated)
	if clients == c.Clients.MaxClients && dedicated == c.Servers.MaxDedicated {
		return nil
	}
	return fmt.Errorf("the operating system is not able to handle the specified number of clients, try with %d, and servers.max-dedicated %d", clients, dedicated)
}
