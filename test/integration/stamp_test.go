package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/router"
)

// stampAt is the stamp of a server.
func stampAt(t *testing.T, s *testredis.Server) (x topology.Stamp) {
	t.Helper()
	x, _ = topology.ReadStamp(s.Client().Get(context.Background(), topology.StampKey).Val())
	return x
}

func (r *rig) storeStatus() (s migrator.StoreStatus) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.proxy("STORE", "STATUS", "JSON").(string)), &s); err != nil {
		r.t.Fatal(err)
	}
	return s
}

// awaitStamps waits until every server has the stamp of the newest epoch.
func (r *rig) awaitStamps() {
	r.t.Helper()
	r.await("the newest stamps", func() bool {
		epoch := r.storeStatus().Changed
		return !slices.ContainsFunc(r.servers, func(s *testredis.Server) bool { return stampAt(r.t, s).Epoch != epoch })
	})
}

func (r *rig) ready() (int, string) {
	r.t.Helper()
	resp, err := http.Get("http://" + r.Web + "/readyz")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

// fillAndSave writes n keys, and copies the data directory.
func (r *rig) fillAndSave(n int) (copied string) {
	r.t.Helper()
	p := r.client().Pipeline()
	for i := range n {
		p.Set(context.Background(), fmt.Sprintf("k%d", i), i, 0)
	}
	if _, err := p.Exec(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	r.stopGently()
	copied = r.t.TempDir()
	copyTree(r.t, r.Data(), copied)
	r.start("")
	return copied
}

func (r *rig) stopGently() {
	r.t.Helper()
	if err := r.child.Terminate(stopWait); err != nil {
		r.t.Fatal(err)
	}
}

// putBack replaces the data directory by a copy.
func (r *rig) putBack(copied string) {
	r.t.Helper()
	if err := os.RemoveAll(r.Data()); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Mkdir(r.Data(), 0o700); err != nil {
		r.t.Fatal(err)
	}
	copyTree(r.t, copied, r.Data())
}

// readable counts the keys that clients see.
func (r *rig) readable(n int) (found int) {
	r.t.Helper()
	p := r.client().Pipeline()
	for i := range n {
		p.Get(context.Background(), fmt.Sprintf("k%d", i))
	}
	got, _ := p.Exec(context.Background())
	for i, c := range got {
		switch v, err := c.(*redis.StringCmd).Int(); {
		case err == nil && v == i:
			found++
		case err != redis.Nil:
			r.t.Fatalf("k%d: %d, %v", i, v, err)
		}
	}
	return found
}

const manyKeys = 1000

// TestStoreFromBeforeAMove: a data directory that is put back from before a move is known as one by what the
// servers show. No write goes by its slots, however often it is started; reads are served. Both ways out end
// well: the newest one put back, and the old one accepted, its hidden keys brought to where it has their slots.
func TestStoreFromBeforeAMove(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	before := r.fillAndSave(manyKeys)
	r.proxy("MIGRATE", "0-8191", "TO", "g2")
	r.awaitDone()
	r.stopGently()
	newest := t.TempDir()
	copyTree(t, r.Data(), newest)

	r.putBack(before)
	for range 6 { // each start is an epoch: its numbers pass those of the servers
		r.start("")
		c := r.client()
		for _, args := range [][]any{{"SET", "k1", "x"}, {"DEL", "k1"}, {"MSET", "a", 1, "b", 2}, {"EVAL", "return redis.call('set', KEYS[1], 1)", 1, "a"}, {"BLPOP", "q", 1}, {"FLUSHALL"}} {
			if err := c.Do(ctx, args...).Err(); err == nil || !strings.HasPrefix(err.Error(), "MISCONF keyferry refuses writes: the store (epoch ") || !strings.Contains(err.Error(), "PROXY STORE ACCEPT") {
				t.Fatalf("%v: %v", args, err)
			}
		}
		for _, args := range [][]any{{"GET", "k1"}, {"EVAL", "#!lua flags=no-writes\nreturn 1", 0}, {"EVAL_RO", "return 1", 0}, {"PUBLISH", "c", "m"}, {"PING"}} {
			if err := c.Do(ctx, args...).Err(); err != nil && err != redis.Nil {
				t.Errorf("%v: %v", args, err)
			}
		}
		r.stopGently()
	}
	r.start("")
	hidden := manyKeys - r.readable(manyKeys)
	if hidden < manyKeys/3 {
		t.Errorf("%d keys are hidden: this is not the case that the test is about", hidden)
	}
	r.await("the gateway to say that it is not ready", func() bool {
		code, text := r.ready()
		return code == http.StatusServiceUnavailable && strings.Contains(text, "writes are refused")
	})
	if s := r.storeStatus(); s.Writes != "refused" || !strings.Contains(s.Reason, "not the newest") || s.Groups[1].State != "newer" {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(r.log.String(), "no writes are served") || !strings.Contains(r.client().Info(ctx, "gateway").Val(), "writes_refused:1") {
		t.Error("neither the log nor INFO says so")
	}
	for _, args := range [][]any{{"MIGRATE", "0-100", "TO", "g2"}, {"SLOT", "CHECK", "FIX", "ADOPT"}, {"GROUP", "SET", "g1", "ADDR", r.servers[0].Addr}} {
		if _, err := r.ProxyErr(args...); err == nil || !strings.Contains(err.Error(), "not the newest") {
			t.Errorf("%v: %v", args, err)
		}
	}

	r.stopGently()
	r.putBack(newest)
	r.start("")
	if n := r.readable(manyKeys); n != manyKeys {
		t.Errorf("%d keys are readable with the newest store", n)
	}
	r.await("the gateway to be ready", func() bool { code, _ := r.ready(); return code == http.StatusOK })
	if err := r.client().Set(ctx, "k0", 0, 0).Err(); err != nil {
		t.Error(err)
	}
	r.awaitStamps()

	r.stopGently()
	r.putBack(before)
	r.start("")
	if text := fmt.Sprint(r.proxy("STORE", "ACCEPT")); !strings.HasPrefix(text, "OK, the store goes on with epoch ") {
		t.Errorf("STORE ACCEPT: %s", text)
	}
	if err := r.client().Set(ctx, "new", "v", 0).Err(); err != nil {
		t.Error(err)
	}
	if _, err := r.ProxyErr("STORE", "ACCEPT"); err == nil || !strings.Contains(err.Error(), "writes are served") {
		t.Errorf("STORE ACCEPT again: %v", err)
	}
	if n := r.readable(manyKeys); n != manyKeys-hidden {
		t.Errorf("%d keys are readable", n)
	}
	r.proxy("SLOT", "CHECK", "FIX", "ADOPT")
	if n := r.readable(manyKeys); n != manyKeys {
		t.Errorf("%d keys are readable after SLOT CHECK FIX ADOPT", n)
	}
	r.stopGently()
	r.start("")
	if err := r.client().Set(ctx, "k0", 0, 0).Err(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

// TestTwoClustersOneServer: a server that has another cluster's stamp is not taken, also when no gateway of that
// one is connected; and when it was taken by force, the other one notices, and refuses writes.
func TestTwoClustersOneServer(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 1)
	first := stampAt(t, r.servers[0])
	if first.Cluster == "" || first.Group != "g1" || first.Gateway != "test" {
		t.Fatalf("the stamp is %+v", first)
	}
	r.kill()
	other := wrap(testrig.Bare(t, "--name", "other"))
	other.start("")
	for _, args := range [][]any{{"GROUP", "ADD", "x", r.servers[0].Addr}, {"GROUP", "ADD", "x", r.servers[0].Addr, "UNCHECKED"}, {"SLOT", "ASSIGN", "0-16383", "x"}} {
		_, err := other.ProxyErr(args...)
		if unchecked := args[len(args)-1] == "UNCHECKED"; unchecked != (err == nil) {
			t.Errorf("%v: %v", args, err)
		} else if err != nil && (!strings.Contains(err.Error(), "belongs to another cluster, "+first.Cluster) || !strings.Contains(err.Error(), "TAKEOVER")) {
			t.Errorf("%v: %v", args, err)
		}
	}
	other.await("the stamp to be seen", func() bool { return other.storeStatus().Groups[0].State == "of another cluster" })
	if s := other.storeStatus(); s.Writes != "served" || stampAt(t, r.servers[0]) != first {
		t.Errorf("a group without slots: %+v; the stamp is %+v", s, stampAt(t, r.servers[0]))
	}
	other.proxy("SLOT", "ASSIGN", "0-16383", "x", "UNCHECKED") // by somebody who thinks to know better
	other.await("writes to be refused", func() bool {
		err := other.client().Set(ctx, "k", "v", 0).Err()
		return err != nil && strings.HasPrefix(err.Error(), "MISCONF keyferry refuses writes: the server of group x belongs to another cluster, "+first.Cluster)
	})
	other.proxy("GROUP", "SET", "x", "TAKEOVER")
	if s := stampAt(t, r.servers[0]); s.Group != "x" || s.Gateway != "other" || s.Cluster == first.Cluster {
		t.Errorf("the stamp is %+v", s)
	}
	if err := other.client().Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Error(err)
	}

	r.start("") // the first cluster, whose server has gone over
	if err := r.client().Set(ctx, "k", "v", 0).Err(); err == nil || !strings.Contains(err.Error(), "belongs to another cluster") {
		t.Errorf("SET through the first cluster: %v", err)
	}
	r.kill()
	other.proxy("SLOT", "UNASSIGN", "0-16383")
	other.proxy("GROUP", "DEL", "x")
	if n := r.servers[0].Client().Exists(ctx, topology.StampKey).Val(); n != 0 {
		t.Error("GROUP DEL leaves the stamp")
	}
	r.start("")
	if err := r.client().Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Errorf("SET when the server is nobody's any more: %v", err)
	}
	r.awaitStamps()
}

// TestServerOfAnotherGroup: a group is not given a server that has the keys of another one.
func TestServerOfAnotherGroup(t *testing.T) {
	r := newRig(t, 2)
	r.awaitStamps()
	copied := testredis.StartT(t)
	copied.Client().Set(context.Background(), topology.StampKey, r.servers[1].Client().Get(context.Background(), topology.StampKey).Val(), 0)
	if _, err := r.ProxyErr("GROUP", "SET", "g1", "ADDR", copied.Addr); err == nil || !strings.Contains(err.Error(), "it has the keys of group g2") {
		t.Errorf("GROUP SET: %v", err)
	}
	first := stampAt(t, r.servers[0])
	stamp := func(s *testredis.Server, x topology.Stamp) {
		s.Client().Set(context.Background(), topology.StampKey, x.String(), 0)
	}
	second := stampAt(t, r.servers[1])
	r.kill()
	stamp(r.servers[0], second) // as if both addresses had been exchanged
	r.start("")
	if err := r.client().Set(context.Background(), "k", "v", 0).Err(); err == nil || !strings.Contains(err.Error(), "has the keys of group g2") {
		t.Errorf("SET: %v", err)
	}
	stamp(r.servers[0], first)
	r.kill()
	r.start("")
	if err := r.client().Set(context.Background(), "k", "v", 0).Err(); err != nil {
		t.Errorf("SET: %v", err)
	}
	r.proxy("GROUP", "SET", "g1", "ADDR", copied.Addr, "TAKEOVER")
	if s := stampAt(t, copied); s.Group != "g1" {
		t.Errorf("the stamp is %+v", s)
	}
}

// TestStampIsNobodysKey: clients see of the stamp what they see of a server that has none: nothing. Not in its
// slot's move either.
func TestStampIsNobodysKey(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	plain := testredis.StartT(t).Client()
	c := r.client()
	slot := router.Redis.Slot([]byte(topology.StampKey))
	same := func(when string, args ...any) {
		t.Helper()
		want, e1 := plain.Do(ctx, args...).Result()
		got, e2 := c.Do(ctx, args...).Result()
		if fmt.Sprint(want, e1) != fmt.Sprint(got, e2) {
			t.Errorf("%s: %v: %v %v, a plain server %v %v", when, args, got, e2, want, e1)
		}
	}
	look := func(when string) {
		t.Helper()
		r.awaitStamps()
		for range 20 {
			same(when, "RANDOMKEY")
		}
		for _, args := range [][]any{{"DBSIZE"}, {"KEYS", "*"}} {
			same(when, args...)
		}
		var scanned []string
		for i := c.Scan(ctx, 0, "*", 10).Iterator(); i.Next(ctx); {
			scanned = append(scanned, i.Val())
		}
		if all := plain.Keys(ctx, "*").Val(); fmt.Sprint(scanned) != fmt.Sprint(all) {
			t.Errorf("%s: SCAN %q, a plain server %q", when, scanned, all)
		}
		keyspace := func(c *redis.Client) string {
			_, rows, _ := strings.Cut(c.Info(ctx, "keyspace").Val(), "# Keyspace")
			return rows
		}
		if want, got := keyspace(plain), keyspace(c); want != got {
			t.Errorf("%s: INFO keyspace %q, a plain server %q", when, got, want)
		}
	}
	look("empty")
	same("one key", "SET", "k", "v")
	look("one key")
	r.proxy("MIGRATE", "0-16383", "TO", "g2")
	r.awaitDone()
	look("moved")
	r.proxy("MIGRATE", fmt.Sprint(slot), "TO", "g1")
	r.awaitDone()
	look("its slot has moved")
	var orphans []migrator.Orphans
	if err := json.Unmarshal([]byte(r.proxy("SLOT", "CHECK", "JSON").(string)), &orphans); err != nil {
		t.Fatal(err)
	}
	for _, o := range orphans {
		if o.Twins+o.Alone != 0 || o.Scanned > 1 {
			t.Errorf("SLOT CHECK: %+v", o)
		}
	}
	var plans []migrator.Report
	if err := json.Unmarshal([]byte(r.proxy("MIGRATE", "0-100", "TO", "g1", "DRYRUN", "JSON").(string)), &plans); err != nil || plans[0].Keys > 1 {
		t.Errorf("DRYRUN: %+v, %v", plans, err)
	}
	same("swapped", "SWAPDB", 0, 3)
	look("swapped")
	same("swapped", "SELECT", 3)
	c3 := redis.NewClient(&redis.Options{Addr: r.listen, DB: 3, Protocol: 2})
	defer c3.Close()
	if n, keys := c3.DBSize(ctx).Val(), c3.Keys(ctx, "*").Val(); n != 1 || !slices.Equal(keys, []string{"k"}) {
		t.Errorf("database 3 has %d keys, %q", n, keys)
	}
	same("flushed", "FLUSHALL")
	look("flushed")
	for _, s := range r.servers {
		s.Client().FlushAll(ctx) // past the gateway
	}
	same("flushed past the gateway", "DBSIZE")
	same("flushed past the gateway", "KEYS", "*")
}

// TestStampComesBeforeTheFirstKey: of a gateway that dies when its job is stored and the servers are not stamped
// yet, no key has moved, and a store from before that is as good; one that dies as it gives up its first keys
// has stamped both servers.
func TestStampComesBeforeTheFirstKey(t *testing.T) {
	r := newRig(t, 2)
	before := r.fillAndSave(manyKeys)
	r.awaitStamps()
	r.stopGently()
	for _, point := range []string{"stamp.before", "move.unlink.before"} {
		refused := point != "stamp.before"
		r.start(point + "=kill")
		r.proxy("MIGRATE", "0-8191", "TO", "g2")
		r.awaitDeath()
		r.putBack(before)
		r.start("")
		err := r.client().Set(context.Background(), "k", "v", 0).Err()
		if is := err != nil && strings.HasPrefix(err.Error(), "MISCONF"); is != refused || !refused && err != nil {
			t.Errorf("died at %s: %v; the stamp is %+v", point, err, stampAt(t, r.servers[0]))
		}
		if n := r.readable(manyKeys); n != manyKeys && !refused {
			t.Errorf("died at %s: %d keys are readable", point, n)
		}
		r.stopGently()
	}
}
