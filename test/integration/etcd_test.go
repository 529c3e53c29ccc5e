package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"keyferry/bench"
	"keyferry/internal/testetcd"
)

// onEtcd are arguments that put the gateway's store there.
func onEtcd(s *testetcd.Server) []string {
	return []string{"--set", "store=etcd", "--set", "etcd.endpoints=" + s.URL(), "--set", "etcd.request-timeout=500ms", "--set", "etcd.dial-timeout=20s"}
}

// TestStoreOnEtcd: while etcd is away stable slots are served without an error and the job stands; it goes on
// by itself, and a gateway that is killed then finds all in etcd.
func TestStoreOnEtcd(t *testing.T) {
	etcd := testetcd.StartT(t)
	r := newRig(t, 2, append(onEtcd(etcd), "--set", "migration.batch-max-keys=16", "--set", "migration.checkpoint-every=50ms")...)
	_, finish := r.oracle(bench.OracleConfig{Keys: 3000, Clients: 4, Pipeline: 3, Rate: 2000})
	r.proxy("MIGRATE", "0-8191", "TO", "g2", "RATE", "2000")
	r.await("progress", func() bool { return r.jobs()[0].KeysMoved > 200 })

	must(t, etcd.Kill())
	c := r.Client()
	for i := range 300 {
		if err := c.Set(context.Background(), fmt.Sprint("during:", i), i, 0).Err(); err != nil {
			t.Fatalf("while etcd is away: %v", err)
		}
	}
	if _, err := r.ProxyErr("GROUP", "ADD", "g3", "127.0.0.1:1"); err == nil {
		t.Error("a group was added while etcd is away")
	}
	must(t, etcd.Restart())
	moved := r.jobs()[0].KeysMoved
	r.await("progress", func() bool { j := r.jobs()[0]; return j.KeysMoved > moved || j.Phase.Ended() })

	r.kill()
	r.start("")
	r.awaitDone()
	finish()
	r.placesRight()
	if out := r.Refuses(); !strings.Contains(out, "address already in use") {
		t.Errorf("a second process on the same addresses: %s", out)
	}
	r.kill()
	must(t, etcd.Kill())
	r.Args = append(r.Args, "--set", "etcd.dial-timeout=100ms")
	if out := r.Refuses(); !strings.Contains(out, "etcd at "+etcd.URL()) {
		t.Errorf("without etcd: %s", out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
