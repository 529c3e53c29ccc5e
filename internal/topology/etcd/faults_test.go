package etcd

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testetcd"
	"keyferry/internal/topology"
	"keyferry/internal/topology/storetest"
)

// count is a change that every State shows: how often it was made.
func count(st *topology.State) error { st.Admit(topology.Gateway{Name: "count"}); return nil }

func counted(st *topology.State) uint64 {
	if len(st.Gateways) == 0 {
		return 0
	}
	return st.Gateways[0].Incarnation
}

// observed reads a watch until the test ends, and holds that it never goes back.
type observed struct {
	newest atomic.Uint64
	done   chan struct{}
}

func observe(t *testing.T, s topology.Store) *observed {
	ctx, cancel := context.WithCancel(t.Context())
	o := &observed{done: make(chan struct{})}
	ch := s.Watch(ctx)
	go func() {
		defer close(o.done)
		for st := range ch {
			if before := o.newest.Swap(st.Revision); st.Revision <= before {
				t.Errorf("the watch has revision %d after %d", st.Revision, before)
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-o.done })
	return o
}

// await waits until the watch has a revision.
func (o *observed) await(t *testing.T, revision uint64) {
	t.Helper()
	for end := time.Now().Add(time.Minute); o.newest.Load() < revision; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the watch has revision %d, and %d is stored", o.newest.Load(), revision)
		}
	}
}

// writer counts until it is stopped; what it was told to be stored is in acked, and what may be in tries.
type writer struct {
	acked, tries atomic.Uint64
	stop         context.CancelFunc
	done         sync.WaitGroup
}

func writing(t *testing.T, s *Store) *writer {
	ctx, cancel := context.WithCancel(t.Context())
	w := &writer{stop: cancel}
	w.done.Go(func() {
		for ctx.Err() == nil {
			st, err := s.Load(ctx)
			if err != nil {
				continue
			}
			next := st.Clone()
			_ = count(&next)
			next.Revision, next.Epoch = st.Revision+1, st.Epoch+1
			w.tries.Add(1)
			if s.CompareAndSet(ctx, st, next) == nil {
				w.acked.Add(1)
			}
		}
	})
	t.Cleanup(w.end)
	return w
}

func (w *writer) end() { w.stop(); w.done.Wait() }

// await waits until so much more is stored.
func (w *writer) await(t *testing.T, more uint64) {
	t.Helper()
	want := w.acked.Load() + more
	for end := time.Now().Add(time.Minute); w.acked.Load() < want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d changes of %d are stored", w.acked.Load(), want)
		}
	}
}

// settled checks, once a writer has stopped, that all is stored that was said to be.
func settled(t *testing.T, w *writer, s *Store, o *observed) {
	t.Helper()
	w.end()
	st, err := s.Load(t.Context())
	must(t, err)
	if n := counted(&st); n < w.acked.Load() || n > w.tries.Load() {
		t.Errorf("%d changes are stored; %d were acknowledged, of %d", n, w.acked.Load(), w.tries.Load())
	}
	o.await(t, st.Revision)
}

func impatient(o Options) Options {
	o.RequestTimeout = 500 * time.Millisecond
	return o
}

// TestKilled: whatever was acknowledged is there when etcd has been killed and started again.
func TestKilled(t *testing.T) {
	t.Parallel()
	etcd := testetcd.StartT(t)
	s := open(t, impatient(optionsAt(etcd.Addr)))
	must(t, topology.Create(t.Context(), s, storetest.Sample(t)))
	o, w := observe(t, s), writing(t, s)
	for range 3 {
		w.await(t, 20)
		must(t, etcd.Kill())
		must(t, etcd.Restart())
	}
	w.await(t, 20)
	settled(t, w, s, o)
}

// TestFrozen: a frozen etcd is said to be one, and nothing is lost when it thaws.
func TestFrozen(t *testing.T) {
	t.Parallel()
	etcd := testetcd.StartT(t)
	s := open(t, impatient(optionsAt(etcd.Addr)))
	must(t, topology.Create(t.Context(), s, storetest.Sample(t)))
	o, w := observe(t, s), writing(t, s)
	w.await(t, 10)
	must(t, etcd.Pause())
	_, err := s.Load(t.Context())
	for err == nil { // it stops a moment after it was told to
		_, err = s.Load(t.Context())
	}
	if errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "etcd at "+etcd.Addr+" did not answer within 500ms") {
		t.Errorf("while etcd is frozen: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Load(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call whose context has ended: %v", err)
	}
	must(t, etcd.Continue())
	w.await(t, 10)
	settled(t, w, s, o)
}

// TestLeaderKilled: the other members go on, and the one that comes back is used again.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	etcd := testetcd.StartClusterT(t, 3)
	s := open(t, impatient(optionsAt(etcd[0].Addr, etcd[1].Addr, etcd[2].Addr)))
	must(t, topology.Create(t.Context(), s, storetest.Sample(t)))
	o, w := observe(t, s), writing(t, s)
	for range 2 {
		w.await(t, 10)
		leader := leaderOf(t, s, etcd)
		must(t, leader.Kill())
		w.await(t, 10)
		must(t, leader.Restart())
	}
	w.await(t, 10)
	settled(t, w, s, o)
}

func leaderOf(t *testing.T, s *Store, all []*testetcd.Server) *testetcd.Server {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		for _, m := range all {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			r, err := s.client.Status(ctx, m.Addr)
			cancel()
			if err == nil && r.Leader == r.Header.MemberId {
				return m
			}
		}
	}
	t.Fatal("no member leads")
	return nil
}

// TestCompacted: while a watch is cut off, what it would have to go on from is compacted.
func TestCompacted(t *testing.T) {
	t.Parallel()
	etcd := testetcd.StartT(t)
	link, err := faultproxy.New(etcd.Addr, 1)
	must(t, err)
	t.Cleanup(func() { link.Close() })
	direct := optionsAt(etcd.Addr)
	watching := impatient(direct)
	watching.Endpoints = []string{link.Addr}
	s := open(t, direct)
	must(t, topology.Create(t.Context(), s, storetest.Sample(t)))
	cut := open(t, watching)
	o := observe(t, cut)
	o.await(t, 1)
	must(t, link.Refuse(true))
	link.Reset()
	for range 20 {
		_, err := topology.Update(t.Context(), s, count)
		must(t, err)
	}
	r, err := s.client.Get(t.Context(), "any")
	must(t, err)
	_, err = s.client.Compact(t.Context(), r.Header.Revision, clientv3.WithCompactPhysical())
	must(t, err)
	if n := o.newest.Load(); n != 1 {
		t.Errorf("a watch that is cut off has revision %d", n)
	}
	must(t, link.Refuse(false))
	o.await(t, 21)
	_, err = topology.Update(t.Context(), s, count)
	must(t, err)
	o.await(t, 22)

	// A revision that is compacted ends a watch at once.
	if !cut.listen(t.Context(), cut.headKey(), 1, func(context.Context) (int64, bool, error) { t.Error("a look"); return 0, false, nil }, nil) {
		t.Error("a watch from a compacted revision on is no reason for another")
	}
}

// TestDeafWatch: what no watch tells of is noticed all the same. Here replies come through while the
// watch waits on a member that is cut off from nobody but us.
func TestDeafWatch(t *testing.T) {
	t.Parallel()
	o := options(t)
	s := open(t, o)
	must(t, topology.Create(t.Context(), s, storetest.Sample(t)))
	other := open(t, o)
	other.lookAt = 20 * time.Millisecond
	looks, ctx := 0, t.Context()
	again := other.listen(ctx, o.Prefix+"/nothing rings here", 1, func(ctx context.Context) (int64, bool, error) {
		if looks++; looks == 3 {
			_, err := topology.Update(ctx, s, count)
			must(t, err)
		}
		old := other.seen
		v, at, err := other.read(ctx)
		return at, v != old, err
	}, nil)
	if !again || looks < 3 {
		t.Errorf("after %d looks: %v", looks, again)
	}
}

// TestUnknownOutcome: a change whose answer does not come may have been made or not, but once Load has
// said which, it stays so, though the request arrives later: it is held back on one link to etcd, while
// Load takes another.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	etcd := testetcd.StartT(t)
	link, err := faultproxy.New(etcd.Addr, 1)
	must(t, err)
	t.Cleanup(func() { link.Close() })
	o := optionsAt(etcd.Addr)
	direct := open(t, o)
	must(t, topology.Create(t.Context(), direct, storetest.Sample(t)))
	o.Endpoints = []string{link.Addr}
	s := open(t, o)
	behind := s.client
	made := 0
	const rounds = 16
	for round := range rounds {
		st, err := s.Load(t.Context())
		must(t, err)
		next := st.Clone()
		must(t, count(&next))
		next.Revision, next.Epoch = st.Revision+1, st.Epoch+1
		way := faultproxy.ToServer
		if round%4 == 0 {
			way = faultproxy.ToClient
		}
		link.Set(way, faultproxy.Fault{Blackhole: true})
		s.timeout = 50 * time.Millisecond
		if err := s.CompareAndSet(t.Context(), st, next); err == nil || !strings.Contains(err.Error(), "can't be told") {
			t.Fatalf("no answer came: %v", err)
		}
		s.client, s.timeout = direct.client, time.Minute
		arrives := time.AfterFunc(time.Duration(round)*time.Millisecond/4, func() { _ = link.Heal() })
		seen, err := s.Load(t.Context())
		must(t, err)
		if seen.Revision == next.Revision {
			made++
		}
		if arrives.Stop() {
			must(t, link.Heal())
		}
		s.client = behind
		_, _, _, err = s.readHead(t.Context()) // comes behind what was held back
		must(t, err)
		time.Sleep(20 * time.Millisecond)
		if now, err := direct.Load(t.Context()); err != nil || now.Revision != seen.Revision {
			t.Fatalf("Load said revision %d, and later it is %d (%v)", seen.Revision, now.Revision, err)
		}
	}
	t.Logf("%d of %d changes were made", made, rounds)
	if made == 0 || made == rounds {
		t.Error("one of the two did not happen")
	}
}

// TestOutcome: what has become of a change is found out where that can be known.
func TestOutcome(t *testing.T) {
	s := open(t, options(t))
	must(t, topology.Create(t.Context(), s, storetest.Sample(t)))
	failed := errors.New("no answer")
	st, err := s.Load(t.Context())
	must(t, err)
	next := st.Clone()
	next.Revision++
	h, mod, _, err := s.readHead(t.Context())
	must(t, err)
	s.doubt(mod)
	if err := s.outcome(t.Context(), &next, "mine", failed); !errors.Is(err, failed) || !strings.Contains(err.Error(), "nothing has been stored") {
		t.Errorf("not made: %v", err)
	}
	if _, now, _, err := s.readHead(t.Context()); err != nil || now == mod || s.inDoubt() {
		t.Errorf("the head is as it was (%v), in doubt %v", err, s.inDoubt())
	}
	if err := s.outcome(t.Context(), &st, h.By, failed); err != nil {
		t.Errorf("made: %v", err)
	}
	if err := s.outcome(t.Context(), &st, "mine", failed); err != topology.ErrConflict {
		t.Errorf("another's was made: %v", err)
	}
	st.Revision = 0
	if err := s.outcome(t.Context(), &st, "mine", failed); !errors.Is(err, failed) || !strings.Contains(err.Error(), "can't be told") {
		t.Errorf("others have gone on: %v", err)
	}
	// A head that was touched is no conflict.
	st, err = s.Load(t.Context())
	must(t, err)
	other := open(t, Options{Endpoints: s.client.Endpoints(), Prefix: s.prefix, DialTimeout: time.Minute, RequestTimeout: time.Minute})
	_, mod, _, err = other.readHead(t.Context())
	must(t, err)
	other.doubt(mod)
	if _, touched, err := other.settle(t.Context()); err != nil || !touched {
		t.Errorf("touched %v, %v", touched, err)
	}
	next = st.Clone()
	must(t, count(&next))
	next.Revision, next.Epoch = st.Revision+1, st.Epoch+1
	must(t, s.CompareAndSet(t.Context(), st, next))
}

// TestDamage: what somebody has done by hand is noticed, and not gone by.
func TestDamage(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, s *Store, key string){
		"no head":           func(t *testing.T, s *Store, key string) { del(t, s, s.headKey()) },
		"no topology":       func(t *testing.T, s *Store, key string) { del(t, s, key+topologyName) },
		"another topology":  func(t *testing.T, s *Store, key string) { put(t, s, key+topologyName, "x") },
		"no page":           func(t *testing.T, s *Store, key string) { del(t, s, key+"jobs/01") },
		"one page too many": func(t *testing.T, s *Store, key string) { put(t, s, key+"jobs/02", "x") },
		"another head":      func(t *testing.T, s *Store, key string) { put(t, s, s.headKey(), "{}") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			s := open(t, o)
			must(t, topology.Create(t.Context(), s, storetest.Sample(t)))
			st, err := topology.Update(t.Context(), s, func(st *topology.State) error {
				_, err := st.AddJob(topology.Job{JobRequest: topology.JobRequest{Slots: []topology.Range{{First: 0, Last: 9}}, Source: "a", Target: "b"}, JobProgress: topology.JobProgress{Phase: topology.Queued}})
				return err
			})
			must(t, err)
			if got, err := s.Load(t.Context()); err != nil || got.Revision != st.Revision { // it remembers all parts
				t.Fatal(err)
			}
			harm(t, s, s.prefix+stateKey)
			if _, err := s.Load(t.Context()); !errors.Is(err, errDamaged) {
				t.Errorf("Load: %v", err)
			}
			if other, err := Open(o); !errors.Is(err, errDamaged) {
				t.Errorf("Open: %v", err)
				_ = other.Close()
			}
		})
	}
}

func put(t *testing.T, s *Store, key, value string) {
	t.Helper()
	_, err := s.client.Put(t.Context(), key, value)
	must(t, err)
}

func del(t *testing.T, s *Store, key string) {
	t.Helper()
	r, err := s.client.Delete(t.Context(), key)
	must(t, err)
	if r.Deleted != 1 {
		t.Fatalf("there is no %s", key)
	}
}

// TestLost: a cluster whose State has gone is not taken for one that has yet to be made.
func TestLost(t *testing.T) {
	s := open(t, options(t))
	must(t, s.Lost(t.Context()))
	must(t, topology.Create(t.Context(), s, storetest.Sample(t)))
	must(t, s.SaveCheckpoint(t.Context(), topology.Checkpoint{Job: "m1"}))
	must(t, s.Lost(t.Context()))
	_, err := s.client.Delete(t.Context(), s.prefix+stateKey, clientv3.WithPrefix())
	must(t, err)
	if err := s.Lost(t.Context()); !errors.Is(err, errDamaged) {
		t.Error(err)
	}
}

// TestNewerFormat is refused in words.
func TestNewerFormat(t *testing.T) {
	o := options(t)
	s := open(t, o)
	must(t, topology.Create(t.Context(), s, storetest.Sample(t)))
	put(t, s, s.headKey(), `{"format":2,"revision":1}`)
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "written by a newer keyferry (format 2, this one knows 1)") {
		t.Error(err)
	}
}

// TestSetBack: an etcd that has been set back is not gone by.
func TestSetBack(t *testing.T) {
	o := options(t)
	s := open(t, o)
	must(t, topology.Create(t.Context(), s, storetest.Sample(t)))
	_, err := s.Load(t.Context())
	must(t, err)
	s.seenAt += 1000
	if _, err := s.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "set back while the gateway ran") {
		t.Error(err)
	}
	s.seenAt, s.cluster = 0, 1
	if _, err := s.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "not the etcd of before") {
		t.Error(err)
	}
}

// TestPrefixes: clusters whose prefixes begin alike know nothing of each other.
func TestPrefixes(t *testing.T) {
	o := options(t)
	a := open(t, o)
	must(t, topology.Create(t.Context(), a, storetest.Sample(t)))
	must(t, a.SaveCheckpoint(t.Context(), topology.Checkpoint{Job: "m1"}))
	for _, p := range []string{o.Prefix + "1", o.Prefix + "/", o.Prefix} {
		other := o
		other.Prefix = p
		_, err := open(t, other).Load(t.Context())
		if strings.TrimSuffix(p, "/") == o.Prefix {
			must(t, err)
		} else if !errors.Is(err, topology.ErrNotFound) {
			t.Errorf("%s: %v", p, err)
		}
	}
}
