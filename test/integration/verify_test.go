package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"keyferry/bench"
	"keyferry/internal/topology"
)

// TestVerifyFull: every key of every type is compared before the source gives it up, while
// clients write, and none differs.
func TestVerifyFull(t *testing.T) {
	r := newRig(t, 2)
	_, finish := r.oracle(bench.OracleConfig{Keys: 2000, DBs: []int{0, 1}, Clients: 4, Pipeline: 3, Rate: 1500})
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "VERIFY", "full")
	r.await("the job to be done", func() bool { return r.job().Phase == topology.Done })
	j := r.job()
	if j.Verified < 1000 || j.Differing > 0 {
		t.Errorf("%d keys compared, %d differ", j.Verified, j.Differing)
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g1", "VERIFY", "sample=10%")
	r.await("the job to be done", func() bool { return r.job().Phase == topology.Done })
	if n := r.job().Verified; n < 20 || n > 1000 {
		t.Errorf("%d keys compared of a sample of a tenth of about 2000", n)
	}
	finish()
	r.placesRight()
	for _, bad := range []string{"0%", "101%", "half", "sample=", "5"} {
		if _, err := r.proxyErr("MIGRATE", "0-16383", "TO", "g2", "VERIFY", bad); err == nil {
			t.Errorf("VERIFY %s is taken", bad)
		}
	}
}

// TestVerifyFindsADifference: a copy that is not what was sent is found, taken away again,
// and ends the job by name; the key is still served.
func TestVerifyFindsADifference(t *testing.T) {
	ctx := context.Background()
	r, faults := newFaultyRig(t, 2)
	r.fill(300, 50)
	victim := "fill:7"
	dst := r.servers[1].Client()
	// The target "restores" something else: the command is answered for it, and another
	// value is put in its place.
	faults[1].set(func(f *fault) {
		f.onRequest = func(args []string) (string, bool) {
			if isCommand(args, "RESTORE") && args[1] == victim {
				if err := dst.Set(ctx, victim, "rotten", 0).Err(); err != nil {
					t.Error(err)
				}
				return "+OK\r\n", false
			}
			return "", false
		}
	})
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "VERIFY", "full", "RATE", "200")
	r.await("the job to fail", func() bool { return r.job().Phase == topology.Failed })
	j := r.job()
	if j.Differing == 0 || j.LastError == nil || j.LastError.Code != "VERIFY" || !strings.Contains(fmt.Sprint(j.Attempts[0].First.Text, j.LastError.Text), victim) {
		t.Errorf("%d differ, last error %+v", j.Differing, j.LastError)
	}
	if v, err := r.client().Get(ctx, victim).Result(); err != nil || len(v) != 50 {
		t.Errorf("the key is served as %q, %v", v, err)
	}
	faults[1].set(func(f *fault) { f.onRequest = nil })
	r.proxy("MIGRATION", "RESUME", j.ID)
	r.await("the job to be done", func() bool { return r.job().Phase == topology.Done })
	r.placesRight()
}
