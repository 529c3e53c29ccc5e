// Package etcd keeps clusters in etcd, each below a prefix of its own: the Store of several
// gateways.
//
// Each call is bounded by a time-out, and errors say which etcd did not answer. What is read is
// linearizable, and of one revision of etcd if it is of several keys. A change of the State is one
// transaction that is guarded by the head (see layout.go). A watch is a doorbell: when it rings, and every
// few seconds if it does not, what has changed is read; so a watch that is lost, late, or silent for
// whatever reason is no more than a later look.
package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keyferry/internal/topology"
)

// Options say where etcd is, and what of it is the cluster's.
type Options struct {
	Endpoints []string // http://host:port, https://host:port, or host:port, which is the one or the other by CA, Cert and Key
	Prefix    string   // of the cluster's keys; a slash at its end is added
	User      string   // "": none
	Password  string

	CA        string // file of the certificates that etcd's is checked by; "": the system's
	Cert, Key string // files of the gateway's own certificate; "": none

	DialTimeout    time.Duration // of Open, for a first answer
	RequestTimeout time.Duration // of each request
}

// secure reports whether connections are encrypted.
func (o *Options) secure() bool {
	return o.CA != "" || o.Cert != "" || len(o.Endpoints) > 0 && strings.HasPrefix(o.Endpoints[0], "https://")
}

// Store implements topology.Store and topology.Members.
type Store struct {
	client  *clientv3.Client
	prefix  string
	where   string // for messages
	timeout time.Duration
	lookAt  time.Duration // how often a watch looks though it has heard nothing
	self    string        // names this Store in head.By
	changes atomic.Uint64 // made by this Store, for head.By

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	workers sync.WaitGroup // what watches; added to while mu is held and the Store is open

	mu      sync.Mutex     // protects what follows; not held across I/O
	seen    *view          // the newest that was read; nil: none
	seenAt  int64          // etcd's revision at which it was
	cluster uint64         // etcd's own id; 0: not known yet
	doubts  map[int64]bool // see settle: the guards of changes that may still be on their way
	closed  bool

	registered *registration // nil: this gateway is not
}

// How long it takes to notice that a connection is dead. etcd refuses clients that ask more often than
// every 5 s.
const (
	keepAliveTime    = 6 * time.Second
	keepAliveTimeout = 3 * time.Second
)

// lookEvery is how often a watch looks though it has heard nothing.
const lookEvery = 10 * time.Second

// maxRequest lets an operator raise etcd's own limit (--max-request-bytes), which is 1.5 MB.
const maxRequest = 64 << 20

// Open connects to etcd, and fails if it does not answer.
func Open(o Options) (*Store, error) {
	conf := clientv3.Config{
		Endpoints: o.Endpoints, DialTimeout: o.DialTimeout, Username: o.User, Password: o.Password,
		DialKeepAliveTime: keepAliveTime, DialKeepAliveTimeout: keepAliveTimeout, MaxCallSendMsgSize: maxRequest,
		Logger: zap.NewNop(), // its errors come back from the calls
	}
	if o.secure() {
		var err error
		if conf.TLS, err = tlsConfig(&o); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	conf.Context = ctx
	s := &Store{prefix: strings.TrimSuffix(o.Prefix, "/") + "/", where: strings.Join(o.Endpoints, ", "), timeout: o.RequestTimeout, lookAt: lookEvery,
		self: fmt.Sprintf("%016x", rand.Uint64()), ctx: ctx, cancel: cancel, doubts: make(map[int64]bool)}
	var err error
	if s.client, err = clientv3.New(conf); err == nil {
		first, end := context.WithTimeout(ctx, o.DialTimeout)
		_, _, err = s.read(first)
		end()
	}
	if err != nil {
		err = s.explain(context.Background(), err, o.DialTimeout)
		if why := probe(ctx, o.Endpoints, conf.TLS); why != nil {
			err = fmt.Errorf("%w: %w", err, why)
		}
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// tlsConfig reads the gateway's own certificate anew for each connection, so that it can be
// renewed while the gateway runs.
func tlsConfig(o *Options) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		text, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("etcd.ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("etcd.ca: %s has no certificate in PEM", o.CA)
		}
	}
	if o.Cert != "" {
		if _, err := tls.LoadX509KeyPair(o.Cert, o.Key); err != nil {
			return nil, fmt.Errorf("etcd.cert, etcd.key: %w", err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
			return &pair, err
		}
	}
	return c, nil
}

// call runs a request within the time-out.
func (s *Store) call(ctx context.Context, do func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.ctx.Err() != nil {
		return topology.ErrClosed
	}
	c, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.explain(ctx, do(c), s.timeout)
}

// What an operator has to do about some of etcd's answers.
var advice = []struct {
	err  error
	text string
}{
	{rpctypes.ErrRequestTooLarge, "nothing has been stored: the change is larger than etcd takes: raise its --max-request-bytes"},
	{rpctypes.ErrTooManyOps, "nothing has been stored: the change has more parts than etcd takes: raise its --max-txn-ops to 128 or more"},
	{rpctypes.ErrNoSpace, "nothing has been stored: etcd has no room: compact and defragment it, then disarm its alarm (etcdctl alarm disarm)"},
	{rpctypes.ErrPermissionDenied, "etcd.user may not read and write what is below etcd.prefix: grant it that"},
	{rpctypes.ErrAuthFailed, "etcd.user or etcd.password is wrong"},
	{rpctypes.ErrUserEmpty, "etcd asks for a user: set etcd.user and etcd.password"},
	{rpctypes.ErrAuthNotEnabled, "etcd knows no users: leave etcd.user and etcd.password empty, or enable its authentication"},
}

// explain makes of an error of a request what this package returns.
func (s *Store) explain(ctx context.Context, err error, limit time.Duration) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.ctx.Err() != nil {
		return topology.ErrClosed
	}
	for _, a := range advice {
		if errors.Is(err, a.err) {
			return fmt.Errorf("etcd at %s: %w (%s)", s.where, err, a.text)
		}
	}
	// The text alone: a time-out of ours is none of the caller's.
	if errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded {
		return fmt.Errorf("etcd at %s did not answer within %v", s.where, limit)
	}
	for _, own := range []error{topology.ErrConflict, topology.ErrNotFound, topology.ErrInvalid, errNotRegistered} {
		if errors.Is(err, own) {
			return err
		}
	}
	return fmt.Errorf("etcd at %s: %w", s.where, err)
}

// refused reports errors by which etcd says that a request has not been executed and never will be.
func refused(err error) bool {
	for _, a := range advice {
		if errors.Is(err, a.err) {
			return true
		}
	}
	return false
}

// work runs something that lasts until ctx or the Store ends; false when the Store has ended.
func (s *Store) work(ctx context.Context, do func(context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.workers.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.ctx, cancel)()
		do(ctx)
	})
	return true
}

func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.workers.Wait()
	if s.client == nil { // Open has given up
		return nil
	}
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("etcd at %s: %w", s.where, err)
	}
	return nil
}
