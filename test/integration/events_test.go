package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
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
	if n := testrig.KeysAt(t, added); n == 0 {
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

// TestKeysThatExpireInMotion: a key that expires expires once, also while it is at both ends.
func TestKeysThatExpireInMotion(t *testing.T) {
	bg := context.Background()
	r := newRig(t, 2)
	c := r.client()
	for _, s := range r.servers {
		if err := s.Client().ConfigSet(bg, "hz", "100").Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.ConfigSet(bg, "notify-keyspace-events", "KEx").Err(); err != nil {
		t.Fatal(err)
	}
	sub := c.PSubscribe(bg, "__keyevent@*__:expired", "__keyspace@0__:*")
	defer sub.Close()
	for range 2 {
		if _, err := sub.Receive(bg); err != nil {
			t.Fatal(err)
		}
	}
	// once waits until all keys are gone, and demands two messages of each.
	once := func(t *testing.T, keys []string) {
		t.Helper()
		heard := make(map[string]int)
		for _, s := range r.servers { // a look makes a server say it
			r.await("the keys to expire", func() bool { return s.Client().Exists(bg, keys...).Val() == 0 })
		}
		for _, s := range r.servers { // the last that each has to say
			if err := s.Client().Publish(bg, "__keyspace@0__:end", "end").Err(); err != nil {
				t.Fatal(err)
			}
		}
		for ends := 0; ends < 2; {
			m, err := sub.ReceiveTimeout(bg, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if m := m.(*redis.Message); m.Payload == "end" {
				ends++
			} else {
				heard[m.Channel+" "+m.Payload]++
			}
		}
		wrong := 0
		for _, k := range keys {
			for _, m := range []string{"__keyevent@0__:expired " + k, "__keyspace@0__:" + k + " expired"} {
				if heard[m] != 1 {
					if wrong++; wrong < 10 {
						t.Errorf("%s was heard %d times", m, heard[m])
					}
				}
			}
		}
		if wrong > 0 {
			t.Errorf("%d messages of %d were not heard once", wrong, 2*len(keys))
		}
	}
	t.Run("by chance", func(t *testing.T) {
		stop := r.KeepMoving()
		var keys []string
		for len(keys) < 4000 {
			_, err := c.Pipelined(bg, func(p redis.Pipeliner) error {
				for range 40 {
					k := fmt.Sprint("key", len(keys))
					p.Set(bg, k, "x", time.Duration(50+len(keys)%400)*time.Millisecond)
					keys = append(keys, k)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		r.await("the keys to expire", func() bool { return c.Exists(bg, keys...).Val() == 0 })
		t.Logf("%d migrations", stop())
		once(t, keys)
	})
}

// TestKeysThatExpireAtBothEnds: the same, by what the mover waits for; and a key that expires before it
// is restored is told of as well.
func TestKeysThatExpireAtBothEnds(t *testing.T) {
	bg := context.Background()
	for _, point := range []string{"move.restore.before", "move.unlink.before"} {
		t.Run(point, func(t *testing.T) {
			r := newRig(t, 2)
			g := newGate(t)
			r.kill()
			r.start(g.at(point))
			c := r.client()
			if err := c.ConfigSet(bg, "notify-keyspace-events", "Ex").Err(); err != nil {
				t.Fatal(err)
			}
			sub := c.Subscribe(bg, "__keyevent@0__:expired")
			defer sub.Close()
			if _, err := sub.Receive(bg); err != nil {
				t.Fatal(err)
			}
			var keys []string
			for i := range 20 {
				keys = append(keys, fmt.Sprint("key", i))
				if err := c.Set(bg, keys[i], "x", time.Second).Err(); err != nil {
					t.Fatal(err)
				}
			}
			r.proxy("MIGRATE", "0-16383", "TO", "g2")
			for _, s := range r.servers { // a look makes a server say it
				r.await("the keys to expire", func() bool { return s.Client().Exists(bg, keys...).Val() == 0 })
			}
			g.open()
			r.awaitDone()
			// The same names once more, at their new home: what is over has no say in that.
			for _, k := range keys {
				if err := c.Set(bg, k, "x", 10*time.Millisecond).Err(); err != nil {
					t.Fatal(err)
				}
			}
			heard := make(map[string]int)
			for range 2 * len(keys) {
				m, err := sub.ReceiveTimeout(bg, 20*time.Second)
				if err != nil {
					t.Fatalf("%v; heard of %v", err, heard)
				}
				heard[m.(*redis.Message).Payload]++
			}
			for _, k := range keys {
				if heard[k] != 2 {
					t.Errorf("%s has expired %d times, want 2", k, heard[k])
				}
			}
		})
	}
}
