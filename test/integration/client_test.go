package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/router"
)

// TestOneLockedKeyHoldsUpNobodyElse holds one key's lock: commands on it wait, and none on
// any other key of the same slot does.
func TestOneLockedKeyHoldsUpNobodyElse(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2, "--set", "locks.wait-deadline=10m", "--set", "migration.call-timeout=10m")
	c := r.client()
	if err := c.Set(ctx, "{tag}victim", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	r.kill()
	held := newGate(t)
	r.start(held.at("move.restore.before"))
	slot := strconv.Itoa(router.Redis.Slot([]byte("tag")))
	r.proxy("MIGRATE", slot, "TO", "g2")
	const waiters = 3
	r.await("the mover to hold the lock", func() bool { return strings.Contains(r.log.String(), "failpoint move.restore.before") })
	var wg sync.WaitGroup
	for range waiters {
		own := r.client()
		wg.Go(func() {
			if err := own.Incr(ctx, "{tag}victim").Err(); err != nil {
				t.Errorf("a command that waited for the key: %v", err)
			}
		})
	}
	r.await("the commands to wait", func() bool { return r.gatewayInfo("commands_parked") == waiters })
	parkedBefore := r.gatewayInfo("commands_parked_ever")
	for i := range 2000 {
		if err := c.Incr(ctx, fmt.Sprintf("{tag}other%d", i%50)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.gatewayInfo("commands_parked_ever"); n > parkedBefore {
		t.Errorf("%d commands on other keys have waited", n-parkedBefore)
	}
	if n := r.gatewayInfo("commands_parked"); n != waiters {
		t.Errorf("%d commands wait, want %d", n, waiters)
	}
	held.open()
	wg.Wait()
	r.awaitDone()
	if n, err := c.Get(ctx, "{tag}victim").Int(); err != nil || n != 1+waiters {
		t.Errorf("victim = %d, %v; want %d", n, err, 1+waiters)
	}
}

// TestPipelineOf10000 sends long pipelines on one connection while its keys move: each
// reply comes in its place and is right.
func TestPipelineOf10000(t *testing.T) {
	r := newRig(t, 2, "--set", "migration.batch-max-keys=8")
	nc, err := net.Dial("tcp", r.listen)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	in := bufio.NewReader(nc)
	counts := map[string]int64{}
	var keys []string
	for i := range 2000 {
		keys = append(keys, fmt.Sprintf("p%d", i))
	}
	round := func() {
		const n = 10000
		var out bytes.Buffer
		var want []string
		for i := range n {
			k := keys[rand.IntN(len(keys))]
			switch i % 4 {
			case 0, 1:
				counts[k]++
				fmt.Fprintf(&out, "*2\r\n$4\r\nINCR\r\n$%d\r\n%s\r\n", len(k), k)
				want = append(want, fmt.Sprintf(":%d\r\n", counts[k]))
			case 2:
				fmt.Fprintf(&out, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(k), k)
				if v := strconv.FormatInt(counts[k], 10); counts[k] > 0 {
					want = append(want, fmt.Sprintf("$%d\r\n%s\r\n", len(v), v))
				} else {
					want = append(want, "$-1\r\n")
				}
			case 3: // over two keys, often in two slots
				k2 := keys[rand.IntN(len(keys))]
				fmt.Fprintf(&out, "*3\r\n$6\r\nEXISTS\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(k), k, len(k2), k2)
				sum := 0
				for _, x := range []string{k, k2} {
					if counts[x] > 0 {
						sum++
					}
				}
				want = append(want, fmt.Sprintf(":%d\r\n", sum))
			}
		}
		go func() { _, _ = nc.Write(out.Bytes()) }()
		_ = nc.SetReadDeadline(time.Now().Add(5 * time.Minute))
		for i, w := range want {
			got := make([]byte, len(w))
			if _, err := io.ReadFull(in, got); err != nil {
				t.Fatalf("reply %d: %v", i, err)
			}
			if string(got) != w {
				t.Fatalf("reply %d: got %q, want %q", i, got, w)
			}
		}
	}
	round()
	moves := 0
	for _, to := range []string{"g2", "g1"} {
		// At first so slowly that the job does not end before a pipeline has come.
		id := r.proxy("MIGRATE", "0-16383", "TO", to, "RATE", "50").(string)
		r.awaitMoved(0)
		round()
		if p := r.job().Phase; p == topology.Done {
			t.Error("the move was over before the pipeline")
		}
		r.proxy("MIGRATION", "LIMIT", id, "RATE", "1500")
		for moves++; r.job().Phase != topology.Done; moves++ {
			round()
		}
	}
	t.Logf("%d pipelines of 10000 commands while keys moved", moves)
	r.placesRight()
}

// TestOpaqueBytes moves keys and values of every kind of bytes, and keys with every kind
// of expiry.
func TestOpaqueBytes(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2, "--set", "migration.call-timeout=1m")
	c := r.client()
	big := bytes.Repeat([]byte("0123456789abcdef"), 100<<20/16)
	mb := bytes.Repeat([]byte{0, 1, '\r', '\n'}, 1<<18)
	values := map[string][]byte{
		"": []byte("empty key"), "\x00": []byte("\x00"), "a\r\nb": []byte("\r\n"), "{}": []byte("{}"), "{}{x}": {}, "MiXeD": []byte("mixed"), "mixed": []byte("MIXED"),
		"\xff\xfe": {0xff}, "{a}\x00": []byte("$-1\r\n"), "1mb": mb, "100mb": big, "*1\r\n$4\r\nPING\r\n": []byte("*1\r\n$4\r\nPING\r\n"),
	}
	for k, v := range values {
		if err := c.Set(ctx, k, v, 0).Err(); err != nil {
			t.Fatalf("SET %q: %v", k, err)
		}
	}
	c.Set(ctx, "expires", "x", 50*time.Minute)
	c.Set(ctx, "expiring", "x", 1500*time.Millisecond)
	c.Set(ctx, "expired", "x", time.Millisecond)
	c.HSet(ctx, "hash", "f", "v")
	c.Expire(ctx, "hash", 40*time.Minute)
	before := c.PExpireTime(ctx, "expires").Val()
	moving := time.Now()
	r.proxy("MIGRATE", "0-16383", "TO", "g2")
	r.awaitDone()
	moved := time.Since(moving)
	for k, v := range values {
		got, err := c.Get(ctx, k).Bytes()
		if err != nil || !bytes.Equal(got, v) {
			t.Errorf("GET %q after the move: %d bytes, %v; want %d bytes", k, len(got), err, len(v))
		}
		if ttl := c.PTTL(ctx, k).Val(); ttl != -1 {
			t.Errorf("%q has a TTL of %v", k, ttl)
		}
	}
	// What is left is told in milliseconds, and its way from server to server, which nobody
	// knows, is a part of the move: a key lives longer by that at most.
	if after := c.PExpireTime(ctx, "expires").Val(); after < before-10*time.Millisecond || after > before+moved {
		t.Errorf("expiry moved from %v to %v in a move of %v", before, after, moved)
	}
	if ttl := c.TTL(ctx, "hash").Val(); ttl < 39*time.Minute || ttl > 40*time.Minute {
		t.Errorf("hash: TTL %v", ttl)
	}
	if n := c.Exists(ctx, "expired").Val(); n != 0 {
		t.Error("an expired key is there again")
	}
	r.await("the expiring key to expire", func() bool { return c.Exists(ctx, "expiring").Val() == 0 })
	if j := r.job(); j.BigKeys != 1 || len(j.BigKeyList) != 1 || j.BigKeyList[0].Key != "100mb" {
		// 1 MB of four repeated bytes is compressed well below the threshold in its DUMP.
		t.Errorf("big keys met: %d %v; want 100mb named", j.BigKeys, j.BigKeyList)
	}
	r.placesRight()
}

// TestIdleTimeAndFrequencySurvive checks the LRU and LFU data of moved keys.
func TestIdleTimeAndFrequencySurvive(t *testing.T) {
	ctx := context.Background()
	for _, policy := range []string{"allkeys-lru", "allkeys-lfu"} {
		t.Run(policy, func(t *testing.T) {
			r := newRig(t, 2)
			for _, s := range r.servers {
				c := s.Client()
				if err := c.ConfigSet(ctx, "maxmemory-policy", policy).Err(); err != nil {
					t.Fatal(err)
				}
			}
			src, dst := r.servers[0].Client(), r.servers[1].Client()
			c := r.client()
			if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			var before int64
			if policy == "allkeys-lfu" {
				for range 5000 {
					src.Get(ctx, "k")
				}
				before = src.ObjectFreq(ctx, "k").Val()
			} else {
				dump := src.Dump(ctx, "k").Val()
				if err := src.Do(ctx, "RESTORE", "k", 0, dump, "REPLACE", "IDLETIME", 1000).Err(); err != nil {
					t.Fatal(err)
				}
				before = int64(src.ObjectIdleTime(ctx, "k").Val().Seconds())
			}
			r.proxy("MIGRATE", "0-16383", "TO", "g2")
			r.awaitDone()
			after := dst.ObjectFreq(ctx, "k").Val()
			if policy == "allkeys-lru" {
				after = int64(dst.ObjectIdleTime(ctx, "k").Val().Seconds())
			}
			if before < 10 || after < before-2 || after > before+60 {
				t.Errorf("%d before the move, %d after", before, after)
			}
		})
	}
}

// TestPipeOfVeryMany is redis-cli --pipe with very many commands.
func TestPipeOfVeryMany(t *testing.T) {
	// Servers without a file: syncing every write is not what is tested here.
	r := wrap(testrig.With(t, []*testredis.Server{testredis.StartT(t)}))
	path := filepath.Join(t.TempDir(), "pipe")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	n := rounds(300_000, 2_000_000)
	for i := range n {
		k := strconv.Itoa(i % 100000)
		fmt.Fprintf(w, "*2\r\n$4\r\nINCR\r\n$%d\r\n%s\r\n", len(k), k)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	_, port, _ := strings.Cut(r.listen, ":")
	cmd := exec.Command("redis-cli", "-p", port, "--pipe", "--pipe-timeout", "300")
	cmd.Stdin = in
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, fmt.Appendf(nil, "errors: 0, replies: %d", n)) {
		t.Fatalf("redis-cli --pipe: %v\n%s", err, out)
	}
}

// TestClientThatNeverReads is closed with a reason, and the gateway's memory stays bounded.
func TestClientThatNeverReads(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 1, "--set", "clients.query-buffer-limit=4mb", "--set", "clients.output-buffer-hard=32mb", "--set", "clients.output-buffer-soft=16mb", "--set", "clients.output-buffer-soft-for=2s")
	c := r.client()
	if err := c.Set(ctx, "kb", bytes.Repeat([]byte("x"), 64<<10), 0).Err(); err != nil {
		t.Fatal(err)
	}
	dialer := net.Dialer{Control: faultproxy.SmallBuffers}
	nc, err := dialer.Dial("tcp", r.listen)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	req := bytes.Repeat([]byte("*2\r\n$3\r\nGET\r\n$2\r\nkb\r\n"), 1000)
	for { // 8192 of them are in flight at once: what the server holds for them is its own affair
		_ = nc.SetWriteDeadline(time.Now().Add(time.Minute))
		if _, err := nc.Write(req); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Fatal("the client was not closed")
			}
			break
		}
	}
	r.await("the client to be closed", func() bool { return r.gatewayInfo("clients_closed_for_limits") == 1 })
	if !strings.Contains(r.log.String(), "client-output-buffer-limit") && !strings.Contains(r.log.String(), "client-query-buffer-limit") {
		t.Errorf("no reason in the log:\n%s", r.log)
	}
	if err := c.Ping(ctx).Err(); err != nil {
		t.Errorf("another client: %v", err)
	}
}

// TestMultiKeyCommandsWhileMoving runs commands over several keys of one slot while some
// have moved and others not.
func TestMultiKeyCommandsWhileMoving(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2, "--set", "migration.batch-max-keys=2")
	c := r.client()
	const tags = 200
	for i := range tags {
		p := fmt.Sprintf("{t%d}", i)
		if err := c.MSet(ctx, p+"a", "1", p+"b", "2", p+"c", "3").Err(); err != nil {
			t.Fatal(err)
		}
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "300")
	for i := 0; ; i = (i + 1) % tags {
		p := fmt.Sprintf("{t%d}", i)
		if got := c.MGet(ctx, p+"a", p+"b", p+"c", p+"none").Val(); fmt.Sprint(got) != "[1 2 3 <nil>]" {
			t.Fatalf("MGET: %v", got)
		}
		if err := c.Rename(ctx, p+"a", p+"z").Err(); err != nil {
			t.Fatalf("RENAME: %v", err)
		}
		if err := c.Rename(ctx, p+"z", p+"a").Err(); err != nil {
			t.Fatalf("RENAME back: %v", err)
		}
		if n, err := c.Exists(ctx, p+"a", p+"b", p+"z", "{other}x").Result(); err != nil || n != 2 {
			t.Fatalf("EXISTS: %d %v", n, err)
		}
		if r.job().Phase == topology.Done {
			break
		}
	}
	if err := c.SInter(ctx, "a", "b").Err(); err == nil || !strings.HasPrefix(err.Error(), "CROSSSLOT") {
		t.Errorf("SINTER over two slots: %v", err)
	}
	r.placesRight()
}

// TestOperatorsChangeTheirMind pauses, resumes and cancels.
func TestOperatorsChangeTheirMind(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2, "--set", "migration.batch-max-keys=4")
	c := r.client()
	pipe := c.Pipeline()
	for i := range 3000 {
		pipe.Set(ctx, fmt.Sprintf("k%d", i), i, 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "500")
	r.awaitMoved(100)
	r.proxy("MIGRATION", "PAUSE", "m1")
	if j := r.job(); j.Phase != "paused" {
		t.Errorf("after PAUSE: %s", j.Phase)
	}
	moved := r.job().KeysMoved
	for i := range 3000 {
		if v, err := c.Get(ctx, fmt.Sprintf("k%d", i)).Int(); err != nil || v != i {
			t.Fatalf("while paused: k%d = %d, %v", i, v, err)
		}
	}
	if n := r.job().KeysMoved; n != moved {
		t.Errorf("%d keys moved while paused", n-moved)
	}
	r.proxy("MIGRATION", "PAUSE", "m1") // again is no error
	r.proxy("MIGRATION", "RESUME", "m1")
	r.awaitMoved(moved + 100)
	if v := r.proxy("MIGRATION", "CANCEL", "m1"); !strings.HasPrefix(v.(string), "OK paused") {
		t.Errorf("CANCEL after keys have moved: %v", v)
	}
	if _, err := r.proxyErr("MIGRATE", "0-5", "TO", "g2"); err == nil {
		t.Error("slots of an open job could be moved by another")
	}
	if _, err := r.proxyErr("GROUP", "DEL", "g2"); err == nil {
		t.Error("a group of an open job could be removed")
	}
	r.proxy("MIGRATION", "RESUME", "m1")
	r.proxy("MIGRATION", "STATUS", "m1")
	r.awaitDone()
	r.placesRight()
	if _, err := r.proxyErr("MIGRATION", "RESUME", "m1"); err == nil {
		t.Error("a job that is done could be resumed")
	}
	// A job that has not moved anything ends for good, also when the other end is silent.
	if err := r.servers[0].Pause(); err != nil {
		t.Fatal(err)
	}
	r.proxy("MIGRATE", "0-100", "TO", "g1")
	r.await("the job to begin", func() bool { return r.job().Phase == "preflight" })
	if v := r.proxy("MIGRATION", "CANCEL", "m2"); !strings.HasPrefix(v.(string), "OK cancelled") {
		t.Errorf("CANCEL before anything has moved: %v", v)
	}
	if err := r.servers[0].Continue(); err != nil {
		t.Fatal(err)
	}
	if rows := r.proxy("SLOT", "LIST", "JSON").(string); strings.Contains(rows, "moving") {
		t.Errorf("slots still move: %s", rows)
	}
	r.placesRight()
}

// TestPreflightRefuses what can't work, and changes nothing.
func TestPreflightRefuses(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	c := r.client()
	c.Set(ctx, "k", "source", 0)
	dst := r.servers[1].Client()
	dst.Set(ctx, "k", "foreign", 0)
	r.proxy("MIGRATE", "0-16383", "TO", "g2")
	r.await("the job to fail", func() bool { return r.job().Phase == topology.Failed })
	if j := r.job(); !strings.Contains(j.Reason, `holds 1 keys of these slots already (one is key "k"`) || j.Published {
		t.Errorf("reason %q, published %v", j.Reason, j.Published)
	}
	if v := c.Get(ctx, "k").Val(); v != "source" {
		t.Errorf("k = %q", v)
	}
	dst.Del(ctx, "k")
	r.proxy("MIGRATION", "RESUME", "m1")
	r.awaitDone()
	if v := c.Get(ctx, "k").Val(); v != "source" {
		t.Errorf("k = %q after the move", v)
	}
}

// TestFullTarget: the job pauses with its reason, clients go on at the source without an
// error, and it resumes by itself when there is room.
func TestFullTarget(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2, "--set", "migration.batch-max-keys=16")
	c := r.client()
	value := strings.Repeat("v", 2000)
	for i := range 2000 {
		if err := c.Set(ctx, fmt.Sprintf("k%d", i), value, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	dst := r.servers[1].Client()
	dst.ConfigSet(ctx, "maxmemory", "3mb")
	r.proxy("MIGRATE", "0-16383", "TO", "g2")
	var j migrator.Status
	r.await("the job to pause", func() bool { j = r.job(); return j.Phase == topology.Paused })
	if j.Reason != "target-oom" || j.FirstError == nil || j.FirstError.Code != "OOM" || j.FirstError.Origin != "target" {
		t.Errorf("paused for %q, first error %+v", j.Reason, j.FirstError)
	}
	unmoved := 0
	for i := range 2000 {
		k := fmt.Sprintf("k%d", i)
		if dst.Exists(ctx, k).Val() == 1 {
			continue
		}
		unmoved++
		if err := c.Append(ctx, k, "+").Err(); err != nil {
			t.Fatalf("a key that has not moved: %v", err)
		}
	}
	if unmoved == 0 {
		t.Fatal("everything fitted: nothing was tested")
	}
	dst.ConfigSet(ctx, "maxmemory", "0")
	r.awaitDone()
	r.placesRight()
}

// TestPassword: clients must AUTH, servers are given their passwords.
func TestPassword(t *testing.T) {
	ctx := context.Background()
	r := wrap(testrig.Bare(t, "--set", "password=front", "--set", "admin-password=boss"))
	s, err := testredis.Start(testredis.Options{Password: "back"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	r.start("")
	admin := testredis.NewClient(r.admin, "", 0)
	defer admin.Close()
	if err := admin.Do(ctx, "PROXY", "GROUP", "LIST").Err(); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
		t.Errorf("admin without a password: %v", err)
	}
	boss := testredis.NewClient(r.admin, "boss", 0)
	defer boss.Close()
	for _, cmd := range [][]any{{"PROXY", "GROUP", "ADD", "g1", s.Addr, "PASSWORD", "back"}, {"PROXY", "SLOT", "ASSIGN", "0-16383", "g1"}} {
		if err := boss.Do(ctx, cmd...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	none := testredis.NewClient(r.listen, "", 0)
	defer none.Close()
	if err := none.Get(ctx, "k").Err(); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
		t.Errorf("client without a password: %v", err)
	}
	wrong := testredis.NewClient(r.listen, "wrong", 0)
	defer wrong.Close()
	if err := wrong.Get(ctx, "k").Err(); err == nil || !strings.HasPrefix(err.Error(), "WRONGPASS") {
		t.Errorf("client with a wrong password: %v", err)
	}
	right := testredis.NewClient(r.listen, "front", 0)
	defer right.Close()
	if err := right.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Errorf("client with the password: %v", err)
	}
}
