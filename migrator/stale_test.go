package migrator

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/migrator/keymove"
	"keyferry/slotlock"
)

// TestSourceBecomesAReplicaUnderAConnection: while a worker is connected, the source's process
// takes over the data of another server and is a primary again. Of what it shows then, a key
// that has moved is dropped; one that has not moves, with the value that was read beside it.
func TestSourceBecomesAReplicaUnderAConnection(t *testing.T) {
	ctx := context.Background()
	f := newFerry(t, nil)
	older := testredis.StartT(t, "--repl-diskless-sync-delay", "0")
	for _, k := range []string{"deleted", "unmoved"} {
		if err := older.Client().Set(ctx, k, "of "+k, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	w := f.newWorker()
	if err := w.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	moved, unmoved := slotlock.Key{Name: "deleted"}, slotlock.Key{Name: "unmoved"}
	lock := func(k slotlock.Key) *keymove.Key {
		if !f.locks.TryLock(k) {
			t.Fatalf("%v is locked", k)
		}
		return &keymove.Key{Key: k, Since: time.Now()}
	}
	if left, err := w.Run(ctx, 0, []*keymove.Key{lock(moved)}); err != nil || len(left) > 0 || !f.locks.Moved(moved) {
		t.Fatalf("the key that was nowhere: %v, %v", left, err)
	}

	src := f.src.Client()
	host, port, _ := net.SplitHostPort(older.Addr)
	if err := src.Do(ctx, "REPLICAOF", host, port).Err(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); !strings.Contains(src.Info(ctx, "replication").Val(), "master_link_status:up"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the source does not become a replica")
		}
	}
	if err := src.Do(ctx, "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}

	if left, err := w.Run(ctx, 0, []*keymove.Key{lock(moved), lock(unmoved)}); err != nil || len(left) > 0 {
		t.Fatalf("%v, %v", left, err)
	}
	if n := f.dst.Client().Exists(ctx, "deleted").Val(); n != 0 {
		t.Error("a key that had been deleted at the target is back")
	}
	if v := f.dst.Client().Get(ctx, "unmoved").Val(); v != "of unmoved" {
		t.Errorf("the other key is %q at the target", v)
	}
	if n := src.DBSize(ctx).Val(); n != 0 {
		t.Errorf("%d keys are left at the source", n)
	}
	if n := f.stats.stale.Load(); n != 1 {
		t.Errorf("%d stale copies were dropped", n)
	}
}
