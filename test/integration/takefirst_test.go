package integration

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"keyferry/internal/testredis"
)

// TestTakeFirst: commands that take from the first of several keys that has anything say
// the same through the gateway, where the keys are in several slots of two groups, as one
// server does, in both protocol versions.
func TestTakeFirst(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	direct := testredis.StartT(t)
	for _, proto := range []int{2, 3} {
		through := redis.NewClient(&redis.Options{Addr: r.Listen, Protocol: proto, DisableIdentity: true, MaxRetries: -1, ReadTimeout: time.Minute})
		plain := redis.NewClient(&redis.Options{Addr: direct.Addr, Protocol: proto, DisableIdentity: true, MaxRetries: -1, ReadTimeout: time.Minute})
		for _, words := range [][]any{
			{"BLPOP", "a", "b", "c", "0.01"},
			{"RPUSH", "c", "c1", "c2", "c3"}, {"RPUSH", "b", "b1"},
			{"BLPOP", "a", "b", "c", "0"}, {"BLPOP", "a", "b", "c", "0"}, {"BRPOP", "b", "a", "c", "1"}, {"EXISTS", "b"},
			{"LMPOP", "3", "a", "b", "c", "LEFT", "COUNT", "10"}, {"LMPOP", "3", "a", "b", "c", "LEFT"}, {"BLMPOP", "0.01", "3", "a", "b", "c", "RIGHT"},
			{"RPUSH", "{x}2", "x1"}, {"RPUSH", "c", "c4"}, {"BLMPOP", "0", "4", "a", "{x}1", "{x}2", "c", "RIGHT", "COUNT", "2"}, {"LMPOP", "2", "a", "c", "RIGHT"},
			{"ZADD", "z2", "1.5", "one", "2", "two", "inf", "three"},
			{"BZPOPMIN", "z1", "z2", "0"}, {"BZPOPMAX", "z1", "z2", "z3", "0"}, {"BZMPOP", "0", "2", "z1", "z2", "MIN"}, {"ZMPOP", "2", "z1", "z2", "MIN"}, {"BZPOPMIN", "z1", "z2", "0.01"},
			{"SET", "s", "text"}, {"RPUSH", "a", "a1"}, {"BLPOP", "s", "a", "0"}, {"BLPOP", "a", "s", "0"}, {"BLPOP", "a", "s", "0"}, {"BZMPOP", "0", "2", "s", "z1", "MAX"}, {"DEL", "s"},
			{"BLPOP", "a", "b", "x"}, {"BLPOP", "a", "b", "-1"}, {"BLPOP", "a", "b", "nan"}, {"BLPOP", "a", "b"}, {"BLPOP", "a", "b", ""},
			{"BLMPOP", "x", "2", "a", "b", "LEFT"}, {"BLMPOP", "0", "2", "a", "b", "UP"}, {"LMPOP", "2", "a", "b", "LEFT", "COUNT", "0"}, {"LMPOP", "2", "a", "b", "LEFT", "COUNT"}, {"LMPOP", "3", "a", "b", "LEFT"}, {"BZMPOP", "0", "3", "a", "b", "MIN"},
			{"ZMPOP", "0", "a", "b", "MIN"}, {"BZMPOP", "0", "-1", "a", "b", "MIN"},
			{"RPUSH", "", "e"}, {"BLPOP", "a", "", "b", "0"}, {"RPUSH", "a", "1", "2"}, {"BLPOP", "a", "b", "a", "0"}, {"DEL", "a"},
		} {
			got, err := through.Do(ctx, words...).Result()
			want, wantErr := plain.Do(ctx, words...).Result()
			if fmt.Sprint(err) != fmt.Sprint(wantErr) || !cmp.Equal(got, want) {
				t.Errorf("RESP%d %q: %v, %v; a server says %v, %v", proto, words, got, err, want, wantErr)
			}
		}
		_, _ = through.Close(), plain.Close()
	}
}

func blockedClients(t *testing.T, c *redis.Client) (n int) {
	t.Helper()
	info, err := c.InfoMap(context.Background(), "clients").Result()
	if err == nil {
		n, err = strconv.Atoi(info["Clients"]["blocked_clients"])
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTakeFirstWaits: a client that waits for several keys gets what comes to any of them,
// by whatever way; ends in time; and takes nothing
// once it is gone.
func TestTakeFirstWaits(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	c := r.client()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	wait := func(client *redis.Client, words ...any) <-chan string {
		blocked := blockedClients(t, c)
		reply := make(chan string, 1)
		go func() {
			v, err := client.Do(ctx, words...).Result()
			reply <- fmt.Sprint(v, err)
		}()
		r.await("the client to block", func() bool { return blockedClients(t, c) == blocked+1 })
		return reply
	}
	expect := func(reply <-chan string, want string) {
		t.Helper()
		select {
		case got := <-reply:
			if got != want {
				t.Errorf("%s, want %s", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no reply, want %s", want)
		}
	}
	x := blockedClients(t, c)
	if x != 0 {
		t.Fatalf("%d clients are blocked", x)
	}
	for _, push := range []func() error{
		func() error { return c.RPush(ctx, "b", "v").Err() },
		func() error {
			return errors.Join(c.RPush(ctx, "{b}other", "v").Err(), c.Rename(ctx, "{b}other", "b").Err())
		},
		func() error { return c.Eval(ctx, "return redis.call('rpush', KEYS[1], 'v')", []string{"b"}).Err() },
		func() error {
			_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.RPush(ctx, "b", "v").Err() })
			return err
		},
	} {
		waits := wait(r.client(), "BLPOP", "a", "b", "c", "0")
		must(push())
		expect(waits, "[b v] <nil>")
	}
	one, two := wait(r.client(), "BLPOP", "a", "b", "c", "0"), wait(r.client(), "BRPOP", "c", "b", "0")
	must(c.RPush(ctx, "b", "v", "v").Err()) // for both
	expect(one, "[b v] <nil>")
	expect(two, "[b v] <nil>")

	// Another type, while it waits, is not there; and CLIENT UNBLOCK.
	own := r.client()
	waits := wait(own, "BLPOP", "a", "b", "0")
	must(c.Set(ctx, "a", "text", 0).Err())
	must(c.RPush(ctx, "b", "v").Err())
	expect(waits, "[b v] <nil>")
	must(c.Del(ctx, "a").Err())
	id := own.ClientID(ctx).Val()
	waits = wait(own, "BZMPOP", "0", "2", "a", "b", "MIN")
	if n := c.ClientUnblockWithError(ctx, id).Val(); n != 1 {
		t.Errorf("CLIENT UNBLOCK: %d", n)
	}
	expect(waits, "<nil>UNBLOCKED client unblocked via CLIENT UNBLOCK")
	id = own.ClientID(ctx).Val()
	waits = wait(own, "BLMPOP", "0", "2", "a", "b", "LEFT")
	if n := c.ClientUnblock(ctx, id).Val(); n != 1 {
		t.Errorf("CLIENT UNBLOCK: %d", n)
	}
	expect(waits, "<nil>redis: nil")
	began := time.Now()
	if v, err := r.client().Do(ctx, "BLPOP", "a", "b", "1.5").Result(); err != redis.Nil || time.Since(began) < 1400*time.Millisecond {
		t.Errorf("BLPOP for 1.5 s: %v, %v after %v", v, err, time.Since(began))
	}

	// Who has gone takes nothing.
	gone := r.client()
	id = gone.ClientID(ctx).Val()
	waits = wait(gone, "BLPOP", "a", "b", "0")
	must(c.ClientKillByFilter(ctx, "ID", fmt.Sprint(id)).Err())
	<-waits
	r.await("the client to be gone", func() bool { return blockedClients(t, c) == 0 })
	must(c.RPush(ctx, "b", "v").Err())
	if n := c.LLen(ctx, "b").Val(); n != 1 {
		t.Errorf("%d elements are left of one that nobody takes", n)
	}
}

// TestTakeFirstWhileSlotsMove: workers wait for several queues, in slots that move back and
// forth, while producers push. Every element is delivered exactly once, and nobody is left
// waiting.
func TestTakeFirstWhileSlotsMove(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	c := r.client()
	const queues, workers, producers, each = 6, 30, 4, 1500
	var mu sync.Mutex // protects seen
	seen := make(map[string]int)
	var working, producing sync.WaitGroup
	for w := range workers {
		own := r.client()
		var keys []string
		for q := range 3 {
			keys = append(keys, fmt.Sprintf("queue%d", (w+q)%queues))
		}
		working.Go(func() {
			for {
				v, err := own.BLPop(ctx, 0, append(keys, "end")...).Result()
				if err != nil {
					t.Errorf("a worker: %v", err)
					return
				}
				if v[0] == "end" {
					return
				}
				mu.Lock()
				seen[v[1]]++
				mu.Unlock()
			}
		})
	}
	for p := range producers {
		producing.Go(func() {
			for i := range each {
				if err := c.RPush(ctx, fmt.Sprintf("queue%d", i%queues), fmt.Sprintf("%d:%d", p, i)).Err(); err != nil {
					t.Errorf("a producer: %v", err)
				}
				if i%50 == 0 {
					time.Sleep(5 * time.Millisecond) // so that the workers wait
				}
			}
		})
	}
	r.bounce(rounds(4, 8))
	producing.Wait()
	r.await("all to be taken", func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == producers*each })
	for range workers {
		if err := c.RPush(ctx, "end", "x").Err(); err != nil {
			t.Fatal(err)
		}
	}
	working.Wait()
	for v, n := range seen {
		if n != 1 {
			t.Errorf("%s was delivered %d times", v, n)
		}
	}
	if n := blockedClients(t, c); n != 0 {
		t.Errorf("%d clients are left waiting", n)
	}
	r.placesRight()
}
