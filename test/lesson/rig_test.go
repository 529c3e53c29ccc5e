package lesson

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
)

func TestMain(m *testing.M) { os.Exit(testrig.Main(m)) }

// TestLesson has one subtest for each row of the table.
func TestLesson(t *testing.T) {
	for _, l := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"S1.5", linkCutInTheMiddle},
		{"S2.3", keyInDoubt},
		{"S3.1", fiftyMigrationsUnderFuzz},
		{"S3.2", lockHeldForLong},
		{"S3.3", crossingJobs},
		{"S3.4", anyBytes},
		{"S4.1", timeSlices},
		{"S4.1/small", smallSlices},
		{"S4.1/long rest", longRest},
		{"S4.1/proof", slicesOfTheProof},
		{"S4.1/revert", slicesBack},
		{"S4.1/operator", pausesByOperator},
		{"S4.2", checkpoints},
		{"S4.3", scanCutShort},
		{"S5.1", everyPreparationReplyLost},
		{"S5.3", everyPhaseBlocked},
		{"S5.3/store", storeBlocked},
		{"S5.3/store fails", storeFails},
		{"S5.3/kill", stepPartyKills},
	} {
		t.Run(l.name, l.run)
	}
}

// rig is a gateway whose servers are behind fault proxies.
type rig struct {
	*testrig.Rig
	links []*faultproxy.Proxy
}

// quick makes the gateway give up early, so that a fault is felt soon, and yet not when the
// machine lets a server wait for half a second.
var quick = []string{
	"migration.call-timeout=1500ms", "migration.backoff-min=50ms", "migration.backoff-max=300ms",
	"servers.connect-timeout=1500ms", "servers.reconnect-max=200ms", "servers.request-timeout=5s",
}

// patient is for tests in which no client may be told to try again: how long the machine lets
// the mover wait is not the gateway's doing.
const patient = "locks.wait-deadline=30s"

func newRig(t *testing.T, n int, settings ...string) *rig {
	t.Helper()
	var args []string
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	r := &rig{Rig: testrig.Bare(t, args...)}
	for i := range n {
		s := testredis.StartT(t, "--appendonly", "yes", "--appendfsync", "always")
		p, err := faultproxy.New(s.Addr, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		r.Servers, r.links = append(r.Servers, s), append(r.links, p)
	}
	r.Start("")
	for i, p := range r.links {
		r.Proxy("GROUP", "ADD", fmt.Sprintf("g%d", i+1), p.Addr)
	}
	r.Proxy("SLOT", "ASSIGN", "0-16383", "g1")
	return r
}

// hold is the action of a failpoint that lasts until release is called.
func (r *rig) hold() (action string, release func()) {
	file := filepath.Join(r.T.TempDir(), "release")
	return "hold:" + file, func() {
		r.T.Helper()
		r.must(os.WriteFile(file, nil, 0o600))
	}
}

// fill writes keys through the gateway, each with its number in front of its value.
func (r *rig) fill(n, size int) {
	r.T.Helper()
	p := r.Client().Pipeline()
	for i := range n {
		p.Set(context.Background(), fill(i), value(i, size), 0)
	}
	if _, err := p.Exec(context.Background()); err != nil {
		r.T.Fatal(err)
	}
}

func fill(i int) string         { return "fill:" + strconv.Itoa(i) }
func isFill(args [][]byte) bool { return len(args) > 1 && strings.HasPrefix(string(args[1]), "fill:") }

// value is of a size that a DUMP can't compress.
func value(i, size int) string {
	rng, b := rand.New(rand.NewPCG(uint64(i), 1)), make([]byte, size)
	for n := range b {
		b[n] = byte(rng.Uint32())
	}
	return strconv.Itoa(i) + string(b)
}

// all matches commands by name that are about filled keys.
func all(name string) func([][]byte) bool {
	is := faultproxy.Command(name)
	return func(args [][]byte) bool { return is(args) && isFill(args) }
}

// allThere demands that every filled key has its value, and every key its one place.
func (r *rig) allThere(n, size int) {
	r.T.Helper()
	r.allRead(n, size)
	r.PlacesRight()
}

// allRead demands that every filled key has its value.
func (r *rig) allRead(n, size int) {
	r.T.Helper()
	client := r.Client()
	// After a fault each loop of the gateway connects again in its own time.
	r.Await("the gateway to reach every server", func() bool { return client.DBSize(context.Background()).Err() == nil })
	p := client.Pipeline()
	for i := range n {
		p.Get(context.Background(), fill(i))
	}
	cmds, err := p.Exec(context.Background())
	if err != nil {
		r.T.Fatalf("reading what was filled: %v", err)
	}
	for i, c := range cmds {
		if got := c.(interface{ Val() string }).Val(); got != value(i, size) {
			r.T.Errorf("%s is %.20q", fill(i), got)
		}
	}
}

func (r *rig) heal(i int) {
	r.T.Helper()
	r.must(r.links[i].Heal())
}

func (r *rig) must(err error) {
	r.T.Helper()
	if err != nil {
		r.T.Fatal(err)
	}
}

// stat reads one field of a line of a server's INFO, such as calls of cmdstat_restore; 0 if
// there is none.
func (r *rig) stat(server int, section, line, field string) int {
	r.T.Helper()
	text, err := r.Servers[server].Client().Info(context.Background(), section).Result()
	r.must(err)
	for l := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(l, line+":")
		if !ok {
			continue
		}
		for f := range strings.SplitSeq(strings.TrimSpace(rest), ",") {
			if v, ok := strings.CutPrefix(f, field+"="); ok {
				n, err := strconv.Atoi(v)
				r.must(err)
				return n
			}
		}
	}
	return 0
}

// said waits for the gateway to say something in its log.
func (r *rig) said(text string) {
	r.T.Helper()
	r.Await(text, func() bool { return strings.Contains(r.Log.String(), text) })
}

// within ends a call that hangs, and says how long it took.
func within(t *testing.T, what string, bound time.Duration, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(bound):
		t.Fatalf("%s has not come to its end within %v", what, bound)
	}
}
