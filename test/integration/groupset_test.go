package integration

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"keyferry/internal/testredis"
)

// TestGroupSetAddress: when a group's server has died its replica, promoted, takes its place
// at its own address: with the keys, and for clients that are connected, subscribed or scan.
func TestGroupSetAddress(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	c := r.client()
	replica := testredis.StartT(t)
	old := r.Servers[0]
	if err := replica.Client().ReplicaOf(ctx, "127.0.0.1", strings.Split(old.Addr, ":")[1]).Err(); err != nil {
		t.Fatal(err)
	}
	key := keyInSlots(0, 8191) // of the first group
	if err := c.Set(ctx, key, "kept", 0).Err(); err != nil {
		t.Fatal(err)
	}
	r.await("the replica to have the key", func() bool { return replica.Client().Exists(ctx, key).Val() == 1 })
	sub := r.client().Subscribe(ctx, "news")
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	refused := func(why string, args ...any) {
		t.Helper()
		if _, err := r.proxyErr(append([]any{"GROUP", "SET"}, args...)...); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("GROUP SET %v: %v, want %q", args, err, why)
		}
	}
	refused("is a slave", "g1", "ADDR", replica.Addr)
	refused("is that of group g2", "g1", "ADDR", r.Servers[1].Addr)
	refused("no such group", "g9", "NOPASSWORD")
	refused("invalid address", "g1", "ADDR", "nowhere")
	refused("usage", "g1", "ADDR")
	refused("usage", "g1", "NOPASSWORD", "PASSWORD", "x")
	refused("was not changed", "g1", "ADDR", "127.0.0.1:1")

	old.Kill()
	if err := replica.Client().ReplicaOf(ctx, "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	r.proxy("GROUP", "SET", "g1", "ADDR", replica.Addr)
	if v := c.Get(ctx, key).Val(); v != "kept" {
		t.Errorf("the key is %q", v)
	}
	if err := c.Set(ctx, key, "new", 0).Err(); err != nil {
		t.Error(err)
	}
	if v := replica.Client().Get(ctx, key).Val(); v != "new" {
		t.Errorf("the key is %q at the new address", v)
	}
	if keys, _, err := c.Scan(ctx, 0, "", 1000).Result(); err != nil || len(keys) != 1 {
		t.Errorf("SCAN: %v, %v", keys, err)
	}
	r.await("a message to arrive", func() bool {
		c.Publish(ctx, "news", "m")
		select {
		case <-sub.Channel():
			return true
		default:
			return false
		}
	})
	r.kill()
	r.start("") // the new address is what is stored
	if v := c.Get(ctx, key).Val(); v != "new" {
		t.Errorf("the key is %q after a restart", v)
	}
}

// TestGroupSetPassword: a server gets another password while clients write: they don't
// notice, and what connects anew does so by the new one. A group that a job is about is left alone.
func TestGroupSetPassword(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	r := newRig(t, 2)
	bg := context.Background()
	server := r.Servers[0]
	direct := server.Client()
	key := keyInSlots(0, 8191)
	var done atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		own := r.client()
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := own.Incr(bg, key).Err(); err != nil {
					t.Errorf("a client: %v", err)
					return
				}
				done.Add(1)
			}
		})
	}
	more := func() {
		t.Helper()
		n := done.Load()
		r.await("the clients to go on", func() bool { return done.Load() > n+100 })
	}
	more()
	if err := direct.ConfigSet(bg, "requirepass", "secret").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.proxyErr("GROUP", "SET", "g1", "PASSWORD", "wrong"); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("a wrong password: %v", err)
	}
	r.proxy("GROUP", "SET", "g1", "PASSWORD", "secret")
	more()
	stop()
	wg.Wait()
	c := r.client()
	if n, _ := c.Get(bg, key).Int64(); n != done.Load() {
		t.Errorf("%d of %d increments", n, done.Load())
	}
	if err := direct.ClientKillByFilter(bg, "TYPE", "normal").Err(); err != nil {
		t.Fatal(err)
	}
	r.await("the gateway to connect by the new password", func() bool { return c.Get(bg, key).Err() == nil })

	r.proxy("MIGRATE", "0", "TO", "g2", "RATE", "1")
	if _, err := r.proxyErr("GROUP", "SET", "g1", "NOPASSWORD"); err == nil || !strings.Contains(err.Error(), "part of job m1") {
		t.Errorf("a group that a job is about: %v", err)
	}
	r.awaitDone()
	if err := direct.ConfigSet(bg, "requirepass", "").Err(); err != nil {
		t.Fatal(err)
	}
	r.proxy("GROUP", "SET", "g1", "NOPASSWORD")
	if err := c.Get(bg, key).Err(); err != nil {
		t.Error(err)
	}
}
