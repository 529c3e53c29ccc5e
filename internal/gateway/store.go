package gateway

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"keyferry/conf"
	"keyferry/internal/topology"
	"keyferry/internal/topology/bolt"
	"keyferry/internal/topology/etcd"
)

// Store is where a cluster is kept.
type Store interface {
	topology.Store
	// Lost is an error when no cluster is stored and something shows that there was one.
	Lost(ctx context.Context) error
}

// OpenStore opens the store that c names, and makes the directory of one in files. Errors: it is in use or
// unreadable, etcd does not answer.
func OpenStore(c *conf.Config) (Store, error) {
	if c.Store == "etcd" {
		e := &c.Etcd
		return opened(etcd.Open(etcd.Options{Endpoints: e.Endpoints, Prefix: e.Prefix, User: e.User, Password: e.Password, CA: e.CA, Cert: e.Cert, Key: e.Key,
			DialTimeout: time.Duration(e.DialTimeout), RequestTimeout: time.Duration(e.RequestTimeout)}))
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data-dir: %w", err)
	}
	return opened(bolt.Open(c.DataDir))
}

// opened keeps a nil pointer from becoming a Store.
func opened[S Store](s S, err error) (Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// StoredIn names the store that c names, for messages.
func StoredIn(c *conf.Config) string {
	if c.Store == "etcd" {
		return "etcd below " + c.Etcd.Prefix
	}
	return filepath.Clean(c.DataDir)
}
