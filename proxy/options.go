package proxy

import (
	"time"

	"go.uber.org/zap"
)

// Options of a Server. Sizes are bytes.
type Options struct {
	Listen     string // host:port; an empty host binds every address
	Loops      int    // event loops; 0: one per core
	ReadBuffer int    // per loop

	Name        string // of this gateway; part of every connection's name
	Incarnation uint64
	Version     string
	Password    string // clients must AUTH with it; "": none

	MaxClients    int
	MaxBulk       int           // proto-max-bulk-len
	QueryLimit    int           // client-query-buffer-limit: input that waits, per client
	OutputHard    int           // client-output-buffer-limit: closed at once beyond it
	OutputSoft    int           // … and beyond this for OutputSoftFor
	OutputSoftFor time.Duration //
	MemoryTotal   int           // buffers of all clients; the largest is closed beyond it
	MaxInFlight   int           // commands of one client without an answer; then its input waits
	IdleTimeout   time.Duration // 0: none

	ConnectTimeout time.Duration // to a server, with its handshake
	RequestTimeout time.Duration // a server silent that long with calls in flight is dropped; 0: none
	ReconnectMin   time.Duration
	ReconnectMax   time.Duration
	PipeBytes      int // unsent bytes of one server connection beyond which clients wait

	LockDeadline time.Duration // a command parked longer is answered -TRYAGAIN
	MaxParked    int           // parked commands per loop; beyond: -TRYAGAIN

	ClusterFacade bool     // answer CLUSTER as a Redis Cluster whose every node is a gateway
	Advertise     []string // … and tell clients these addresses; none: the one that they reached

	Log *zap.Logger
	// Sections adds INFO sections that the data plane does not know: lower-case name → text.
	Sections func() map[string]string
}

// outputPause is how much a client may leave unread before its further commands wait.
// It bounds what a client that does not read can make the gateway hold: the replies of
// the commands already in flight, not those of everything that it sends.
const outputPause = 1 << 20
