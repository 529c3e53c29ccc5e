package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyferry/internal/topology"
)

// Joint is a store that several gateways can open at once.
type Joint interface {
	topology.Store
	topology.Members
}

// lease is long enough for any test to end before it does.
const lease = 5 * time.Minute

// Members checks a store against topology.Members, as Contract does against topology.Store. What is opened
// at one place are gateways of one cluster.
func Members(t *testing.T, fresh func(t *testing.T) (open func() Joint)) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, open func() Joint)
	}{
		{"registered", testRegistered},
		{"acknowledged", testAcknowledged},
		{"replaced", testReplaced},
		{"members are watched", testWatchMembers},
		{"no members of the closed", testMembersClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, fresh(t))
		})
	}
}

// gateways opens several.
func gateways(t *testing.T, open func() Joint, n int) (all []Joint) {
	t.Helper()
	for range n {
		s := open()
		t.Cleanup(func() { _ = s.Close() })
		all = append(all, s)
	}
	return all
}

func register(t *testing.T, s Joint, name string, incarnation uint64) (lost <-chan struct{}) {
	t.Helper()
	lost, err := s.Register(t.Context(), topology.Gateway{Name: name, Incarnation: incarnation}, lease)
	must(t, err)
	return lost
}

// listed are the registered gateways, each with its incarnation and its epoch.
func listed(list []topology.Registered) (out [][3]any) {
	for _, r := range list {
		out = append(out, [3]any{r.Name, r.Incarnation, r.Ack.Epoch})
	}
	return out
}

func wantMembers(t *testing.T, s Joint, want ...[3]any) {
	t.Helper()
	list, err := s.Registered(t.Context())
	must(t, err)
	if d := cmp.Diff(want, listed(list)); d != "" {
		t.Errorf("registered: want (-) and got (+):\n%s", d)
	}
}

func wantLost(t *testing.T, lost <-chan struct{}, want bool) {
	t.Helper()
	if !want {
		select {
		case <-lost:
			t.Error("a registration that stands is lost")
		case <-time.After(20 * time.Millisecond):
		}
		return
	}
	select {
	case <-lost:
	case <-time.After(2 * lease):
		t.Error("a registration that has ended is not lost")
	}
}

// testRegistered: every gateway sees all, until they go.
func testRegistered(t *testing.T, open func() Joint) {
	all := gateways(t, open, 2)
	wantMembers(t, all[0])
	a := register(t, all[0], "a/b", 3) // any name will do
	wantMembers(t, all[1], [3]any{"a/b", uint64(3), uint64(0)})
	b := register(t, all[1], "b", 1)
	for _, s := range all {
		wantMembers(t, s, [3]any{"a/b", uint64(3), uint64(0)}, [3]any{"b", uint64(1), uint64(0)})
	}
	must(t, all[0].Unregister(t.Context()))
	wantMembers(t, all[1], [3]any{"b", uint64(1), uint64(0)})
	wantLost(t, a, true)
	wantLost(t, b, false)
	must(t, all[0].Unregister(t.Context())) // nothing is left to do
	a = register(t, all[0], "a/b", 4)
	wantMembers(t, all[1], [3]any{"a/b", uint64(4), uint64(0)}, [3]any{"b", uint64(1), uint64(0)})
	wantLost(t, a, false)
	if _, err := all[0].Load(t.Context()); err != topology.ErrNotFound {
		t.Errorf("registrations make no cluster: %v", err)
	}
}

// testAcknowledged: what a gateway says stands until it says something else, and goes with it.
func testAcknowledged(t *testing.T, open func() Joint) {
	all := gateways(t, open, 2)
	if err := all[0].Acknowledge(t.Context(), topology.Ack{Epoch: 1}); err == nil {
		t.Error("a gateway that is not registered has acknowledged")
	}
	register(t, all[0], "a", 1)
	register(t, all[1], "b", 1)
	for _, ack := range []topology.Ack{{Epoch: 7}, {Epoch: 9, Undrained: []topology.Epochs{{First: 8, Last: 9}}}, {Epoch: 9}} {
		must(t, all[0].Acknowledge(t.Context(), ack))
		list, err := all[1].Registered(t.Context())
		must(t, err)
		if d := cmp.Diff([]topology.Ack{ack, {}}, []topology.Ack{list[0].Ack, list[1].Ack}); d != "" {
			t.Errorf("acknowledged (-) and seen (+):\n%s", d)
		}
	}
	must(t, all[0].Unregister(t.Context()))
	if err := all[0].Acknowledge(t.Context(), topology.Ack{Epoch: 10}); err == nil {
		t.Error("a gateway that has gone has acknowledged")
	}
	register(t, all[0], "a", 2)
	wantMembers(t, all[1], [3]any{"a", uint64(2), uint64(0)}, [3]any{"b", uint64(1), uint64(0)})
}

// testReplaced: the later one of two processes with one name takes the other's place, which loses its own
// and can say nothing more.
func testReplaced(t *testing.T, open func() Joint) {
	all := gateways(t, open, 2)
	lost := register(t, all[0], "a", 1)
	must(t, all[0].Acknowledge(t.Context(), topology.Ack{Epoch: 5}))
	second := register(t, all[0], "a", 1) // once more, by itself
	wantLost(t, lost, true)
	wantMembers(t, all[0], [3]any{"a", uint64(1), uint64(0)})
	later, err := all[1].Register(t.Context(), topology.Gateway{Name: "a", Incarnation: 2}, lease)
	must(t, err)
	if err := all[0].Acknowledge(t.Context(), topology.Ack{Epoch: 6}); err == nil {
		list, _ := all[1].Registered(t.Context())
		t.Errorf("one that was replaced has acknowledged: %v", listed(list))
	}
	wantMembers(t, all[1], [3]any{"a", uint64(2), uint64(0)})
	must(t, all[0].Unregister(t.Context())) // its own, and not the other's
	wantLost(t, second, true)
	wantLost(t, later, false)
	wantMembers(t, all[1], [3]any{"a", uint64(2), uint64(0)})
}

func testWatchMembers(t *testing.T, open func() Joint) {
	all := gateways(t, open, 2)
	ctx, cancel := context.WithCancel(t.Context())
	ch := all[1].WatchMembers(ctx)
	await := func(want ...[3]any) {
		t.Helper()
		for {
			select {
			case list, ok := <-ch:
				if !ok {
					t.Fatal("the watch has ended")
				}
				if cmp.Equal(want, listed(list)) {
					return
				}
			case <-time.After(time.Minute):
				t.Fatalf("nothing came; want %v", want)
			}
		}
	}
	await()
	register(t, all[0], "a", 1)
	await([3]any{"a", uint64(1), uint64(0)})
	for epoch := range uint64(3) {
		must(t, all[0].Acknowledge(t.Context(), topology.Ack{Epoch: epoch + 1}))
		await([3]any{"a", uint64(1), epoch + 1})
	}
	for epoch := range uint64(50) { // nobody reads meanwhile
		must(t, all[0].Acknowledge(t.Context(), topology.Ack{Epoch: epoch + 10}))
	}
	await([3]any{"a", uint64(1), uint64(59)})
	must(t, all[0].Unregister(t.Context()))
	await()
	cancel()
	for range ch { // ends
	}
}

func testMembersClosed(t *testing.T, open func() Joint) {
	s := open()
	lost := register(t, s, "a", 1)
	ch := s.WatchMembers(t.Context())
	must(t, s.Close())
	for range ch { // ends
	}
	wantLost(t, lost, true)
	for range s.WatchMembers(t.Context()) {
		t.Error("a closed store tells of members")
	}
	_, err := s.Register(t.Context(), topology.Gateway{Name: "a"}, lease)
	wantErr(t, "Register", err, topology.ErrClosed)
	_, err = s.Registered(t.Context())
	wantErr(t, "Registered", err, topology.ErrClosed)
	wantErr(t, "Acknowledge", s.Acknowledge(t.Context(), topology.Ack{}), topology.ErrClosed)
	wantErr(t, "Unregister", s.Unregister(t.Context()), topology.ErrClosed)

	s = gateways(t, open, 1)[0]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Register(ctx, topology.Gateway{Name: "b"}, lease)
	wantErr(t, "Register", err, context.Canceled)
	wantErr(t, "Acknowledge", s.Acknowledge(ctx, topology.Ack{}), context.Canceled)
}
