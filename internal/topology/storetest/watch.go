package storetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"keyferry/internal/topology"
)

func testWatch(t *testing.T, open func() topology.Store) {
	s, _ := created(t, open)
	one, two := s.Watch(t.Context()), s.Watch(t.Context())
	for epoch := uint64(1); epoch <= 5; epoch++ {
		for _, ch := range []<-chan topology.State{one, two} {
			if got, ok := receive(t, ch); !ok || got.Epoch != epoch {
				t.Fatalf("epoch %d (%v), want %d", got.Epoch, ok, epoch)
			}
		}
		_, err := topology.Update(t.Context(), s, func(st *topology.State) error { st.Admit(topology.Gateway{Name: "gw"}); return nil })
		must(t, err)
	}
}

// testWatchCoalesces: nobody reads while 20 changes are stored, none of which may wait
// for that, and afterwards the newest is all that there is.
func testWatchCoalesces(t *testing.T, open func() topology.Store) {
	s, _ := created(t, open)
	ch := s.Watch(t.Context())
	for range 20 {
		_, err := topology.Update(t.Context(), s, func(st *topology.State) error { st.Admit(topology.Gateway{Name: "gw"}); return nil })
		must(t, err)
	}
	// An implementation may hand over through a goroutine, which may hold one older State.
	var got topology.State
	for n := 0; got.Epoch != 21; n++ {
		if got, _ = receive(t, ch); n > 2 {
			t.Fatalf("epoch %d is not the newest after %d reads", got.Epoch, n+1)
		}
	}
	select {
	case more := <-ch:
		t.Fatalf("epoch %d after the newest", more.Epoch)
	case <-time.After(20 * time.Millisecond):
	}
}

func testWatchEnds(t *testing.T, open func() topology.Store) {
	s, _ := created(t, open)
	ctx, cancel := context.WithCancel(t.Context())
	cancelled, closed := s.Watch(ctx), s.Watch(t.Context())
	for _, ch := range []<-chan topology.State{cancelled, closed} {
		receive(t, ch)
	}
	cancel()
	if got, ok := receive(t, cancelled); ok {
		t.Fatalf("epoch %d after the context ended", got.Epoch)
	}
	_, err := topology.Update(t.Context(), s, func(st *topology.State) error { st.Admit(topology.Gateway{Name: "gw"}); return nil })
	must(t, err) // an ended watch is in nobody's way
	receive(t, closed)
	must(t, s.Close())
	if got, ok := receive(t, closed); ok {
		t.Fatalf("epoch %d after Close", got.Epoch)
	}
	if got, ok := receive(t, s.Watch(t.Context())); ok {
		t.Fatalf("epoch %d from a watch of a closed store", got.Epoch)
	}
}

// testWatchUnderLoad has writers race while watches come and go: what each sees must
// grow, begin no older than what was stored before it, and end with the newest.
func testWatchUnderLoad(t *testing.T, open func() topology.Store) {
	const writers, each = 4, 25
	s, _ := created(t, open)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				st, err := topology.Update(t.Context(), s, func(st *topology.State) error { st.Admit(topology.Gateway{Name: "gw"}); return nil })
				if err != nil {
					t.Errorf("update: %v", err)
					return
				}
				ctx, cancel := context.WithCancel(t.Context())
				if seen := <-s.Watch(ctx); seen.Epoch < st.Epoch {
					t.Errorf("a new watch begins with epoch %d, %d was stored", seen.Epoch, st.Epoch)
				}
				cancel()
			}
		})
	}
	for range 3 {
		ch := s.Watch(t.Context())
		wg.Go(func() {
			for last := uint64(0); last < 1+writers*each; {
				st, ok := receive(t, ch)
				if !ok || st.Epoch <= last {
					t.Errorf("epoch %d after %d (%v)", st.Epoch, last, ok)
					return
				}
				last = st.Epoch
			}
		})
	}
	wg.Wait()
}
