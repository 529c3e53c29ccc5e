package etcd

import (
	"errors"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testetcd"
	"keyferry/internal/topology"
	"keyferry/internal/topology/storetest"
)

func TestMembers(t *testing.T) {
	storetest.Members(t, func(t *testing.T) func() storetest.Joint {
		o := options(t)
		return func() storetest.Joint { return open(t, o) }
	})
}

// TestLeaseEnds: a gateway that is cut off knows that it may be taken for dead before anybody takes it for
// that.
func TestLeaseEnds(t *testing.T) {
	t.Parallel()
	o := options(t)
	link, err := faultproxy.New(o.Endpoints[0], 1)
	must(t, err)
	t.Cleanup(func() { link.Close() })
	other := open(t, o)
	o.Endpoints = []string{link.Addr}
	s := open(t, o)
	seen := other.WatchMembers(t.Context())
	if list := <-seen; len(list) != 0 {
		t.Fatalf("registered: %v", list)
	}
	var lost <-chan struct{}
	for renewed := false; !renewed; { // on a machine that stands still for a second it may not be
		lost, err = s.Register(t.Context(), topology.Gateway{Name: "a", Incarnation: 1}, 2*time.Second)
		must(t, err)
		select {
		case <-lost:
			t.Log("lost, and nothing is cut off")
		case <-time.After(2500 * time.Millisecond):
			renewed = true
		}
	}
	if list := <-seen; len(list) != 1 { // the newest of those that have come meanwhile
		t.Fatalf("registered: %v", list)
	}
	link.SetBoth(faultproxy.Fault{Blackhole: true})
	if list := <-seen; len(list) != 0 {
		t.Fatalf("registered: %v", list)
	}
	select {
	case <-lost:
	default:
		t.Error("the others hear first")
	}
	must(t, link.Heal())
	lost, err = s.Register(t.Context(), topology.Gateway{Name: "a", Incarnation: 1}, time.Minute)
	must(t, err)
	if list := <-seen; len(list) != 1 {
		t.Errorf("registered: %v", list)
	}
	select {
	case <-lost:
		t.Error("lost, and the link is whole again")
	default:
	}
}

// TestOlderIncarnation: of two processes with one name the older is not let in again, and hears that it
// was replaced.
func TestOlderIncarnation(t *testing.T) {
	t.Parallel()
	o := options(t)
	old, young := open(t, o), open(t, o)
	lost, err := old.Register(t.Context(), topology.Gateway{Name: "a", Incarnation: 1}, 3*time.Second)
	must(t, err)
	_, err = young.Register(t.Context(), topology.Gateway{Name: "a", Incarnation: 2}, 3*time.Second)
	must(t, err)
	<-lost
	if _, err := old.Register(t.Context(), topology.Gateway{Name: "a", Incarnation: 1}, 3*time.Second); !errors.Is(err, topology.ErrConflict) {
		t.Errorf("the older one: %v", err)
	}
	list, err := old.Registered(t.Context())
	must(t, err)
	if len(list) != 1 || list[0].Incarnation != 2 {
		t.Errorf("registered: %v", list)
	}
	must(t, young.Unregister(t.Context()))
	_, err = old.Register(t.Context(), topology.Gateway{Name: "a", Incarnation: 1}, 3*time.Second)
	must(t, err) // the State says whether it may act
}

// TestLeaseOutlivesEtcd: a restart of etcd within the lease ends no registration.
func TestLeaseOutlivesEtcd(t *testing.T) {
	t.Parallel()
	etcd := testetcd.StartT(t)
	o := impatient(optionsAt(etcd.Addr))
	s, other := open(t, o), open(t, o)
	lost, err := s.Register(t.Context(), topology.Gateway{Name: "a", Incarnation: 1}, time.Minute)
	must(t, err)
	must(t, s.Acknowledge(t.Context(), topology.Ack{Epoch: 4}))
	must(t, etcd.Kill())
	must(t, etcd.Restart())
	var list []topology.Registered
	for err := errors.New("none"); err != nil; {
		list, err = other.Registered(t.Context())
	}
	if len(list) != 1 || list[0].Ack.Epoch != 4 {
		t.Errorf("registered: %v", list)
	}
	for err := errors.New("none"); err != nil; {
		_, err = s.renew(t.Context(), s.registered)
		if errors.Is(err, errNotRegistered) {
			t.Fatal(err)
		}
	}
	select {
	case <-lost:
		t.Error("lost")
	default:
	}
}
