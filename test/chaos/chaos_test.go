package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"keyferry/internal/testrig"
)

var (
	seedFlag    = flag.Uint64("chaos.seed", 0, "what picks faults, orders and commands; 0: another each time")
	timeFlag    = flag.Duration("chaos.time", 0, "how long to go on; 0: two short rounds")
	longestFlag = flag.Duration("chaos.longest", 0, "longest single fault; 0: 1.5 s, or 10 s in a run of more than a minute")
)

// plan is what a round consists of.
type plan struct {
	clients   int
	keys      int
	filler    int
	faults    time.Duration // of the first phase
	longest   time.Duration // of one fault
	atOnce    int           // faults; 0: none
	flushes   bool
	consumers int // 0: no queues
	operator  bool
}

var short = plan{clients: 8, keys: 40, filler: 1000, faults: 7 * time.Second, longest: 1200 * time.Millisecond, atOnce: 2, consumers: 4, operator: true}

// TestChaos goes on for as long as it is told. Its seed decides what is done; when and in
// which order it happens is also up to the machine.
func TestChaos(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64N(1e9) + 1
	}
	t.Logf("seed %d: go test ./test/chaos -run TestChaos -chaos.seed %d -chaos.time %v", seed, seed, *timeFlag)
	p := short
	if *timeFlag > time.Minute {
		p.longest = 10 * time.Second
		p.faults = 25 * time.Second
	}
	if *longestFlag > 0 {
		p.longest = *longestFlag
	}
	w := newWorld(t, seed, 3, "")
	w.fill(p.filler)
	for round := 0; round < 2 || w.since() < *timeFlag; round++ {
		p.flushes = round%4 == 3
		w.round(round, p)
		if round%4 == 2 && len(w.failures()) == 0 {
			w.oldDump(round, oldDumpKind(round/4%2))
		}
		if len(w.failures()) > 0 || t.Failed() {
			break // what is found later would only follow from it
		}
	}
	w.report()
}

func (w *world) report() {
	w.t.Logf("%v, jobs %v", w.counted(), w.phases())
	for _, f := range w.failures() {
		w.t.Error(f)
	}
	if len(w.odd) > 0 {
		w.t.Errorf("errors that no Redis gives: %v", w.odd)
	}
	if w.t.Failed() {
		name := fmt.Sprintf("%s/keyferry-chaos-%d.log", testrig.Lasting, w.seed)
		if err := os.WriteFile(name, []byte(w.between(0, w.since())), 0o644); err == nil {
			w.t.Logf("all that was done: %s", name)
		}
	}
}

// round is one first phase, one liveness phase and the checks.
func (w *world) round(n int, p plan) {
	w.t.Helper()
	w.note("round %d", n)
	ks := newKeyspace(fmt.Sprintf("k%d", n), p.keys)
	q := newQueues(w, n, max(1, p.consumers/2))
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var clients, orders sync.WaitGroup
	for i := range p.clients {
		clients.Go(func() { w.runClient(ctx, 100*n+i, ks) })
	}
	for i := range p.consumers {
		clients.Go(func() { q.produce(ctx, i) })
		clients.Go(func() { q.consume(ctx, i) })
	}
	if p.operator {
		orders.Go(func() { w.runOperator(ctx, n) })
	}
	nem := &nemesis{w: w, longest: p.longest, atOnce: p.atOnce}
	if p.flushes {
		nem.flush = func() { clients.Go(func() { w.flush(ks) }) }
	}
	nem.run(p.faults)
	nem.end()
	w.note("round %d: no faults any more", n)
	pause(ctx, 300*time.Millisecond) // clients see the end of the faults
	stop()
	clients.Wait()
	orders.Wait()
	w.allJobsEnd()
	w.check(ks, q, p, n)
}

// flush is FLUSHALL by a client of its own, in the history of every key.
func (w *world) flush(ks *keyspace) {
	c := w.dial(w.Listen, 5*time.Second)
	defer c.Close()
	o := op{client: -2, verb: vFlush, call: w.since()}
	err := c.FlushAll(context.Background()).Err()
	o.ret = w.since()
	o.unknown = err != nil // of some groups perhaps
	w.note("FLUSHALL: %v", err)
	ks.flushed(o)
}

// check compares what is there with what the clients saw.
func (w *world) check(ks *keyspace, q *queues, p plan, round int) {
	w.t.Helper()
	if p.flushes {
		w.fill(p.filler)
	} else {
		if p.consumers > 0 {
			q.check()
		}
		w.checkFiller(p.filler)
	}
	w.checkKeys(ks, round)
	if w.failpoints == "" {
		w.PlacesRight()
	}
}

// checkKeys reads all keys and checks their histories.
func (w *world) checkKeys(ks *keyspace, round int) {
	keys := ks.all()
	w.finalReads(keys)
	undecided := 0
	for _, k := range keys {
		switch linearizable(k.history, time.Minute) {
		case porcupine.Illegal:
			from := k.history[0].call - time.Second
			w.fail("round %d: %s: no single server could have answered so:\n%s\nmeanwhile:\n%s", round, k.name, transcript(k.history), w.between(from, w.since()))
		case porcupine.Unknown:
			undecided++
		}
	}
	w.count("histories", len(keys))
	w.count("histories undecided", undecided)
	if undecided > len(keys)/20 {
		w.fail("round %d: %d of %d histories could not be decided in time", round, undecided, len(keys))
	}
}
