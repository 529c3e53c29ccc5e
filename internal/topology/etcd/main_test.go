package etcd

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"keyferry/internal/testetcd"
	"keyferry/internal/topology"
	"keyferry/internal/topology/storetest"
)

// shared is the etcd of all tests that do it no harm; each has a prefix of its own.
var shared = sync.OnceValues(func() (*testetcd.Server, error) { return testetcd.Start(testetcd.Options{}) })

var prefixes atomic.Int64

func TestMain(m *testing.M) {
	code := m.Run()
	if prefixes.Load() > 0 {
		if s, err := shared(); err == nil {
			_ = s.Stop()
		}
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// optionsAt are those of a cluster of the test's own.
func optionsAt(endpoints ...string) Options {
	return Options{Endpoints: endpoints, Prefix: fmt.Sprintf("/test/%d", prefixes.Add(1)), DialTimeout: time.Minute, RequestTimeout: time.Minute}
}

// options are those of a cluster of the test's own in the shared etcd.
func options(t testing.TB) Options {
	t.Helper()
	prefixes.Add(1)
	s, err := shared()
	must(t, err)
	return optionsAt(s.Addr)
}

// open opens a store, which is closed with the test.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	must(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestContract(t *testing.T) {
	storetest.Contract(t, func(t *testing.T) func() topology.Store {
		o := options(t)
		return func() topology.Store { return open(t, o) }
	})
}
