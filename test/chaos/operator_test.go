package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"keyferry/internal/topology"
)

// runOperator gives orders at random until ctx ends. What is refused is no matter: the
// gateway may be away, the slots may be on their way already.
func (w *world) runOperator(ctx context.Context, round int) {
	rng := rand.New(rand.NewPCG(w.seed, uint64(5000+round)))
	for pause(ctx, upTo(rng, 250*time.Millisecond)) {
		jobs := w.Jobs()
		var openJobs []string
		for _, j := range jobs {
			w.saw(j.ID, j.Phase)
			if !j.Phase.Ended() {
				openJobs = append(openJobs, j.ID)
			}
		}
		if len(openJobs) == 0 || len(openJobs) < 4 && rng.IntN(3) == 0 {
			w.order(w.someMove(rng)...)
			continue
		}
		id := openJobs[rng.IntN(len(openJobs))]
		switch rng.IntN(14) {
		case 12:
			w.order("MIGRATION", "LIMIT", id, "RATE", fmt.Sprint(100+rng.IntN(3000)), "PARALLEL", fmt.Sprint(1+rng.IntN(8)),
				"SLICE", []string{"off", "100ms", "200ms/100ms"}[rng.IntN(3)])
		case 13:
			w.reconfigure(rng)
		case 0:
			w.order("MIGRATION", "PAUSE", id)
		case 1:
			w.order("MIGRATION", "CANCEL", id)
		case 2:
			w.order("MIGRATION", "CANCEL", id, "REVERT")
		case 3, 4, 5:
			w.order("MIGRATION", "RESUME", id)
		case 6:
			w.order("MIGRATION", "RESUME", id, "FORWARD")
		}
	}
}

// order says it to the gateway and notes what came of it.
func (w *world) order(args ...any) {
	v, err := w.ProxyErr(args...)
	if err != nil {
		w.note("operator: %v: %v", args, err)
		return
	}
	w.count("orders", 1)
	w.note("operator: %v: %v", args, v)
}

// reconfigure changes a setting of the running gateway, which every loop takes over.
func (w *world) reconfigure(rng *rand.Rand) {
	c := w.dial(w.Listen, time.Second)
	defer c.Close()
	ms := func(least, most int) string { return fmt.Sprintf("%dms", least+rng.IntN(most-least)) }
	s := [][2]string{{"locks.wait-deadline", ms(500, 1500)}, {"servers.request-timeout", ms(1500, 2500)}, {"slowlog-log-slower-than", "1000"},
		{"clients.max-in-flight", fmt.Sprint(1000 + rng.IntN(8000))}, {"locks.max-parked", fmt.Sprint(1000 + rng.IntN(100_000))}}[rng.IntN(5)]
	err := c.ConfigSet(context.Background(), s[0], s[1]).Err()
	w.note("operator: CONFIG SET %s %s: %v", s[0], s[1], err)
	if err == nil {
		w.count("reconfigurations", 1)
	}
}

// someMove is an order to move some of the slots: often few, sometimes all.
func (w *world) someMove(rng *rand.Rand) []any {
	first := rng.IntN(16384)
	last := min(16383, first+rng.IntN(8192))
	if rng.IntN(8) == 0 {
		first, last = 0, 16383
	}
	args := []any{"MIGRATE", fmt.Sprintf("%d-%d", first, last), "TO", fmt.Sprintf("g%d", 1+rng.IntN(len(w.Servers)))}
	if rng.IntN(2) == 0 {
		args = append(args, "RATE", fmt.Sprint(100+rng.IntN(3000)))
	}
	if rng.IntN(3) == 0 {
		args = append(args, "PARALLEL", fmt.Sprint(1+rng.IntN(8)))
	}
	return args
}

// saw keeps the last phase of each job.
func (w *world) saw(id string, p topology.Phase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.jobs[id] != string(p) {
		w.jobs[id] = string(p)
		w.log = append(w.log, fmt.Sprintf("%9.3f ms  job %s is %s", ms(w.since()), id, p))
	}
}

// phases counts the jobs of all rounds by the last phase seen.
func (w *world) phases() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]int{}
	for _, p := range w.jobs {
		out[p]++
	}
	return out
}

// livenessBound is no expectation of speed: it ends a hang.
const livenessBound = 4 * time.Minute

// allJobsEnd is the liveness phase: no fault is left, the operator wants every job to go
// on, and each must end.
func (w *world) allJobsEnd() {
	w.t.Helper()
	begun := time.Now()
	hurried := map[string]bool{}
	for time.Since(begun) < livenessBound {
		_, err := w.ProxyErr("EPOCH") // after a restart the jobs are listed as soon as it answers
		ended, jobs := err == nil, w.Jobs()
		for _, j := range jobs {
			w.saw(j.ID, j.Phase)
			if j.Phase.Ended() {
				continue
			}
			ended = false
			if !hurried[j.ID] { // nobody is to be waited for that is slow by order
				hurried[j.ID] = true
				w.order("MIGRATION", "LIMIT", j.ID, "RATE", "0", "SLICE", "off")
			}
			if j.Phase == topology.Failed || j.Phase == topology.Paused && !strings.HasPrefix(j.Reason, "target-") {
				w.order("MIGRATION", "RESUME", j.ID)
			}
		}
		if ended {
			w.note("liveness: every job has ended")
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.fail("liveness: %v after the last fault there are jobs that have not ended: %+v", livenessBound, w.Jobs())
}
