package migrator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testredis"
	"keyferry/migrator/job"
	"keyferry/migrator/keymove"
	"keyferry/slotlock"
)

// coverRig is a ferry whose target has a replica, which is to have each key before the source
// gives it up.
type coverRig struct {
	*ferry
	replica *testredis.Server
}

func newCoverRig(t *testing.T) coverRig {
	t.Helper()
	f := newFerry(t, nil)
	f.env.Durability = job.DurabilityReplica
	replica, err := testredis.Start(testredis.Options{Args: []string{"--replicaof", fmt.Sprintf("127.0.0.1 %d", f.dst.Port), "--repl-diskless-sync-delay", "0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = replica.Stop() })
	for end := time.Now().Add(time.Minute); f.dst.Client().Do(t.Context(), "WAIT", 1, 500).Val() != int64(1); {
		if time.Now().After(end) {
			t.Fatal("the replica does not come up")
		}
	}
	return coverRig{f, replica}
}

// set puts a key at both ends, as after a RESTORE whose connection was lost.
func (r coverRig) set(t *testing.T, name string) {
	t.Helper()
	for _, s := range []*testredis.Server{r.src, r.dst} {
		if err := s.Client().Set(t.Context(), name, "x", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// cover has a new worker bring the key to its end, and demands that the source has given it up.
func (r coverRig) cover(t *testing.T, name string) {
	t.Helper()
	w := r.newWorker()
	defer w.Close()
	if err := w.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := slotlock.Key{Name: name}
	r.locks.TryLock(k)
	left, err := w.Run(t.Context(), 0, []*keymove.Key{{Key: k, Step: keymove.Persist, Since: time.Now(), Trace: keymove.Trace{SeenBy: "lost", WroteBy: "lost"}}})
	if err != nil || len(left) > 0 {
		t.Errorf("%s: %v, %v", name, left, err)
	}
	if n := r.src.Client().Exists(t.Context(), name).Val(); n != 0 {
		t.Errorf("%s: the source has the key still", name)
	}
}

// TestDurableOverAnotherConnection: keys that the target has got over a connection that is lost
// are given up when a replica has them, also by a target that has no memory for anything new.
func TestDurableOverAnotherConnection(t *testing.T) {
	r := newCoverRig(t)
	dst := r.dst.Client()
	for _, room := range []string{"0", "1"} {
		name := "maxmemory " + room
		r.set(t, name)
		if err := dst.ConfigSet(t.Context(), "maxmemory", room).Err(); err != nil {
			t.Fatal(err)
		}
		r.cover(t, name)
		if n := r.replica.Client().Exists(t.Context(), name).Val(); n != 1 {
			t.Errorf("%s: the replica does not have the key", name)
		}
	}
	if n := dst.DBSize(t.Context()).Val(); n != 2 {
		t.Errorf("the target has %d keys", n)
	}
}

// TestTouchLoadsAtOlderTargets: what the gateway itself writes loads at a server that reads no
// dump of Redis 7.0, so that a lost connection leaves no key in doubt there.
func TestTouchLoadsAtOlderTargets(t *testing.T) {
	r := newCoverRig(t)
	older, err := faultproxy.New(r.dst.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = older.Close() })
	const newest = 8 // of Redis 4
	older.SetTraps(faultproxy.Trap{Action: faultproxy.Answer, Reply: "-ERR DUMP payload version or checksum are wrong\r\n", Match: func(args [][]byte) bool {
		if len(args) < 4 || !strings.EqualFold(string(args[0]), "RESTORE") {
			return false
		}
		version := args[3][len(args[3])-10:]
		return int(version[0])|int(version[1])<<8 > newest
	}})
	r.target.Endpoint.Addr = older.Addr
	r.set(t, "k")
	r.cover(t, "k")
}
