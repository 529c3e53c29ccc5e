package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
	"keyferry/internal/topology"
	"keyferry/migrator"
)

// newProxiedRig is newRig with a proxy before each server that does what networks do.
func newProxiedRig(t *testing.T, servers int, args ...string) (*rig, []*faultproxy.Proxy) {
	t.Helper()
	bare := testrig.Bare(t, args...)
	var proxies []*faultproxy.Proxy
	for range servers {
		s := testredis.StartT(t)
		p, err := faultproxy.New(s.Addr, 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		bare.Servers = append(bare.Servers, s)
		proxies = append(proxies, p)
	}
	bare.Start("")
	for i, p := range proxies {
		bare.Proxy("GROUP", "ADD", fmt.Sprintf("g%d", i+1), p.Addr)
	}
	bare.Proxy("SLOT", "ASSIGN", "0-16383", "g1")
	return wrap(bare), proxies
}

// lessonNothingTwice: the link to the target is cut in the middle. What has been committed
// is not copied again.
func lessonNothingTwice(t *testing.T) {
	const keys = 4000
	r, proxies := newProxiedRig(t, 2)
	r.fill(keys, 100)
	proxies[1].CutAfter(faultproxy.ToServer, keys*100/2) // bytes: before half of the values have come
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "2000")
	r.awaitDone()
	if proxies[1].Stats().Cut == 0 {
		t.Fatal("the link was not cut")
	}
	if j := r.job(); j.ErrorCounts["target IO"] == 0 {
		t.Errorf("the cut was not noticed: %v", j.ErrorCounts)
	}
	text, err := r.servers[1].Client().Info(context.Background(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	var calls, usec, perCall, rejected, failed int
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, "cmdstat_restore:"); ok {
			if _, err := fmt.Sscanf(strings.NewReplacer(",", " ", "=", " ").Replace(v), "calls %d usec %d usec_per_call %d", &calls, &usec, &perCall); err != nil && calls == 0 {
				t.Fatalf("%q: %v", v, err)
			}
			_, tail, _ := strings.Cut(v, "rejected_calls=")
			fmt.Sscanf(tail, "%d,failed_calls=%d", &rejected, &failed)
		}
	}
	// Each preflight restores a key of its own, what the gateway itself writes at a target, that again
	// to see whether it could come back, and a sample of the one type that there is.
	tries := 0
	for _, e := range r.history(r.job().ID) {
		if e.From == topology.Preflight {
			tries += 4
		}
	}
	if n := calls - rejected - failed - tries; n != keys {
		t.Errorf("%d RESTOREs went well for %d keys (%d calls, %d rejected, %d failed, %d of preflights)", n, keys, calls, rejected, failed, tries)
	}
	r.placesRight()
}

// lessonStalled: a target that says nothing makes the job stalled, by name.
func lessonStalled(t *testing.T) {
	const after = 5 * time.Second // much longer than a busy machine lets a process wait
	r := newRig(t, 2, "--set", "migration.stalled-after="+after.String(), "--set", "migration.call-timeout="+callTimeout.String())
	r.fill(4000, 100)
	id := r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "500").(string)
	r.awaitMoved(100)
	if s := r.job().Stalled; s != nil {
		t.Errorf("a job that moves is stalled: %v", s)
	}
	if err := r.servers[1].Pause(); err != nil {
		t.Fatal(err)
	}
	var s *migrator.Stall
	r.await("the job to be stalled", func() bool { s = r.job().Stalled; return s != nil })
	if s.Silent != "target" || s.OldestLock == "" || s.ForMs < after.Milliseconds() {
		t.Errorf("stalled: %+v", s)
	}
	if text := fmt.Sprint(r.proxy("MIGRATION", "STATUS", id)); !strings.Contains(text, "the target does not answer") {
		t.Errorf("the status does not name the end that is silent: %s", text)
	}
	r.await("the history to tell of it", func() bool {
		h := r.history(id)
		return h[len(h)-1].Event == "stalled" || len(h) > 1 && h[len(h)-2].Event == "stalled"
	})
	if err := r.servers[1].Continue(); err != nil {
		t.Fatal(err)
	}
	r.unlimited()
	r.awaitDone()
	var names []string
	for _, e := range r.history(id) {
		names = append(names, e.Event)
	}
	t.Logf("history: %v", names)
	r.never(id, topology.Failed)
	r.placesRight()
}

// stopBound is what is promised of PAUSE and CANCEL, whatever the other end does: of the time that
// the machine gives. A call may take callTimeout.
const (
	stopBound   = 2 * time.Second
	callTimeout = 2 * time.Minute
)

// machineTime begins to count time, without that for which a process that only wants to wake up
// every 10 ms was kept waiting, as the gateway is then.
func machineTime() (took func() time.Duration) {
	began, end, stood := time.Now(), make(chan struct{}), make(chan time.Duration)
	go func() {
		const every = 10 * time.Millisecond
		var late time.Duration
		for {
			t0 := time.Now()
			select {
			case <-end:
				stood <- late
				return
			case <-time.After(every):
				if d := time.Since(t0) - every; d > every {
					late += d
				}
			}
		}
	}()
	return func() time.Duration {
		all := time.Since(began)
		close(end)
		return all - <-stood
	}
}

// lessonStopIsBounded: a stop returns without a target that is silent in every way in
// which one can be, and the job can be resumed and finished afterwards.
func lessonStopIsBounded(t *testing.T) {
	for name, silence := range map[string]func(r *rig, p *faultproxy.Proxy) (heal func() error){
		"black hole": func(_ *rig, p *faultproxy.Proxy) func() error {
			p.SetBoth(faultproxy.Fault{Blackhole: true})
			return p.Heal
		},
		"stopped process": func(r *rig, _ *faultproxy.Proxy) func() error {
			if err := r.servers[1].Pause(); err != nil {
				r.t.Fatal(err)
			}
			return r.servers[1].Continue
		},
		"half-closed": func(_ *rig, p *faultproxy.Proxy) func() error {
			p.Set(faultproxy.ToServer, faultproxy.Fault{Blackhole: true})
			p.HalfClose(faultproxy.ToClient)
			return p.Heal
		},
		"handshake": func(_ *rig, p *faultproxy.Proxy) func() error {
			p.Set(faultproxy.ToClient, faultproxy.Fault{Blackhole: true})
			p.Reset() // every new connection hangs in its handshake
			return p.Heal
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, proxies := newProxiedRig(t, 2, "--set", "migration.call-timeout="+callTimeout.String())
			r.t = t
			r.fill(3000, 100)
			id := r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "300").(string)
			r.awaitMoved(300)
			heal := silence(r, proxies[1])
			time.Sleep(100 * time.Millisecond) // calls are under way
			since := machineTime()
			r.proxy("MIGRATION", "PAUSE", id)
			took := since()
			t.Logf("PAUSE took %v", took)
			if took > stopBound {
				t.Errorf("PAUSE took %v, promised are %v", took, stopBound)
			}
			if j := r.job(); j.Phase != topology.Paused || j.Reason != "operator" {
				t.Errorf("the job is %s (%s)", j.Phase, j.Reason)
			}
			r.proxy("MIGRATION", "PAUSE", id) // again: nothing happens
			since = machineTime()
			r.proxy("MIGRATION", "RESUME", id)
			r.proxy("MIGRATION", "CANCEL", id)
			if took := since(); took > 2*stopBound {
				t.Errorf("RESUME and CANCEL took %v", took)
			}
			if err := heal(); err != nil {
				t.Fatal(err)
			}
			r.unlimited()
			r.proxy("MIGRATION", "RESUME", id)
			r.awaitDone()
			r.never(id, topology.Failed)
			r.placesRight()
		})
	}
}

// lessonRandomStops: operators start, pause, resume and stop at random; every call returns
// in time and in the end all is where it belongs.
func lessonRandomStops(t *testing.T) {
	const rounds = 60
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	r := newRig(t, 2)
	r.fill(2000, 100)
	to := 2
	id := ""
	for range rounds {
		jobs := r.jobs()
		if n := len(jobs); n == 0 || jobs[n-1].Phase.Ended() {
			if n > 0 && jobs[n-1].Phase == topology.Done {
				to = 3 - to
			}
			id = r.proxy("MIGRATE", "0-16383", "TO", fmt.Sprintf("g%d", to), "RATE", "4000").(string)
		}
		time.Sleep(time.Duration(rnd.Int64N(int64(80 * time.Millisecond))))
		verb := []string{"PAUSE", "RESUME", "CANCEL"}[rnd.IntN(3)]
		since := machineTime()
		_, err := r.proxyErr("MIGRATION", verb, id)
		if took := since(); took > stopBound {
			t.Errorf("%s took %v", verb, took)
		}
		j := r.job()
		if err == nil && verb == "PAUSE" && j.Phase != topology.Paused {
			t.Errorf("after PAUSE the job is %s", j.Phase)
		}
		if err == nil && verb == "CANCEL" && j.Phase != topology.Paused && j.Phase != topology.Cancelled {
			t.Errorf("after CANCEL the job is %s", j.Phase)
		}
	}
	for _, j := range r.jobs() {
		if !j.Phase.Ended() {
			_, _ = r.proxyErr("MIGRATION", "RESUME", j.ID) // it may run
		}
	}
	r.await("all jobs to end", func() bool {
		for _, j := range r.jobs() {
			if !j.Phase.Ended() {
				return false
			}
		}
		return true
	})
	r.placesRight()
	for i, s := range r.servers {
		r.await("the movers' connections to be gone", func() bool {
			list := s.Client().ClientList(context.Background()).Val()
			return strings.Count(list, "name=keyferry:") <= 16
		})
		t.Logf("g%d: %d connections of the gateway are left", i+1, strings.Count(s.Client().ClientList(context.Background()).Val(), "name=keyferry:"))
	}
}

// lessonInDoubt: the reply of a RESTORE is lost, the target can't be reached to find out,
// and the job is stopped: the key is listed in doubt, stays locked, and is decided after a
// restart.
func lessonInDoubt(t *testing.T) {
	r, proxies := newProxiedRig(t, 2, "--set", "migration.call-timeout="+callTimeout.String())
	r.fill(2000, 100)
	id := r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "500").(string)
	r.awaitMoved(100)
	proxies[1].SetTraps(faultproxy.Trap{Match: faultproxy.Command("RESTORE"), Action: faultproxy.DropReply})
	r.await("a reply to be dropped", func() bool { return proxies[1].Sprung() > 0 })
	proxies[1].SetBoth(faultproxy.Fault{Blackhole: true}) // no look at the target from here on
	r.proxy("MIGRATION", "PAUSE", id)
	var doubt []string
	r.await("keys to be in doubt", func() bool { doubt = r.job().InDoubt; return len(doubt) > 0 })
	t.Logf("in doubt: %q", doubt[:min(3, len(doubt))])
	// What was sent after that reply has been lost did not come there, which nobody knows either.
	at := r.servers[1].Client().Exists(context.Background(), doubt...).Val()
	of := r.servers[0].Client().Exists(context.Background(), doubt...).Val()
	if at < 1 || of != int64(len(doubt)) {
		t.Errorf("of %d keys in doubt %d are at the target, %d at the source", len(doubt), at, of)
	}
	r.kill()
	if err := proxies[1].Heal(); err != nil {
		t.Fatal(err)
	}
	r.start("")
	r.await("the job to be there", func() bool { return len(r.jobs()) == 1 })
	r.unlimited()
	r.proxy("MIGRATION", "RESUME", id)
	r.awaitDone()
	if n := len(r.job().InDoubt); n > 0 {
		t.Errorf("%d keys are still in doubt", n)
	}
	c := r.client()
	for _, k := range doubt {
		if v, err := c.Get(context.Background(), k).Result(); err != nil || len(v) != 100 {
			t.Errorf("key %q: %d bytes, %v", k, len(v), err)
		}
	}
	r.placesRight()
}
