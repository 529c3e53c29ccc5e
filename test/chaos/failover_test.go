package chaos

import (
	"context"
	"errors"
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

// syncBound ends the wait for a replica that does not come up; nobody waits for it but the
// nemesis.
const syncBound = 20 * time.Second

func (w *world) failOver(i int) error {
	ctx := context.Background()
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
	await := func(s *testredis.Server, bound time.Duration, what string) bool {
		for end := time.Now().Add(bound); !is(s, what); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				return false
			}
		}
		return true
	}
	// Redis itself gives a failover up when the replica has not caught up by the time-out, for
	// which clients wait. Then the old one is a primary still; else there is no way back.
	begun := await(fresh, syncBound, "master_link_status:up") && await(old, syncBound, "state=online") &&
		old.Client().Do(ctx, "FAILOVER", "TO", "127.0.0.1", fresh.Port, "TIMEOUT", "3000").Err() == nil
	if begun && !await(old, time.Minute, "master_failover_state:no-failover") {
		return errors.New("a failover neither ends nor is given up")
	}
	if !begun || is(old, "role:master") {
		w.note("the failover came to nothing")
		return fresh.Stop()
	}
	if !await(fresh, time.Minute, "role:master") {
		return errors.New("a failover has ended without a primary")
	}
	link := w.links[i]
	w.must(link.Refuse(true)) // nobody reads from the one while another writes to the other
	link.Reset()
	link.Retarget(fresh.Addr)
	w.Servers[i] = fresh
	w.count("failovers done", 1)
	return link.Refuse(false)
}
