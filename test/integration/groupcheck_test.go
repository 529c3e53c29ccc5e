package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	"keyferry/internal/admin"
	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
)

// TestServerIsTriedFirst: what a group can't be is said when it is added, changed or given
// slots, unless the operator says UNCHECKED.
func TestServerIsTriedFirst(t *testing.T) {
	ctx := context.Background()
	a, b := testredis.StartT(t), testredis.StartT(t)
	locked, replica := testredis.StartT(t), testredis.StartT(t)
	if err := locked.Client().ConfigSet(ctx, "requirepass", "secret").Err(); err != nil {
		t.Fatal(err)
	}
	if err := replica.Client().Do(ctx, "REPLICAOF", "127.0.0.1", a.Port).Err(); err != nil {
		t.Fatal(err)
	}
	r := wrap(testrig.With(t, []*testredis.Server{a}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr().String()
	_ = ln.Close()
	groups := func() string { // what is stored of them; their state may be noticed in between
		t.Helper()
		var rows []admin.GroupRow
		if err := json.Unmarshal([]byte(r.proxy("GROUP", "LIST", "JSON").(string)), &rows); err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			rows[i].State, rows[i].Error, rows[i].DownMs = "", "", 0
		}
		return fmt.Sprint(rows)
	}
	refused := func(want string, args ...any) {
		t.Helper()
		before := fmt.Sprint(groups(), r.proxy("SLOT", "LIST"))
		if _, err := r.proxyErr(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
		if after := fmt.Sprint(groups(), r.proxy("SLOT", "LIST")); after != before {
			t.Errorf("%v was refused and has changed\n%s\nto\n%s", args, before, after)
		}
	}
	refused("does not answer", "GROUP", "ADD", "x", nobody)
	refused("does not take the user and password", "GROUP", "ADD", "x", locked.Addr)
	refused("does not take the user and password", "GROUP", "ADD", "x", locked.Addr, "PASSWORD", "wrong")
	refused("does not take the user and password", "GROUP", "ADD", "x", b.Addr, "PASSWORD", "it has none")
	refused("does not take the user and password", "GROUP", "SET", "g1", "PASSWORD", "it has none")
	refused("same server", "GROUP", "ADD", "x", newFault(t, a.Addr).addr())
	refused("same server", "GROUP", "ADD", "x", strings.Replace(a.Addr, "127.0.0.1", "localhost", 1))
	refused("must be its primary", "GROUP", "ADD", "x", replica.Addr)
	refused("is a gateway", "GROUP", "ADD", "x", r.Listen)
	refused("is no server that a group can have", "GROUP", "ADD", "x", r.Admin)
	refused("is a gateway", "GROUP", "SET", "g1", "ADDR", r.Listen)
	refused("does not answer", "GROUP", "ADD", "x", r.Web)

	r.proxy("GROUP", "ADD", "g2", locked.Addr, "PASSWORD", "secret")
	refused("same server", "GROUP", "SET", "g1", "ADDR", strings.Replace(locked.Addr, "127.0.0.1", "localhost", 1), "PASSWORD", "secret")
	r.proxy("SLOT", "UNASSIGN", "0-99")
	r.proxy("GROUP", "ADD", "later", nobody, "UNCHECKED")
	refused("does not answer", "SLOT", "ASSIGN", "0-99", "later")
	r.proxy("SLOT", "ASSIGN", "0-99", "later", "UNCHECKED")
	refused("owned by group later", "SLOT", "ASSIGN", "0-99", "g1")
	refused("owns 100 slots", "GROUP", "DEL", "later")
	r.proxy("SLOT", "UNASSIGN", "0-99")
	refused("owned by nobody", "SLOT", "UNASSIGN", "50")
	r.proxy("SLOT", "ASSIGN", "0-99", "g1")
	r.proxy("GROUP", "DEL", "later")
	r.proxy("GROUP", "ADD", "json", b.Addr)
	r.proxy("MIGRATE", "0-99", "TO", "json")
	r.awaitDone()
	r.proxy("MIGRATE", "0-99", "TO", "g1")
	r.awaitDone()
	r.proxy("GROUP", "SET", "json", "NOPASSWORD")
	r.proxy("GROUP", "DEL", "json")
}

// TestWrongAssignIsTakenBack: who has assigned slots to the wrong group gives them to the
// right one, and nothing is lost; a move that meets the keys does not advise to delete them
// first.
func TestWrongAssignIsTakenBack(t *testing.T) {
	ctx := context.Background()
	servers := []*testredis.Server{testredis.StartT(t), testredis.StartT(t)}
	live := servers[1].Client()
	for i := range 200 {
		if err := live.Set(ctx, fmt.Sprint("k", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	r := wrap(testrig.With(t, servers)) // which assigns all slots to g1
	c := r.client()
	if n := c.Exists(ctx, "k1").Val(); n != 0 {
		t.Fatal("g1 has the key")
	}
	text := fmt.Sprint(r.proxy("MIGRATE", "0-16383", "TO", "g2", "DRYRUN"))
	adopt, purge := strings.Index(text, "ADOPT"), strings.Index(text, "PURGE")
	if adopt < 0 || purge < adopt {
		t.Errorf("what is advised first deletes live keys: %s", text)
	}
	r.proxy("SLOT", "UNASSIGN", "0-16383")
	if err := c.Get(ctx, "k1").Err(); err == nil || !strings.Contains(err.Error(), "CLUSTERDOWN") {
		t.Errorf("a slot that nobody owns: %v", err)
	}
	r.proxy("SLOT", "ASSIGN", "0-16383", "g2")
	for i := range 200 {
		if v := c.Get(ctx, fmt.Sprint("k", i)).Val(); v != fmt.Sprint(i) {
			t.Fatalf("k%d is %q", i, v)
		}
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g1", "RATE", "1")
	if _, err := r.proxyErr("SLOT", "UNASSIGN", "7"); err == nil || !strings.Contains(err.Error(), "job m1") {
		t.Errorf("slots of a job: %v", err)
	}
}

// TestUnservedDatabases: keys in databases that the gateway does not serve are told of before
// anybody takes them for moved.
func TestUnservedDatabases(t *testing.T) {
	ctx := context.Background()
	source, target := testredis.StartT(t, "--databases", "64"), testredis.StartT(t)
	r := wrap(testrig.With(t, []*testredis.Server{source, target}))
	for db, n := range map[int]int{20: 3, 63: 1} {
		c := testredis.NewClient(source.Addr, "", db)
		defer c.Close()
		for i := range n {
			if err := c.Set(ctx, fmt.Sprint("far", i), "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.fill(100, 10)
	const want = "4 keys in databases that are not served (3 in database 20, 1 in database 63)"
	text := fmt.Sprint(r.proxy("MIGRATE", "0-16383", "TO", "g2", "DRYRUN"))
	if !strings.Contains(text, want) || !strings.Contains(text, "ok yes") {
		t.Errorf("the check of a move: %s", text)
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g2")
	r.awaitDone()
	if text := fmt.Sprint(r.proxy("MIGRATION", "STATUS", "m1", "JSON")); !strings.Contains(text, want) {
		t.Errorf("the job's findings: %s", text)
	}
	for _, verb := range [][]any{{"SLOT", "CHECK"}, {"MIGRATION", "VERIFY", "m1"}} {
		if text := fmt.Sprint(r.proxy(verb...)); !strings.Contains(text, "keys_unserved 4 unserved "+want) {
			t.Errorf("%v: %s", verb, text)
		}
	}
	if _, err := r.proxyErr("GROUP", "DEL", "g1"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("GROUP DEL: %v", err)
	}
	r.proxy("GROUP", "DEL", "g1", "UNCHECKED")
	if _, err := r.proxyErr("GROUP", "ADD", "g1", source.Addr); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("GROUP ADD: %v", err)
	}
	r.proxy("GROUP", "ADD", "g1", source.Addr, "UNCHECKED")
	source.Client().FlushAll(ctx)
	r.proxy("GROUP", "DEL", "g1")
	r.proxy("GROUP", "ADD", "g1", source.Addr)
}

// TestRemovalOfADeadServer: a group whose server does not answer can be removed, and it is said what
// nobody has looked at.
func TestRemovalOfADeadServer(t *testing.T) {
	r := newRig(t, 2)
	if err := r.servers[1].Stop(); err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(r.proxy("GROUP", "DEL", "g2")); !strings.Contains(text, "did not answer") || !strings.Contains(text, "databases that are not served") {
		t.Errorf("GROUP DEL: %s", text)
	}
	if list := fmt.Sprint(r.proxy("GROUP", "LIST")); strings.Contains(list, "g2") {
		t.Errorf("the groups are %s", list)
	}
}

// TestKnownServersAreNotAsked: SLOT ASSIGN and GROUP ADD compare a server with those of all groups, and
// connect to none of them that the gateway sees all the time.
func TestKnownServersAreNotAsked(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 3)
	spare := testredis.StartT(t)
	third := r.servers[2].Client()
	connections := func() (n int) {
		text := third.Info(ctx, "stats").Val()
		_, text, _ = strings.Cut(text, "total_connections_received:")
		_, _ = fmt.Sscan(text, &n)
		return n
	}
	seen := func() bool {
		var rows []admin.GroupRow
		_ = json.Unmarshal([]byte(r.proxy("GROUP", "LIST", "JSON").(string)), &rows)
		return len(rows) == 3 && rows[2].State == "up"
	}
	r.await("the third server to be seen", seen)
	for _, s := range r.servers[:2] { // a server that has just begun has to be older than what was seen
		r.await("the servers to be a few seconds old", func() bool {
			_, text, _ := strings.Cut(s.Client().Info(ctx, "server").Val(), "uptime_in_seconds:")
			return !strings.HasPrefix(text, "0") && !strings.HasPrefix(text, "1")
		})
	}
	r.await("the spare one, too", func() bool {
		_, text, _ := strings.Cut(spare.Client().Info(ctx, "server").Val(), "uptime_in_seconds:")
		return !strings.HasPrefix(text, "0") && !strings.HasPrefix(text, "1")
	})
	before := connections()
	for range 10 {
		r.proxy("SLOT", "UNASSIGN", "0-9")
		r.proxy("SLOT", "ASSIGN", "0-9", "g1")
	}
	r.proxy("GROUP", "ADD", "g4", spare.Addr)
	if n := connections() - before; n > 4 { // g4's feeds and pipes are no business of the third server's
		t.Errorf("the third server was connected to %d times", n)
	}
	if _, err := r.proxyErr("GROUP", "ADD", "again", strings.Replace(r.servers[2].Addr, "127.0.0.1", "localhost", 1)); err == nil || !strings.Contains(err.Error(), "same server as that of group g3") {
		t.Errorf("a server that is seen all the time: %v", err)
	}
}
