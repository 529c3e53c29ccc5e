package proxy

import (
	"context"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/upstream"
	"keyferry/proxy/stats"
)

// Options of a Server, grouped by what they are about. Sizes are bytes.
//
// Nobody changes Options that a Server has. CONFIG SET makes a copy with one setting changed, has it
// checked as a whole, and puts the copy into force: Server.settings.live for any goroutine, and by
// a message opt of each loop, which so sees one set of options during one event.
type Options struct {
	ListenOptions
	Peers PeerOptions
	Identity
	ClientOptions
	ServerOptions
	LockOptions
	stats.Config
	ConfigOptions

	// Quiesce stops every mover and returns when nothing of a move is under way; resume
	// lets them go on. Nil where there are no movers.
	Quiesce func(ctx context.Context) (resume func(), err error)
	// Flushed hears that servers were flushed, or that their databases were swapped. It must not wait. Nil:
	// nobody does.
	Flushed func()
	// Sections adds INFO sections that the data plane does not know: lower-case name → text.
	Sections func() map[string]string
	Log      *zap.Logger
}

// ListenOptions say where clients come in, and what does the work. They hold from the start on.
type ListenOptions struct {
	Listen     string // host:port; an empty host binds every address
	Loops      int    // event loops; 0: one per core
	Transport  string // see transport.Options.Kind
	ReadBuffer int    // per loop

	ClusterFacade bool     // answer CLUSTER as a Redis Cluster whose every node is a gateway
	Advertise     []string // … and tell clients these addresses; none: the one that they reached
}

// PeerOptions are about the other gateways of the cluster. They hold from the start on.
type PeerOptions struct {
	Listen string // host:port where they come in; "": nowhere
	Secret string // they must AUTH with it, and so does this gateway with them
	Calls  PeerCalls
	// Refused hears that the address of a peer refuses connections. It must not block. Nil: nobody
	// wants to know.
	Refused func(gateway string)
	// Patience is how much longer than LockDeadline a command waits for a gateway that has gone: until others
	// have noticed, and one of them goes on in its place.
	Patience time.Duration
}

// Identity says which gateway this is. It holds from the start on.
type Identity struct {
	Name        string // part of every connection's name at the servers
	Incarnation uint64 // … new with every start
	Version     string
}

// ClientOptions are what a client must know and how much it may have. CONFIG SET can change them.
type ClientOptions struct {
	Password string // clients must AUTH with it; "": none

	MaxClients   int
	MaxBulk      int           // proto-max-bulk-len
	QueryLimit   int           // client-query-buffer-limit: input that waits, per client
	Output       OutputLimit   // client-output-buffer-limit
	OutputPubSub OutputLimit   // … of clients that are subscribed to channels
	MemoryTotal  int           // buffers of all clients; the largest is closed beyond it
	MaxInFlight  int           // commands of one client without an answer; then its input waits
	IdleTimeout  time.Duration // 0: none
}

// ServerOptions are about connections to servers. CONFIG SET can change RequestTimeout and
// MaxDedicated.
type ServerOptions struct {
	Dialer         *upstream.Dialer // of this incarnation: it names every connection
	ConnectTimeout time.Duration    // with the handshake
	RequestTimeout time.Duration    // a server silent that long with calls in flight is dropped; 0: none
	ReconnectMin   time.Duration
	ReconnectMax   time.Duration
	PipeBytes      int // unsent bytes of one server connection beyond which clients wait
	// MaxDedicated bounds the server connections that clients have to themselves: blocked
	// and watching ones.
	MaxDedicated int
}

// LockOptions are about commands on keys that are being moved. CONFIG SET can change them.
type LockOptions struct {
	LockDeadline time.Duration // a command parked longer is answered -TRYAGAIN
	MaxParked    int           // parked commands per loop; beyond: -TRYAGAIN
}

// ConfigOptions are what CONFIG needs of the file that all other options come from.
type ConfigOptions struct {
	ConfigFile string            // for INFO
	Settings   map[string]string // all of keyferry.toml but passwords, for CONFIG GET
	// Check says what is wrong with options that CONFIG SET would put into force. Nil: nothing
	// beyond what each setting checks.
	Check func(o *Options) error
	// Rewrite stores some of o, by their keys in keyferry.toml, in the configuration file. Nil:
	// there is none.
	Rewrite func(o *Options, keys []string) error
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

// LockDeadline is how long a command waits for a key that is being moved, as it is set now.
func (s *Server) LockDeadline() time.Duration { return s.settings.live.Load().LockDeadline }
