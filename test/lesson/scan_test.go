package lesson

import (
	"context"
	"strings"
	"sync"
	"testing"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testrig"
)

// scans notes the cursors of the SCANs that go over a link.
type scans struct {
	mu      sync.Mutex
	cursors []string
}

func (s *scans) watch(p *faultproxy.Proxy) {
	p.SetTraps(faultproxy.Trap{Match: func(args [][]byte) bool {
		if len(args) == 4 && faultproxy.Command("scan")(args) && string(args[3]) != "1" { // COUNT 1 is a preflight's
			s.mu.Lock()
			s.cursors = append(s.cursors, string(args[1]))
			s.mu.Unlock()
		}
		return false
	}})
}

// first forgets what was seen and waits for the next.
func (s *scans) first(r *rig) (cursor string) {
	r.T.Helper()
	r.Await("a SCAN", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.cursors) > 0 {
			cursor = s.cursors[0]
		}
		return len(s.cursors) > 0
	})
	return cursor
}

func (s *scans) forget() {
	s.mu.Lock()
	s.cursors = nil
	s.mu.Unlock()
}

// checkpoints: S4.2. A gateway that comes back goes on with the pass where it had stood, if
// the source is the same process; else the pass begins again. Nothing is missed.
func checkpoints(t *testing.T) {
	const n, size = 4000, 10
	for name, sourceToo := range map[string]bool{"same source": false, "source restarted": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2, append(quick, "migration.batch-max-keys=16", "migration.checkpoint-every=10ms", "migration.scan-count=100")...)
			r.fill(n, size)
			var seen scans
			seen.watch(r.links[0])
			r.Proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "500") // eight seconds, of which it is to have two
			r.AwaitMoved(n / 4)
			r.Kill()
			r.links[0].Reset()
			r.Await("the end of what was under way", func() bool { return r.links[0].Conns() == 0 })
			if sourceToo {
				r.must(r.Servers[0].Kill())
				r.must(r.Servers[0].Restart())
			}
			seen.forget()
			r.Start("")
			if cursor := seen.first(r); (cursor == "0") != sourceToo {
				t.Errorf("the pass goes on with cursor %s", cursor)
			}
			r.Unlimited()
			r.AwaitDone()
			r.allThere(n, size)
		})
	}
}

// scanCutShort: S4.3. Whatever ends a SCAN in its middle, silence, the end of the
// connection or an error, is never taken for the end of the pass.
func scanCutShort(t *testing.T) {
	const n, size = 1000, 10
	isScan := func(args [][]byte) bool {
		return len(args) == 4 && faultproxy.Command("scan")(args) && string(args[3]) != "1"
	}
	r := newRig(t, 2, append(quick, "migration.scan-count=100")...)
	r.fill(n, size)
	from := 0
	for name, trap := range map[string]faultproxy.Trap{
		"the connection ends before":   {Action: faultproxy.CutBefore},
		"the connection ends after":    {Action: faultproxy.DropReplyAndCut},
		"no reply":                     {Action: faultproxy.DropReply},
		"an error":                     {Action: faultproxy.Answer, Reply: "-LOADING Redis is loading the dataset in memory\r\n"},
		"an error that is not Redis's": {Action: faultproxy.Answer, Reply: "-ERR no\r\n"},
		"an empty reply":               {Action: faultproxy.Answer, Reply: "*0\r\n"},
		"a null":                       {Action: faultproxy.Answer, Reply: "*-1\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r.T = t
			trap.Match, trap.Times, trap.Skip = isScan, 4, 3
			r.links[from].SetTraps(trap)
			r.Proxy("MIGRATE", "0-16383", "TO", []string{"g2", "g1"}[from])
			r.AwaitDone()
			if got := r.links[from].Sprung(); got == 0 {
				t.Fatal("no SCAN was cut short")
			}
			if j := r.Job(); j.FirstError == nil || !told(j.ErrorCounts, "source") {
				t.Errorf("the error of the source is not told: %+v, %v", j.FirstError, j.ErrorCounts)
			}
			if left := testrig.Keys(context.Background(), r.Servers[from].Client()); left != 0 {
				t.Errorf("%d keys are left at the source", left)
			}
			r.allThere(n, size)
			r.links[from].SetTraps()
			from = 1 - from
		})
	}
}

// told reports whether an error of that origin has been counted.
func told(counts map[string]int64, origin string) bool {
	for what := range counts {
		if strings.HasPrefix(what, origin+" ") {
			return true
		}
	}
	return false
}
