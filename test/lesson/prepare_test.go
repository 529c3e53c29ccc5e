package lesson

import (
	"context"
	"strings"
	"sync"
	"testing"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testrig"
	"keyferry/internal/topology"
)

// calls notes what kinds of commands go over a link, in the order of their first time.
type calls struct {
	mu    sync.Mutex
	kinds []string
	seen  map[string]bool
}

func (c *calls) watch(p *faultproxy.Proxy) {
	c.mu.Lock()
	c.kinds, c.seen = nil, map[string]bool{}
	c.mu.Unlock()
	p.SetTraps(faultproxy.Trap{Match: func(args [][]byte) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if k := kindOf(args); !c.seen[k] {
			c.seen[k] = true
			c.kinds = append(c.kinds, k)
		}
		return false
	}})
}

func (c *calls) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.kinds...)
}

// kindOf is a command's name, and its second word where that says more.
func kindOf(args [][]byte) string {
	name := strings.ToUpper(string(args[0]))
	switch name {
	case "ACL", "CLIENT", "FUNCTION", "MEMORY":
		return name + " " + strings.ToUpper(string(args[1]))
	}
	return name
}

const library = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"

// prepared moves all slots to the other group, with a key in the way there that is to be
// purged and a library that is to be brought, and waits for the end.
func (r *rig) prepared(to int) (id string) {
	r.T.Helper()
	ctx := context.Background()
	src, dst := r.Servers[1-to].Client(), r.Servers[to].Client()
	r.must(src.FunctionLoadReplace(ctx, library).Err())
	r.must(dst.FunctionFlush(ctx).Err())
	r.must(dst.Set(ctx, "in the way", "x", 0).Err())
	id = r.Proxy("MIGRATE", "0-16383", "TO", []string{"g1", "g2"}[to], "PURGE", "1").(string)
	r.Await("the job to end", func() bool { return r.Job().Phase.Ended() })
	return id
}

// everyPreparationReplyLost: S5.1. Of every kind of command that a job sends before it moves
// anything, and on its way, the reply is lost once: the command was executed, and nobody
// knows. Each time the job comes to its end, without an operator and without a trace.
func everyPreparationReplyLost(t *testing.T) {
	const n, size = 20, 10
	r := newRig(t, 2, "migration.call-timeout=250ms", "migration.backoff-min=10ms", "migration.backoff-max=50ms", "migration.max-attempts=0",
		"cluster.databases=2", "servers.connect-timeout=700ms", "servers.request-timeout=2s")
	r.fill(n, size)
	var steps [2]calls // by end: source, target
	to, noticed, dropped := 0, 0, 0
	for smooth := false; !smooth; smooth = len(r.Job().ErrorCounts) == 0 { // what is sent after an error is not of every job
		to = 1 - to
		steps[0].watch(r.links[1-to])
		steps[1].watch(r.links[to])
		r.prepared(to)
	}
	r.links[0].SetTraps()
	r.links[1].SetTraps()
	for end, name := range []string{"source", "target"} {
		kinds := steps[end].all()
		for _, kind := range kinds {
			to = 1 - to
			link := r.links[to]
			if end == 0 {
				link = r.links[1-to]
			}
			link.SetTraps(faultproxy.Trap{Action: faultproxy.DropReply, Times: 1, Match: func(args [][]byte) bool { return kindOf(args) == kind }})
			id := r.prepared(to)
			j := r.Job()
			if j.Phase != topology.Done {
				t.Fatalf("the reply of %s of the %s was lost: %s, %s, %+v", kind, name, j.Phase, j.Reason, j.LastError)
			}
			for _, e := range r.History(id) {
				if e.To == topology.Failed {
					t.Errorf("the reply of %s of the %s was lost: failed, %+v", kind, name, e.Error)
				}
			}
			dropped += link.Sprung()
			if j.ErrorCounts[name+" TIMEOUT"] > 0 {
				noticed++
			}
			t.Logf("%s %s: errors %v", name, kind, j.ErrorCounts)
			link.SetTraps()
			if left := testrig.KeysAt(t, r.Servers[1-to]); left > 0 {
				t.Errorf("the reply of %s of the %s was lost: %d keys are left at the source", kind, name, left)
			}
		}
		if len(kinds) < 12 {
			t.Errorf("only %q was asked of the %s", kinds, name)
		}
		if dropped < len(kinds) {
			t.Errorf("of %d kinds of commands to the %s %d lost a reply", len(kinds), name, dropped)
		}
		if noticed < len(kinds)*3/4 {
			t.Errorf("%d of %d lost replies of the %s were noticed", noticed, len(kinds), name)
		}
		dropped, noticed = 0, 0
	}
	r.allThere(n, size)
}
