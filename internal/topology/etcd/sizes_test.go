package etcd

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keyferry/internal/topology"
)

// noise is a name that can't be compressed.
func noise(rng *rand.Rand, n int) string {
	const of = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	b := make([]byte, n)
	for i := range b {
		b[i] = of[rng.IntN(len(of))]
	}
	return string(b)
}

// large is a cluster of 1,000 groups with the longest names, whose 16,384 slots have another owner each,
// with 100 gateways and 200 ended jobs whose records are full, and as many moves.
func large(rng *rand.Rand) topology.State {
	st := topology.NewState("redis", 16384, 16)
	for i := range 1000 {
		st.Groups = append(st.Groups, topology.Group{ID: fmt.Sprintf("%04d-%s", i, noise(rng, 59)), Number: i, Endpoint: topology.Endpoint{
			Addr: fmt.Sprintf("%s.example.com:6379", strings.ToLower(noise(rng, 50))), User: noise(rng, 16), Secret: topology.NewSecret(noise(rng, 40))}})
	}
	before := -1
	for slot := range 16384 {
		owner := rng.IntN(1000)
		for owner == before {
			owner = rng.IntN(1000)
		}
		before = owner
		st.Slots = append(st.Slots, topology.Assignment{Range: topology.Range{First: slot, Last: slot}, Group: st.Groups[owner].ID})
	}
	for i := range 100 {
		st.Gateways = append(st.Gateways, topology.Gateway{Name: fmt.Sprintf("%03d-%s", i, noise(rng, 60)), Incarnation: rng.Uint64()})
	}
	st.NextJob = 1
	for range topology.MaxEndedJobs {
		from, to := rng.IntN(1000), rng.IntN(1000)
		var slots []topology.Range
		for i := range topology.MaxEndedRanges / topology.MaxEndedMoves {
			slots = append(slots, topology.Range{First: 800*i + rng.IntN(800), Last: 800*i + 799})
		}
		j := topology.Job{ID: fmt.Sprint("m", st.NextJob), JobRequest: topology.JobRequest{Slots: slots, Source: st.Groups[from].ID, Target: st.Groups[to].ID},
			JobProgress: topology.JobProgress{Phase: topology.Done, SourceRunID: noise(rng, 80), TargetRunID: noise(rng, 80), KeysMoved: rng.Int64()}}
		fail := func() *topology.JobError {
			return &topology.JobError{Origin: "target", Code: "OOM", AtMs: rng.Int64(), Text: "OOM command not allowed when used memory > 'maxmemory': " + noise(rng, 100)}
		}
		j.FirstError, j.LastError = fail(), fail()
		for n := range topology.MaxAttemptsKept {
			j.Attempts = append(j.Attempts, topology.Attempt{N: n, AtMs: rng.Int64(), Phase: topology.Bulk, First: fail(), Last: fail(), KeysMoved: rng.Int64()})
		}
		st.Jobs = append(st.Jobs, j)
		st.Moves = append(st.Moves, topology.Move{Job: j.ID, Slots: slots, Source: j.Source, Target: j.Target, From: 1, To: 2})
		st.NextJob++
	}
	return st
}

// rebalance adds a job for each group, each of all of its slots.
func rebalance(st *topology.State) error {
	of := make(map[string][]topology.Range)
	for _, a := range st.Slots {
		of[a.Group] = append(of[a.Group], a.Range)
	}
	for i, g := range st.Groups {
		if _, err := st.AddJob(topology.Job{JobRequest: topology.JobRequest{Slots: of[g.ID], Source: g.ID, Target: st.Groups[(i+1)%len(st.Groups)].ID, CreatedAtMs: 1_800_000_000_000},
			JobProgress: topology.JobProgress{Phase: topology.Queued}}); err != nil {
			return err
		}
	}
	return nil
}

// publish has all open jobs begin to move.
func publish(st *topology.State) error {
	for _, j := range st.Clone().Jobs {
		if j.Phase.Ended() {
			continue
		}
		j.Phase, j.Published = topology.Preparing, true
		if err := st.PutJob(j); err != nil {
			return err
		}
	}
	return nil
}

// requestBound is well below the 1.5 MB that etcd takes: it leaves room for what is to come.
const requestBound = 900 << 10

// TestSizes holds what is stored of the largest cluster well below etcd's 1.5 MB a request, a rebalance
// of 1,000 jobs included, which is one change.
func TestSizes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	o := options(t)
	s := open(t, o)
	must(t, topology.Create(t.Context(), s, large(rng)))
	report := func(what string) {
		t.Helper()
		r, err := s.client.Get(t.Context(), s.prefix+stateKey, clientv3.WithPrefix())
		must(t, err)
		total, pages, page := 0, 0, 0
		for _, kv := range r.Kvs {
			n := len(kv.Value)
			total += n
			switch name := strings.TrimPrefix(string(kv.Key), s.prefix+stateKey); {
			case strings.HasPrefix(name, jobsName), strings.HasPrefix(name, endedName):
				pages, page = pages+1, max(page, n)
			default:
				t.Logf("%s: %s has %d bytes", what, name, n)
			}
		}
		t.Logf("%s: %d pages of jobs, the largest has %d bytes; the State has %d", what, pages, page, total)
		if page > 64<<10 {
			t.Errorf("%s: a page of jobs has %d bytes", what, page)
		}
	}
	report("200 ended jobs")
	st, err := topology.Update(t.Context(), s, rebalance)
	must(t, err)
	report("1,000 queued jobs more")
	before := st
	st, err = topology.Update(t.Context(), s, publish)
	must(t, err)
	d, err := topology.Diff(&before, &st)
	must(t, err)
	list, err := writes(&st, d, maps.Clone(s.seen.head.Sums))
	must(t, err)
	request := 0
	for _, w := range list {
		request += len(w.value)
	}
	t.Logf("to publish 1,000 jobs at once writes %d values, %d bytes", len(list)+1, request)
	if request > requestBound || len(list) > 100 {
		t.Errorf("to publish 1,000 jobs writes %d values, %d bytes", len(list)+1, request)
	}
	report("all 1,000 published")
	got, err := open(t, o).Load(t.Context()) // another gateway's
	must(t, err)
	if d := cmp.Diff(st, got); d != "" {
		t.Errorf("stored (-) and loaded (+):\n%s", d)
	}

	// One step of one job.
	st, err = topology.Update(t.Context(), s, func(st *topology.State) error {
		j := st.Jobs[len(st.Jobs)-1].Clone()
		j.KeysMoved++
		return st.PutJob(j)
	})
	must(t, err)
	r, err := s.client.Get(t.Context(), s.prefix+stateKey, clientv3.WithPrefix(), clientv3.WithMinModRev(s.seen.mod+1))
	must(t, err)
	step := 0
	for _, kv := range r.Kvs {
		step += len(kv.Value)
	}
	t.Logf("a step of one of %d jobs writes %d values, %d bytes", len(st.Jobs), len(r.Kvs), step)
	if len(r.Kvs) != 2 || step > 64<<10 {
		t.Errorf("a step of one job writes %d values, %d bytes", len(r.Kvs), step)
	}
}

// TestSizeOfHistory: an event is a value of its own, so that 200 jobs with 500 each are many small ones.
func TestSizeOfHistory(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	s := open(t, options(t))
	e := topology.JobEvent{Job: "m123456789", AtMs: rng.Int64(), Event: "failure", From: topology.Bulk, To: topology.Backoff, Attempt: 1, KeysMoved: rng.Int64(), BytesMoved: rng.Int64(),
		First: &topology.JobError{Origin: "target", Code: "OOM", Text: noise(rng, 200)}, Error: &topology.JobError{Origin: "source", Code: "IO", Text: noise(rng, 200)}}
	must(t, s.AppendEvent(t.Context(), e))
	r, err := s.client.Get(t.Context(), s.eventsOf(e.Job), clientv3.WithPrefix())
	must(t, err)
	n := len(r.Kvs[0].Key) + len(r.Kvs[0].Value)
	t.Logf("an event of a failed attempt has %d bytes with its key; 200 jobs with 500 of them have %d MB", n, n*topology.MaxEndedJobs*topology.MaxJobEvents>>20)
	if n > 2000 {
		t.Errorf("an event has %d bytes", n)
	}
}
