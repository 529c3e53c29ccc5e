package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/testredis"
)

// TestKeyspaceEvents: who asks for keyspace events by CONFIG SET hears of keys of every group,
// also of one that was added afterwards, from the moment on that it has keys.
func TestKeyspaceEvents(t *testing.T) {
	bg := context.Background()
	r := newRig(t, 2)
	c := r.client()
	const setting = "notify-keyspace-events"
	get := func(want string) {
		t.Helper()
		for _, proto := range []int{2, 3} {
			opt := *c.Options()
			opt.Protocol = proto
			d := redis.NewClient(&opt)
			defer d.Close()
			if got, err := d.ConfigGet(bg, setting).Result(); err != nil || len(got) != 1 || got[setting] != want {
				t.Errorf("RESP%d: CONFIG GET: %v, %v, want %q", proto, got, err, want)
			}
		}
	}
	get("")
	if err := c.ConfigSet(bg, setting, "Q").Err(); err == nil || err.Error() != "ERR CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - Invalid event class character. Use 'Ag$lshzxeKEtmdn'." {
		t.Errorf("wrong flags: %v", err)
	}
	if err := c.Do(bg, "CONFIG", "SET", setting, "Ex", "timeout", "0").Err(); err == nil {
		t.Error("settings of the servers and of the gateway are set at once")
	}
	if err := c.ConfigSet(bg, setting, "Eg").Err(); err != nil {
		t.Fatal(err)
	}
	if err := r.servers[1].Client().ConfigSet(bg, setting, "xEA").Err(); err != nil {
		t.Fatal(err)
	}
	r.proxy("MIGRATE", "0-8191", "TO", "g2")
	r.awaitDone()
	get("gE")
	added := testredis.StartT(t)
	r.servers = append(r.servers, added)
	r.Servers = r.servers
	r.proxy("GROUP", "ADD", "g3", added.Addr)
	sub := c.PSubscribe(bg, "__keyevent@*__:expire")
	defer sub.Close()
	if _, err := sub.Receive(bg); err != nil {
		t.Fatal(err)
	}
	r.proxy("MIGRATE", "0-4095,8192-12000", "TO", "g3")
	r.awaitDone()
	const keys = 300
	heard := make(map[string]bool)
	for i := range keys {
		k := fmt.Sprint("key", i)
		if err := c.Set(bg, k, "x", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := c.Expire(bg, k, time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for len(heard) < keys {
		m, err := sub.ReceiveTimeout(bg, time.Minute)
		if err != nil {
			t.Fatalf("heard of %d keys of %d: %v", len(heard), keys, err)
		}
		heard[m.(*redis.Message).Payload] = true
	}
	if n := added.Client().DBSize(bg).Val(); n == 0 {
		t.Error("the group that was added has no keys: that shows nothing")
	}
	r.placesRight()
}

// TestMovesAreNoEvents: who listens to keyspace events hears of each thing that a client does
// once, and of no move.
func TestMovesAreNoEvents(t *testing.T) {
	bg := context.Background()
	r := newRig(t, 2)
	c := r.client()
	const still = 3000
	r.fill(still, 1)
	dump := c.Dump(bg, "fill:0").Val()
	if err := c.ConfigSet(bg, "notify-keyspace-events", "KEA").Err(); err != nil {
		t.Fatal(err)
	}
	sub := c.PSubscribe(bg, "__keyevent@*__:*", "__keyspace@0__:*")
	defer sub.Close()
	for range 2 {
		if _, err := sub.Receive(bg); err != nil {
			t.Fatal(err)
		}
	}
	stop := r.KeepMoving()
	var wg sync.WaitGroup
	const clients, each = 4, 400
	for n := range clients {
		wg.Go(func() {
			for i := range each {
				k := fmt.Sprintf("key%d-%d", n, i)
				_, err := c.Pipelined(bg, func(p redis.Pipeliner) error {
					p.Restore(bg, k, 0, dump)
					p.Append(bg, k, "y")
					p.Del(bg, k)
					return nil
				})
				if err != nil {
					t.Errorf("%s: %v", k, err)
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	moves := stop()
	if err := c.Publish(bg, "__keyevent@0__:end", "end").Err(); err != nil { // no group's events come behind it but by chance
		t.Fatal(err)
	}
	heard := make(map[string]int)
	for got, ended := 0, false; !ended || got < 2*3*clients*each; {
		m, err := sub.ReceiveTimeout(bg, time.Minute)
		if err != nil {
			t.Errorf("%d messages, want %d: %v", got, 2*3*clients*each, err)
			break
		}
		msg := m.(*redis.Message)
		if ended = ended || msg.Payload == "end"; msg.Payload == "end" {
			continue
		}
		heard[msg.Channel+" "+msg.Payload]++
		got++
	}
	for n := range clients {
		for i := range each {
			k := fmt.Sprintf("key%d-%d", n, i)
			for _, event := range []string{"restore", "append", "del"} {
				for _, m := range []string{"__keyevent@0__:" + event + " " + k, "__keyspace@0__:" + k + " " + event} {
					if heard[m] != 1 {
						t.Errorf("%s was heard %d times", m, heard[m])
					}
					delete(heard, m)
				}
			}
		}
	}
	if len(heard) > 0 {
		first := ""
		for m := range heard {
			first = m
		}
		t.Errorf("%d messages are of nobody's doing, such as %s", len(heard), first)
	}
	t.Logf("%d migrations", moves)
	r.placesRight()
}
