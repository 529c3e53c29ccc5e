package proxy

import (
	"context"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/upstream"
)

// Options of a Server. Sizes are bytes.
type Options struct {
	Listen     string // host:port; an empty host binds every address
	Loops      int    // event loops; 0: one per core
	Transport  string // see transport.Options.Kind
	ReadBuffer int    // per loop

	Name        string // of this gateway; part of every connection's name
	Incarnation uint64
	Dialer      *upstream.Dialer // of that incarnation
	Version     string
	Password    string // clients must AUTH with it; "": none

	MaxClients   int
	MaxBulk      int           // proto-max-bulk-len
	QueryLimit   int           // client-query-buffer-limit: input that waits, per client
	Output       OutputLimit   // client-output-buffer-limit
	OutputPubSub OutputLimit   // … of clients that are subscribed to channels
	MemoryTotal  int           // buffers of all clients; the largest is closed beyond it
	MaxInFlight  int           // commands of one client without an answer; then its input waits
	IdleTimeout  time.Duration // 0: none

	ConnectTimeout time.Duration // to a server, with its handshake
	RequestTimeout time.Duration // a server silent that long with calls in flight is dropped; 0: none
	ReconnectMin   time.Duration
	ReconnectMax   time.Duration
	PipeBytes      int // unsent bytes of one server connection beyond which clients wait

	// MaxDedicated bounds the server connections that clients have to themselves: blocked
	// and watching ones.
	MaxDedicated      int
	SlowlogSlowerThan time.Duration // commands that take as long are kept for SLOWLOG; 0: none
	SlowlogMaxLen     int
	LatencyThreshold  time.Duration // … are noted for LATENCY; 0: none

	LockDeadline time.Duration // a command parked longer is answered -TRYAGAIN
	MaxParked    int           // parked commands per loop; beyond: -TRYAGAIN

	SampleEvery int // one command in so many is looked at for hot keys and slots; 0: none
	BigValue    int // bytes from which a value that comes by is remembered as big; 0: none

	// Quiesce stops every mover and returns when nothing of a move is under way; resume
	// lets them go on. Nil where there are no movers.
	Quiesce       func(ctx context.Context) (resume func(), err error)
	ClusterFacade bool     // answer CLUSTER as a Redis Cluster whose every node is a gateway
	Advertise     []string // … and tell clients these addresses; none: the one that they reached

	ConfigFile string            // for INFO
	Settings   map[string]string // all of keyferry.toml but passwords, for CONFIG GET
	// Check says what is wrong with options that CONFIG SET would put into force. Nil: nothing
	// beyond what each setting checks.
	Check func(o *Options) error
	// Rewrite stores some of o, by their keys in keyferry.toml, in the configuration file. Nil:
	// there is none.
	Rewrite func(o *Options, keys []string) error

	Log *zap.Logger
	// Sections adds INFO sections that the data plane does not know: lower-case name → text.
	Sections func() map[string]string
}

// OutputLimit bounds what a client may leave unread: it is closed at once beyond Hard, and
// beyond Soft when that lasts for SoftFor.
type OutputLimit struct {
	Hard, Soft int // bytes
	SoftFor    time.Duration
}

// heldMax is how many bytes of a client's replies may wait for an earlier one, of a slower server,
// before its further commands wait.
const heldMax = 1 << 20
