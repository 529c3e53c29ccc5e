package chaos

import (
	"context"
	"strings"
	"time"

	"keyferry/internal/testredis"
)

// failover hands a group's address over to a replica, as a monitor of servers would: the
// replica gets all that its primary has executed, and is another process.
//
//	primary ──► replica            replica
//	   ▲                    ─►        ▲
//	 address                        address
//
// It is a coordinated one. Where a primary dies and its replica takes over what had come to
// it by then, acknowledged writes are lost, with or without a gateway.
func (n *nemesis) failover(i int, party string) fault {
	old := n.w.Servers[i]
	return fault{party: party, name: "failover of " + party,
		do: func() error { return n.w.failOver(i) },
		undo: func() error {
			if n.w.Servers[i] == old {
				return nil // it came to nothing
			}
			return old.Stop()
		}}
}

// failoverBound ends a failover that is not to be: its clients wait that long.
const failoverBound = 5 * time.Second

func (w *world) failOver(i int) error {
	ctx, cancel := context.WithTimeout(context.Background(), failoverBound)
	defer cancel()
	old := w.Servers[i]
	if err := old.Client().ConfigSet(ctx, "repl-diskless-sync-delay", "0").Err(); err != nil {
		return err
	}
	fresh := testredis.StartT(w.t, "--appendonly", "yes", "--appendfsync", "always")
	if err := fresh.Client().Do(ctx, "REPLICAOF", "127.0.0.1", old.Port).Err(); err != nil { // no argument: it is not for later starts
		return err
	}
	is := func(s *testredis.Server, what string) bool {
		return strings.Contains(s.Client().Info(ctx, "replication").Val(), what)
	}
	await := func(s *testredis.Server, what string) bool {
		for ctx.Err() == nil && !is(s, what) {
			time.Sleep(5 * time.Millisecond)
		}
		return ctx.Err() == nil
	}
	if !await(fresh, "master_link_status:up") || !await(old, "state=online") ||
		old.Client().Do(ctx, "FAILOVER", "TO", "127.0.0.1", fresh.Port, "TIMEOUT", "3000").Err() != nil || !await(fresh, "role:master") {
		w.note("the failover came to nothing")
		_ = old.Client().Do(context.Background(), "FAILOVER", "ABORT").Err()
		return fresh.Stop()
	}
	link := w.links[i]
	w.must(link.Refuse(true)) // nobody reads from the one while another writes to the other
	link.Reset()
	link.Retarget(fresh.Addr)
	w.Servers[i] = fresh
	w.count("failovers done", 1)
	return link.Refuse(false)
}
