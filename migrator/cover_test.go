package migrator

import (
	"context"
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

// TestDurableOverAnotherConnection: keys that the target has got over a connection that is lost
// are given up when a replica has them, also by a target that has no memory for anything new.
func TestDurableOverAnotherConnection(t *testing.T) {
	ctx := context.Background()
	f := newFerry(t, nil)
	f.env.Durability = job.DurabilityReplica
	replica, err := testredis.Start(testredis.Options{Args: []string{"--replicaof", fmt.Sprintf("127.0.0.1 %d", f.dst.Port), "--repl-diskless-sync-delay", "0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = replica.Stop() })
	dst := f.dst.Client()
	for end := time.Now().Add(time.Minute); dst.Do(ctx, "WAIT", 1, 500).Val() != int64(1); {
		if time.Now().After(end) {
			t.Fatal("the replica does not come up")
		}
	}
	for _, room := range []string{"0", "1"} {
		k := slotlock.Key{Name: "room" + room}
		for _, s := range []*testredis.Server{f.src, f.dst} {
			if err := s.Client().Set(ctx, k.Name, "x", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if err := dst.ConfigSet(ctx, "maxmemory", room).Err(); err != nil {
			t.Fatal(err)
		}
		w := f.newWorker()
		if err := w.Connect(ctx); err != nil {
			t.Fatal(err)
		}
		f.locks.TryLock(k)
		left, err := w.Run(ctx, 0, []*keymove.Key{{Key: k, Step: keymove.Persist, Since: time.Now(), Trace: keymove.Trace{SeenBy: "lost", WroteBy: "lost"}}})
		w.Close()
		if err != nil || len(left) > 0 {
			t.Errorf("maxmemory %s: %v, %v", room, left, err)
		}
		if n := f.src.Client().Exists(ctx, k.Name).Val(); n != 0 {
			t.Errorf("maxmemory %s: the source has the key still", room)
		}
		if n := replica.Client().Exists(ctx, k.Name).Val(); n != 1 {
			t.Errorf("maxmemory %s: the replica does not have the key", room)
		}
	}
	if n := dst.DBSize(ctx).Val(); n != 2 {
		t.Errorf("the target has %d keys", n)
	}
}

// TestTouchLoadsAtOlderTargets: what the gateway itself writes loads at a server that reads no
// dump of Redis 7.0, so that a lost connection leaves no key in doubt there.
func TestTouchLoadsAtOlderTargets(t *testing.T) {
	ctx := context.Background()
	f := newFerry(t, nil)
	f.env.Durability = job.DurabilityReplica
	replica, err := testredis.Start(testredis.Options{Args: []string{"--replicaof", fmt.Sprintf("127.0.0.1 %d", f.dst.Port), "--repl-diskless-sync-delay", "0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = replica.Stop() })
	for end := time.Now().Add(time.Minute); f.dst.Client().Do(ctx, "WAIT", 1, 500).Val() != int64(1); {
		if time.Now().After(end) {
			t.Fatal("the replica does not come up")
		}
	}
	older, err := faultproxy.New(f.dst.Addr, 1)
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
	f.target.Endpoint.Addr = older.Addr
	k := slotlock.Key{Name: "k"}
	for _, s := range []*testredis.Server{f.src, f.dst} {
		if err := s.Client().Set(ctx, k.Name, "x", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	w := f.newWorker()
	defer w.Close()
	if err := w.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	f.locks.TryLock(k)
	left, err := w.Run(ctx, 0, []*keymove.Key{{Key: k, Step: keymove.Persist, Since: time.Now(), Trace: keymove.Trace{SeenBy: "lost", WroteBy: "lost"}}})
	if err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	if n := f.src.Client().Exists(ctx, k.Name).Val(); n != 0 {
		t.Error("the source has the key still")
	}
}
