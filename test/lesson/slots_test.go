package lesson

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keyferry/bench"
	"keyferry/internal/testrig"
	"keyferry/router"
)

// lockHeldForLong: S3.2. One key's lock is held for 10 s; of the commands on all other
// keys of its slot not one has to wait.
func lockHeldForLong(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2, "locks.wait-deadline=30s", "migration.call-timeout=30s", "loops.count=1")
	c := r.Client()
	r.must(c.Set(ctx, "{tag}victim", "1", 0).Err())
	r.Kill()
	r.Start("move.restore.before=sleep:10s")
	r.Proxy("MIGRATE", strconv.Itoa(router.Redis.Slot([]byte("tag"))), "TO", "g2")
	r.said("failpoint move.restore.before")
	const waiters = 3
	var wg sync.WaitGroup
	for range waiters {
		own := r.Client()
		wg.Go(func() {
			if err := own.Incr(ctx, "{tag}victim").Err(); err != nil {
				t.Errorf("a command that waited for the key: %v", err)
			}
		})
	}
	r.Await("the commands to wait", func() bool { return r.Info("commands_parked") == waiters })
	before, parked := r.Info("commands_parked_ever"), 0
	stop, others := make(chan struct{}), 0
	wg.Go(func() {
		for ; ; others++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := c.Incr(ctx, fmt.Sprintf("{tag}other%d", others%50)).Err(); err != nil {
				t.Errorf("a command on another key: %v", err)
			}
		}
	})
	// When the three go on so does the job, which may have any of the other keys then: what
	// counts is how many had waited when all three still did.
	for ever := before; r.Info("commands_parked") >= waiters; ever = r.Info("commands_parked_ever") {
		parked = ever - before
	}
	close(stop)
	wg.Wait()
	if parked != 0 || others == 0 {
		t.Errorf("%d of %d commands on other keys of the slot had to wait", parked, others)
	}
	if v := c.Get(ctx, "{tag}victim").Val(); v != "4" {
		t.Errorf("the key is %s", v)
	}
	r.AwaitDone()
	t.Logf("%d commands on other keys", others)
}

// crossingJobs: S3.3. Sixteen sets of slots move at once between three groups, in all
// directions, while clients write.
func crossingJobs(t *testing.T) {
	r := newRig(t, 3, patient, "migration.group-parallel=1", "migration.batch-max-keys=32") // no more than that goes before the rate is heeded
	r.Proxy("MIGRATE", "5461-10922", "TO", "g2")
	r.Proxy("MIGRATE", "10923-16383", "TO", "g3")
	r.AwaitDone()
	cfg := bench.OracleConfig{Addr: r.Listen, Prefix: "o", Keys: 3000, Clients: 4, Pipeline: 3, Rate: 3000,
		IncludeDeletes: true, ReconnectOnError: true, Seed: time.Now().UnixNano()}
	t.Logf("oracle seed %d", cfg.Seed)
	o := bench.NewOracle(cfg)
	r.must(o.Preload(context.Background()))
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	jobs := map[string]bool{}
	for i := range 16 {
		first := i * 1024
		owner := min(first/5461, 2) // of the first slot; a set may have two owners and be two jobs
		to := fmt.Sprintf("g%d", (owner+1+i%2)%3+1)
		for _, part := range r.parts(first, first+1023, to) {
			v := r.Proxy("MIGRATE", part, "TO", to, "RATE", "1") // it has to wait for the others
			jobs[fmt.Sprint(v)] = true
		}
	}
	open := 0
	for _, j := range r.Jobs() {
		if !j.Phase.Ended() {
			open++
		}
	}
	if open < 16 {
		t.Errorf("%d jobs at once", open)
	}
	for id := range jobs {
		r.Proxy("MIGRATION", "LIMIT", id, "RATE", "200")
	}
	r.AwaitDone()
	stop()
	r.must(<-ended)
	v, err := o.Verify(context.Background(), r.Listen)
	r.must(err)
	s := o.Snapshot()
	t.Logf("%d jobs, %d at once; %d commands, %d errors, %s", len(jobs), open, s.Ops, s.Errors, v)
	if !v.OK() || s.Errors > 0 {
		t.Errorf("errors %d (%s), the oracle found %+v", s.Errors, s.FirstError, v)
	}
	r.PlacesRight()
}

// parts are the ranges of first to last whose owner is not the target already.
func (r *rig) parts(first, last int, to string) (out []string) {
	owner := func(slot int) string { return fmt.Sprintf("g%d", min(slot/5461, 2)+1) }
	for from := first; from <= last; {
		end := from
		for end < last && owner(end+1) == owner(from) {
			end++
		}
		if owner(from) != to {
			out = append(out, fmt.Sprintf("%d-%d", from, end))
		}
		from = end + 1
	}
	return out
}

// anyBytes: S3.4. Keys, fields and values are bytes of any kind: what was written before a
// move is read after it.
func anyBytes(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	r.must(flag.Set("rapid.checks", "30")) // each is a migration
	c := r.Client()
	to := 1
	any := rapid.SliceOfN(rapid.Byte(), 0, 200)
	braces := rapid.SliceOfN(rapid.SampledFrom([]byte("{}ab\r\n\x00 \"'\\*$")), 0, 12)
	rapid.Check(t, func(rt *rapid.T) {
		keys := rapid.MapOfN(rapid.Map(rapid.OneOf(any, braces), func(b []byte) string { return string(b) }), any, 1, 12).Draw(rt, "keys")
		kinds := map[string]int{}
		for k, v := range keys {
			kinds[k] = rapid.IntRange(0, 3).Draw(rt, "kind")
			var err error
			switch kinds[k] {
			case 0:
				err = c.Set(ctx, k, v, 0).Err()
			case 1:
				err = c.HSet(ctx, k, v, v).Err()
			case 2:
				err = c.RPush(ctx, k, v, k).Err()
			case 3:
				err = c.SAdd(ctx, k, v).Err()
			}
			if err != nil {
				rt.Fatalf("writing %q: %v", k, err)
			}
		}
		to = 3 - to
		r.Proxy("MIGRATE", "0-16383", "TO", fmt.Sprintf("g%d", to))
		r.AwaitDone()
		for k, v := range keys {
			var got []byte
			switch kinds[k] {
			case 0:
				got, _ = c.Get(ctx, k).Bytes()
			case 1:
				got, _ = c.HGet(ctx, k, string(v)).Bytes()
			case 2:
				if l := c.LRange(ctx, k, 0, -1).Val(); len(l) == 2 && l[1] == k {
					got = []byte(l[0])
				}
			case 3:
				if l := c.SMembers(ctx, k).Val(); len(l) == 1 {
					got = []byte(l[0])
				}
			}
			if !bytes.Equal(got, v) {
				rt.Fatalf("%q holds %q, want %q", k, got, v)
			}
		}
		if n := testrig.KeysAt(t, r.Servers[2-to]); n != 0 {
			rt.Fatalf("%d keys are left behind", n)
		}
		if n := testrig.KeysAt(t, r.Servers[to-1]); n != int64(len(keys)) {
			rt.Fatalf("%d keys have become %d", len(keys), n)
		}
		if err := c.FlushAll(ctx).Err(); err != nil {
			rt.Fatal(err)
		}
	})
}
