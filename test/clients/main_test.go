// Package clients tests the gateway with the clients that people use, each as it comes:
// go-redis, redis-cli, redis-benchmark, from npm ioredis and BullMQ, and of what the system
// has packages for redis-py and the Prometheus exporter. All slots move back and forth
// between two groups the whole time, and no client may see it.
package clients

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
)

// allRequired makes it an error that a client can't be had which does not come with Redis or
// Go's modules. Without it its test says so and is skipped, since a machine may have neither
// the programs nor a network.
var allRequired = flag.Bool("clients.all", false, "fail if a client can't be had")

// notTested ends a test whose client can't be had.
func notTested(t *testing.T, format string, args ...any) {
	t.Helper()
	what := "NOT TESTED: " + fmt.Sprintf(format, args...)
	if *allRequired {
		t.Fatal(what)
	}
	t.Skip(what)
}

// runFor is how long each client works; make clients gives a minute.
var runFor = flag.Duration("clients.for", 7*time.Second, "how long each client works while slots move")

func TestMain(m *testing.M) { os.Exit(testrig.Main(m)) }

// newRig starts two servers and a gateway that is also a cluster of two nodes: the same
// gateway at two addresses, which is why it listens at all of them. How long the machine lets
// the mover wait is not the gateway's doing: no command is told to try again for that.
func newRig(t *testing.T) *testrig.Rig {
	t.Helper()
	r := testrig.Bare(t)
	_, port, _ := strings.Cut(r.Listen, ":")
	r.Args = []string{"--listen", ":" + port, "--set", "cluster-facade=on", "--set", "locks.wait-deadline=30s", "--set", fmt.Sprintf("advertise=127.0.0.1:%s,127.0.0.2:%s", port, port)}
	r.Servers = []*testredis.Server{testredis.StartT(t), testredis.StartT(t)}
	r.Start("")
	r.Assign()
	return r
}

// ballast puts n keys there, so that a move takes its time.
func ballast(t *testing.T, r *testrig.Rig, n int) {
	t.Helper()
	c := r.Client()
	for i := 0; i < n; i += 1000 {
		p := c.Pipeline()
		for j := range min(1000, n-i) {
			p.Set(context.Background(), fmt.Sprintf("ballast:%d", i+j), "x", 0)
		}
		if _, err := p.Exec(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// run runs a program against the gateway and returns what it wrote; input may be "". It
// demands an exit code of 0 within bound.
func run(t *testing.T, bound time.Duration, input, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v (%v)\n%s", program, strings.Join(args, " "), err, ctx.Err(), testrig.Tail(string(out), 4000))
	}
	return string(out)
}
