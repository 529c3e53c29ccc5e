package migrator

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/control"
	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/internal/topology/bolt"
	"keyferry/internal/upstream"
	"keyferry/router"
)

// keeper is a Manager under a control plane, without a data plane.
type keeper struct {
	*Manager
	t     *testing.T
	store topology.Store

	mu      sync.Mutex
	refused []string // what the data plane was told
}

func startKeeper(t *testing.T, groups ...topology.Group) *keeper {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	store, err := bolt.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctl, err := control.Open(ctx, store, control.Member{Gateway: topology.Gateway{Name: "gw"}}, topology.NewState("redis", 16384, 16))
	if err != nil {
		t.Fatal(err)
	}
	dialer := upstream.NewDialer("gw", 1)
	m, err := New(store, Config{CallTimeout: time.Second, StampEvery: 20 * time.Millisecond}, ctl, dialer, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{Manager: m, t: t, store: store}
	m.SetRefuse(func(why string) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.refused = append(k.refused, why)
	})
	if _, err := ctl.Attach(m); err != nil {
		t.Fatal(err)
	}
	m.CheckStamps(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = ctl.Run(ctx, func(context.Context, *router.Table) (<-chan struct{}, error) { return make(chan struct{}), nil })
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = store.Close()
	})
	for i, g := range groups {
		if err := ctl.AddGroup(ctx, g, true, false); err != nil {
			t.Fatal(err)
		}
		if err := ctl.AssignSlots(ctx, []topology.Range{{First: i, Last: i}}, g.ID, true); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func (k *keeper) await(what string, cond func() bool) {
	k.t.Helper()
	end := time.Now().Add(time.Minute)
	for !cond() {
		if time.Now().After(end) {
			k.t.Fatalf("waited in vain for %s: %+v", what, k.StoreStatus())
		}
		k.Flushed() // or a round is a second away
		time.Sleep(5 * time.Millisecond)
	}
}

func (k *keeper) stored() topology.State {
	k.t.Helper()
	st, err := k.store.Load(context.Background())
	if err != nil {
		k.t.Fatal(err)
	}
	return st
}

// TestStampComesBack: whatever becomes of a stamp past the gateway, it is written again, with the newest epoch,
// and is in one database.
func TestStampComesBack(t *testing.T) {
	ctx := context.Background()
	server := testredis.StartT(t)
	k := startKeeper(t, topology.Group{ID: "a", Endpoint: topology.Endpoint{Addr: server.Addr}})
	c := server.Client()
	whole := func() bool {
		s, _ := topology.ReadStamp(c.Get(ctx, topology.StampKey).Val())
		st := k.stored()
		return s == st.StampOf("a", "gw") && server.ClientDB(5).Exists(ctx, topology.StampKey).Val() == 0
	}
	k.await("the first stamp", whole)
	st := k.stored()
	older := st.StampOf("a", "gw")
	older.Birth = st.Past[0] // as of a replica or an older dump
	for what, harm := range map[string]func(){
		"DEL":            func() { c.Del(ctx, topology.StampKey) },
		"FLUSHALL":       func() { c.FlushAll(ctx) },
		"another type":   func() { c.Del(ctx, topology.StampKey); c.RPush(ctx, topology.StampKey, "x") },
		"another text":   func() { c.Set(ctx, topology.StampKey, "x", 0) },
		"SWAPDB":         func() { c.Do(ctx, "SWAPDB", 0, 5) },
		"an older epoch": func() { c.Set(ctx, topology.StampKey, older.String(), 0) },
		"a new epoch instead": func() {
			_, _ = topology.Update(ctx, k.store, func(s *topology.State) error { return s.AssignSlots(topology.Range{First: 9, Last: 9}, "a") })
		},
	} {
		harm()
		k.await("the stamp after "+what, whole)
	}
	if why := k.Refusal(); why != "" || len(k.refused) != 0 {
		t.Errorf("writes were refused: %q, %q", why, k.refused)
	}
}

// TestStampsOfOthersStop: a stamp of another cluster, or of a newer store, ends writes while the gateway runs
// too, and the data plane hears of each change once. A group that does not answer stops nothing until it does.
func TestStampsOfOthersStop(t *testing.T) {
	ctx := context.Background()
	server, late := testredis.StartT(t), testredis.StartT(t)
	if err := late.Kill(); err != nil {
		t.Fatal(err)
	}
	k := startKeeper(t, topology.Group{ID: "a", Endpoint: topology.Endpoint{Addr: server.Addr}}, topology.Group{ID: "b", Endpoint: topology.Endpoint{Addr: late.Addr}})
	c := server.Client()
	k.await("the first stamp", func() bool { return c.Exists(ctx, topology.StampKey).Val() == 1 })
	st := k.stored()
	foreign := topology.Stamp{Cluster: "c2", Group: "g", Gateway: "g2", Birth: topology.Birth{Epoch: 3}}
	c.Set(ctx, topology.StampKey, foreign.String(), 0)
	k.await("writes to be refused", func() bool { return strings.Contains(k.Refusal(), "belongs to another cluster, c2") })
	if s := c.Get(ctx, topology.StampKey).Val(); s != foreign.String() {
		t.Errorf("the other cluster's stamp is written over: %s", s)
	}
	waits, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := k.awaitAccepted(waits); err == nil {
		t.Error("jobs go on")
	}
	c.Del(ctx, topology.StampKey) // the group was removed there
	k.await("writes to be served", func() bool { return k.Refusal() == "" })

	if err := late.Restart(); err != nil {
		t.Fatal(err)
	}
	newer := st.StampOf("b", "gw")
	newer.Epoch += 100
	late.Client().Set(ctx, topology.StampKey, newer.String(), 0)
	k.await("writes to be refused", func() bool {
		return strings.Contains(k.Refusal(), "not the newest one: the server of group b shows epoch")
	})
	late.Client().Del(ctx, topology.StampKey)
	k.await("it to be looked at again", func() bool { return k.StoreStatus().Groups[1].State == "own" })
	if k.Refusal() == "" {
		t.Error("who removes a stamp has writes served by an old store")
	}
	text, err := k.AcceptStore(ctx)
	if got := k.stored(); err != nil || got.Epoch <= st.Epoch || k.Refusal() != "" {
		t.Errorf("ACCEPT: %q, %v; epoch %d after %d; %q", text, err, got.Epoch, st.Epoch, k.Refusal())
	}
	k.await("new stamps", func() bool {
		s, _ := topology.ReadStamp(late.Client().Get(ctx, topology.StampKey).Val())
		st := k.stored()
		return s == st.StampOf("b", "gw")
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.refused) != 4 || k.refused[1] != "" || k.refused[3] != "" {
		t.Errorf("the data plane was told %q", k.refused)
	}
}

// TestServerIsAskedBeforeItsClients: a server that was away at the start has been looked at when the first
// connection for clients is given out; and one that will never let its stamp be read serves all the same.
func TestServerIsAskedBeforeItsClients(t *testing.T) {
	ctx := context.Background()
	late, closed := testredis.StartT(t), testredis.StartT(t)
	if err := closed.Client().Do(ctx, "ACL", "SETUSER", "default", "resetkeys", "~k*").Err(); err != nil {
		t.Fatal(err)
	}
	if err := late.Kill(); err != nil {
		t.Fatal(err)
	}
	k := startKeeper(t, topology.Group{ID: "a", Endpoint: topology.Endpoint{Addr: late.Addr}}, topology.Group{ID: "b", Endpoint: topology.Endpoint{Addr: closed.Addr}})
	st := k.stored()
	endpoint := func(id string) topology.Endpoint { g, _ := st.Group(id); return g.Endpoint }
	if err := k.AdmitConn(ctx, endpoint("b")); err != nil || k.Refusal() != "" {
		t.Errorf("a server that does not tell: %v, %q", err, k.Refusal())
	}
	if err := k.AdmitConn(ctx, endpoint("a")); err == nil {
		t.Error("a connection to a server that is away is admitted")
	}
	if err := late.Restart(); err != nil {
		t.Fatal(err)
	}
	late.Client().Set(ctx, topology.StampKey, topology.Stamp{Cluster: st.ClusterID, Group: "a", Birth: topology.Birth{Epoch: 99}}.String(), 0)
	first := k.AdmitConn(ctx, endpoint("a"))
	for range 3 {
		if k.Refusal() == "" {
			t.Fatal("clients' commands go to a server that nobody has looked at")
		}
		if err := k.AdmitConn(ctx, endpoint("a")); err != nil {
			t.Errorf("reads are not served: %v", err)
		}
	}
	t.Logf("the first connection: %v", first) // the look each second may have been faster
}
