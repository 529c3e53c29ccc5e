package lesson

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testredis"
)

// follow makes one server the replica of another, that is reached at addr, and waits until it
// has its data.
func (r *rig) follow(s *testredis.Server, addr string) {
	r.T.Helper()
	host, port, err := net.SplitHostPort(addr)
	r.must(err)
	r.must(s.Client().Do(context.Background(), "REPLICAOF", host, port).Err())
	r.Await("the replica to be in step", func() bool {
		return strings.Contains(s.Client().Info(context.Background(), "replication").Val(), "master_link_status:up")
	})
}

func (r *rig) promote(s *testredis.Server) {
	r.T.Helper()
	r.must(s.Client().Do(context.Background(), "REPLICAOF", "NO", "ONE").Err())
}

// TestTargetDiesWithUnprovenKeys: a target acknowledges RESTOREs, dies before a replica has
// them, and the replica takes over its address. That the new primary has replicas which have
// all that it has proves nothing about those keys: they stay at the source until it holds them.
func TestTargetDiesWithUnprovenKeys(t *testing.T) {
	for _, mode := range []string{"auto", "replica"} {
		t.Run(mode, func(t *testing.T) {
			const n, size = 100, 20
			r := newRig(t, 2, append(quick, "migration.parallel=1", "migration.max-attempts=0")...)
			r.fill(n, size)
			old := r.Servers[1]
			r.must(old.Client().ConfigSet(context.Background(), "repl-diskless-sync-delay", "0").Err())
			behind, err := faultproxy.New(old.Addr, 7)
			r.must(err)
			t.Cleanup(func() { _ = behind.Close() })
			next, last := testredis.StartT(t, "--repl-diskless-sync-delay", "0"), testredis.StartT(t)
			r.follow(next, behind.Addr)
			r.follow(last, next.Addr)

			behind.Set(faultproxy.ToClient, faultproxy.Fault{Blackhole: true}) // the replica says that it is there, and hears nothing
			r.Proxy("MIGRATE", "0-16383", "TO", "g2", "DURABILITY", mode)
			r.Await("keys that no replica has", func() bool { j := r.Job(); return j.ErrorCounts["target NOREPLICAS"] > 0 && len(j.InDoubt) > 0 })
			r.must(r.links[1].Refuse(true))
			r.links[1].Reset()
			r.must(old.Kill())
			r.must(behind.Close())
			r.promote(next)
			r.Servers[1] = next
			r.links[1].Retarget(next.Addr)
			r.must(r.links[1].Refuse(false))
			r.AwaitDone()
			r.allThere(n, size)
		})
	}
}

// TestSourceThatWasAReplica: the source is made a replica of a server with older data, and a
// primary again. It is the same process, and yet keys that have moved and were deleted since
// are back there: they stay deleted.
func TestSourceThatWasAReplica(t *testing.T) {
	ctx := context.Background()
	const n = 300
	r := newRig(t, 2, append(quick, "migration.batch-max-keys=8", "migration.max-attempts=0")...)
	r.fill(n, 20)
	source := r.Servers[0]
	older := testredis.StartT(t, "--repl-diskless-sync-delay", "0")
	r.must(source.Client().ConfigSet(ctx, "repl-diskless-sync-delay", "0").Err())
	r.follow(older, source.Addr)
	r.promote(older)

	id := r.Proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "30").(string)
	r.AwaitMoved(50)
	r.Proxy("MIGRATION", "PAUSE", id)
	c := r.Client()
	deleted := map[int]bool{}
	for i := range n {
		if r.Servers[1].Client().Exists(ctx, fill(i)).Val() == 1 {
			r.must(c.Del(ctx, fill(i)).Err())
			deleted[i] = true
		}
	}
	if len(deleted) == 0 {
		t.Fatal("nothing has moved")
	}
	r.follow(source, older.Addr)
	r.promote(source)
	r.Proxy("MIGRATION", "RESUME", id)
	r.Unlimited()
	r.AwaitDone()
	for i := range n {
		if got := c.Exists(ctx, fill(i)).Val() == 1; got == deleted[i] {
			t.Errorf("%s: exists %v, deleted %v", fill(i), got, deleted[i])
		}
	}
	r.PlacesRight()
	if s := r.Job().StaleDropped; s != int64(len(deleted)) {
		t.Errorf("%s", fmt.Sprintf("%d stale copies were dropped, of %d", s, len(deleted)))
	}
}
