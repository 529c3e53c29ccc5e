package integration

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/topology"
)

var scanRounds = flag.Int("scans", 8, "how many whole SCANs are made while slots move")

// TestWatchCounters: clients increment counters by WATCH, GET, MULTI, SET, EXEC while the
// slots bounce. Every EXEC that succeeded counts, and no other.
func TestWatchCounters(t *testing.T) {
	r := newRig(t, 2)
	c := r.client()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wins, nulls [4]atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		key, n := fmt.Sprintf("counter%d", i%4), i%4
		wg.Go(func() {
			for ctx.Err() == nil {
				err := c.Watch(context.Background(), func(tx *redis.Tx) error {
					v, err := tx.Get(context.Background(), key).Int()
					if err != nil && !errors.Is(err, redis.Nil) {
						return err
					}
					_, err = tx.TxPipelined(context.Background(), func(p redis.Pipeliner) error {
						p.Set(context.Background(), key, v+1, 0)
						return nil
					})
					return err
				}, key)
				switch {
				case err == nil:
					wins[n].Add(1)
				case errors.Is(err, redis.TxFailedErr):
					nulls[n].Add(1)
				default:
					t.Errorf("client of %s: %v", key, err)
					return
				}
			}
		})
	}
	r.bounce(rounds(6, 20))
	stop()
	wg.Wait()
	for n := range wins {
		got, _ := c.Get(context.Background(), fmt.Sprintf("counter%d", n)).Int64()
		if got != wins[n].Load() || got == 0 {
			t.Errorf("counter%d is %d after %d successful and %d null EXECs", n, got, wins[n].Load(), nulls[n].Load())
		}
	}
	t.Logf("counter0: %d successes, %d nulls", wins[0].Load(), nulls[0].Load())
}

// TestBlockedClients: 200 clients block on lists and streams of moving slots while others
// push. Every element is delivered exactly once, and nobody is left waiting.
func TestBlockedClients(t *testing.T) {
	r := newRig(t, 2)
	c := r.client()
	bg := context.Background()
	const queues, perQueue, each = 20, 10, 400
	for q := range queues / 2 {
		if err := c.XGroupCreateMkStream(bg, fmt.Sprintf("stream%d", q), "group", "0").Err(); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	seen := make(map[string]int)
	got := func(item string) {
		mu.Lock()
		seen[item]++
		mu.Unlock()
	}
	ctx, stop := context.WithCancel(bg)
	defer stop()
	opt := *c.Options()
	opt.PoolSize, opt.ContextTimeoutEnabled, opt.MaxRetries = 300, true, -1
	blocked := redis.NewClient(&opt)
	defer blocked.Close()
	var consumers, producers sync.WaitGroup
	for q := range queues {
		for w := range perQueue {
			consumers.Go(func() {
				for ctx.Err() == nil {
					if q%2 == 0 {
						v, err := blocked.BLPop(bg, time.Second, fmt.Sprintf("list%d", q/2)).Result()
						if err == nil {
							got(v[1])
						} else if !errors.Is(err, redis.Nil) {
							t.Errorf("BLPOP: %v", err)
							return
						}
						continue
					}
					v, err := blocked.XReadGroup(bg, &redis.XReadGroupArgs{Group: "group", Consumer: fmt.Sprint("c", w),
						Streams: []string{fmt.Sprintf("stream%d", q/2), ">"}, Count: 1, Block: time.Second, NoAck: true}).Result()
					if err == nil {
						got(v[0].Messages[0].Values["item"].(string))
					} else if !errors.Is(err, redis.Nil) {
						t.Errorf("XREADGROUP: %v", err)
						return
					}
				}
			})
		}
		producers.Go(func() {
			for i := range each {
				var err error
				item := fmt.Sprintf("%d/%d", q, i)
				if q%2 == 0 {
					err = c.RPush(bg, fmt.Sprintf("list%d", q/2), item).Err()
				} else {
					err = c.XAdd(bg, &redis.XAddArgs{Stream: fmt.Sprintf("stream%d", q/2), Values: []any{"item", item}}).Err()
				}
				if err != nil {
					t.Errorf("producer: %v", err)
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	r.bounce(rounds(6, 20))
	producers.Wait()
	r.await("every element to be delivered", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) >= queues*each
	})
	stop()
	consumers.Wait()
	for item, n := range seen {
		if n != 1 {
			t.Errorf("%s was delivered %d times", item, n)
		}
	}
}

// TestScansDuringMigrations: what is there all the time is in every full SCAN.
func TestScansDuringMigrations(t *testing.T) {
	const keys = 100_000
	r := newRig(t, 3)
	c := r.client()
	bg := context.Background()
	for i := 0; i < keys; i += 1000 {
		p := c.Pipeline()
		for j := range 1000 {
			p.Set(bg, fmt.Sprintf("stable%d", i+j), "x", 0)
		}
		if _, err := p.Exec(bg); err != nil {
			t.Fatal(err)
		}
	}
	addElements(t, c)
	ctx, stop := context.WithCancel(bg)
	defer stop()
	done := make(chan struct{})
	go func() { // bounces until stopped, over three groups, two jobs at a time
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			r.proxy("MIGRATE", "0-8191", "TO", fmt.Sprintf("g%d", 1+(i+1)%3))
			r.proxy("MIGRATE", "8192-16383", "TO", fmt.Sprintf("g%d", 1+(i+2)%3))
			r.awaitDone()
		}
	}()
	scan := func(round int) error {
		seen := make([]bool, keys)
		n, cursor := 0, uint64(0)
		for {
			page, next, err := c.Scan(bg, cursor, "stable*", int64(200+round*100)).Result()
			if err != nil {
				return err
			}
			for _, k := range page {
				if i, err := strconv.Atoi(k[len("stable"):]); err == nil && !seen[i] {
					seen[i] = true
					n++
				}
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
		if n != keys {
			return fmt.Errorf("it saw %d of %d keys", n, keys)
		}
		return nil
	}
	var scanners sync.WaitGroup
	for first := range 5 {
		scanners.Go(func() {
			for round := first; round < *scanRounds; round += 5 {
				if err := scan(round); err != nil {
					t.Errorf("scan %d: %v", round, err)
					return
				}
			}
		})
	}
	scanners.Go(func() { scanElements(t, c, *scanRounds) })
	scanners.Wait()
	if n := len(c.Keys(bg, "stable*").Val()); n != keys {
		t.Errorf("KEYS saw %d of %d keys", n, keys)
	}
	stop()
	<-done
}

// bigElements is how many elements the keys of addElements have: enough for a hash table.
const bigElements = 3000

// addElements makes a large hash, set and sorted set.
func addElements(t *testing.T, c *redis.Client) {
	bg := context.Background()
	p := c.Pipeline()
	for i := range bigElements {
		e := fmt.Sprint("e", i)
		p.HSet(bg, "big-hash", e, "v")
		p.SAdd(bg, "big-set", e)
		p.ZAdd(bg, "big-zset", redis.Z{Member: e})
	}
	if _, err := p.Exec(bg); err != nil {
		t.Fatal(err)
	}
}

// scanElements scans each of them a number of times, and demands every element.
func scanElements(t *testing.T, c *redis.Client, rounds int) {
	bg := context.Background()
	for name, scan := range map[string]func(cursor uint64) *redis.ScanCmd{
		"big-hash": func(at uint64) *redis.ScanCmd { return c.HScan(bg, "big-hash", at, "", 20) },
		"big-set":  func(at uint64) *redis.ScanCmd { return c.SScan(bg, "big-set", at, "", 20) },
		"big-zset": func(at uint64) *redis.ScanCmd { return c.ZScan(bg, "big-zset", at, "", 20) },
	} {
		for range rounds {
			seen := make(map[string]bool)
			for cursor := uint64(0); ; {
				page, next, err := scan(cursor).Result()
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				for _, e := range page {
					if e[0] == 'e' {
						seen[e] = true
					}
				}
				if cursor = next; cursor == 0 {
					break
				}
			}
			if len(seen) != bigElements {
				t.Errorf("%s: a scan saw %d of %d elements", name, len(seen), bigElements)
			}
		}
	}
}

// TestScanAfterAnEndedMigration: once a job is over, done or reverted, a SCAN sees each key once.
func TestScanAfterAnEndedMigration(t *testing.T) {
	const keys = 200
	r := newRig(t, 2)
	c := r.client()
	bg := context.Background()
	for i := range keys {
		if err := c.Set(bg, fmt.Sprint("k", i), "x", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	once := func(when string) {
		t.Helper()
		// That a job is done is shown as soon as it is stored; for the loops it is over when they
		// route by that, and a scan that begins before has seen it go on.
		r.await("the loops to route by what is stored", func() bool {
			var e struct{ Stored, Acknowledged uint64 }
			if err := json.Unmarshal([]byte(r.proxy("EPOCH", "JSON").(string)), &e); err != nil {
				t.Fatal(err)
			}
			return e.Stored == e.Acknowledged
		})
		seen, all := make(map[string]bool), 0
		for cursor := uint64(0); ; {
			page, next, err := c.Scan(bg, cursor, "", 50).Result()
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range page {
				seen[k] = true
			}
			if all += len(page); all > 10*keys {
				break
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
		if len(seen) != keys || all != keys {
			t.Errorf("%s: %d replies name %d of %d keys", when, all, len(seen), keys)
		}
	}
	once("before")
	r.proxy("MIGRATE", "0-8191", "TO", "g2")
	r.awaitDone()
	once("after a move")
	r.proxy("MIGRATE", "8192-16383", "TO", "g2")
	r.awaitDone()
	once("after another")
	r.proxy("MIGRATE", "0-16383", "TO", "g1", "RATE", "20")
	r.await("some keys to move", func() bool { return r.jobs()[len(r.jobs())-1].KeysMoved >= 3 })
	id := r.jobs()[len(r.jobs())-1].ID
	r.proxy("MIGRATION", "CANCEL", id, "REVERT")
	r.proxy("MIGRATION", "LIMIT", id, "RATE", "0")
	r.await("the way back", func() bool {
		for _, j := range r.jobs() {
			if j.ID == id {
				return j.Phase == topology.Reverted
			}
		}
		return false
	})
	once("after one that was reverted")
}

// TestPubSubAcrossFlips: every subscriber sees every message of each publisher, in order,
// while slots move; and again after a server was restarted.
func TestPubSubAcrossFlips(t *testing.T) {
	r := newRig(t, 2)
	c := r.client()
	bg := context.Background()
	var wg sync.WaitGroup
	const publishers, messages = 4, 2000
	check := func(name string, ch <-chan *redis.Message) {
		last := make(map[string]int)
		for n := 0; n < publishers*messages; n++ {
			select {
			case m := <-ch:
				var p, i int
				if _, err := fmt.Sscanf(m.Payload, "%d/%d", &p, &i); err != nil {
					t.Errorf("%s: %q", name, m.Payload)
					return
				}
				if k := fmt.Sprint(p); last[k] != i {
					t.Errorf("%s: publisher %d's message %d instead of %d", name, p, i, last[k])
					return
				} else {
					last[k]++
				}
			case <-time.After(time.Minute):
				t.Errorf("%s: stuck after %d messages", name, n)
				return
			}
		}
	}
	for _, proto := range []int{2, 3} {
		opt := *c.Options()
		opt.Protocol = proto
		sc := redis.NewClient(&opt)
		defer sc.Close()
		for name, ps := range map[string]*redis.PubSub{"exact": sc.Subscribe(bg, "ch0", "ch1", "ch2", "ch3"), "pattern": sc.PSubscribe(bg, "ch*")} {
			defer ps.Close()
			for i := 0; i < map[string]int{"exact": 4, "pattern": 1}[name]; i++ {
				if _, err := ps.Receive(bg); err != nil {
					t.Fatal(err)
				}
			}
			ch := ps.Channel(redis.WithChannelSize(publishers * messages))
			wg.Go(func() { check(fmt.Sprintf("%s RESP%d", name, proto), ch) })
		}
	}
	for p := range publishers {
		wg.Go(func() {
			for i := range messages {
				n, err := c.Publish(bg, fmt.Sprint("ch", p), fmt.Sprintf("%d/%d", p, i)).Result()
				if err != nil || n != 4 {
					t.Errorf("publish: %d receivers, %v", n, err)
					return
				}
			}
		})
	}
	r.bounce(6)
	wg.Wait()
}

// TestFirstScriptsAfterRestart: a gateway that goes on with a job of its former self knows of
// no script that has run, and the first that comes to a slot finds the keys that it does not
// name, on whichever side they are.
func TestFirstScriptsAfterRestart(t *testing.T) {
	r := newRig(t, 2)
	bg := context.Background()
	const slots, each = 40, 100
	c := r.client()
	fill := c.Pipeline()
	for q := range slots {
		for i := range each {
			fill.Set(bg, fmt.Sprintf("{q%d}:%d", q, i), i, 0)
		}
	}
	if _, err := fill.Exec(bg); err != nil {
		t.Fatal(err)
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "300")
	r.awaitMoved(300)
	r.kill()
	r.start("")
	c = r.client()
	script := redis.NewScript(`
		local n = 0
		for i = 0, ARGV[1] - 1 do n = n + redis.call('EXISTS', KEYS[1] .. ':' .. i) end
		return n`)
	var wg sync.WaitGroup
	for q := range slots {
		wg.Go(func() {
			if n, err := script.Run(bg, c, []string{fmt.Sprintf("{q%d}", q)}, each).Int(); err != nil || n != each {
				t.Errorf("{q%d}: a script finds %d of %d keys, %v", q, n, each, err)
			}
		})
	}
	wg.Wait()
	if j := r.jobs()[0]; j.Phase.Ended() {
		t.Fatalf("the scripts came in phase %s: that shows nothing", j.Phase)
	}
	r.unlimited()
	r.awaitDone()
	r.placesRight()
}

// TestFirstScriptsWhileSlotsMove: scripts that come to a slot when it is moving already, and
// again when the gateway was killed meanwhile, find the keys that they don't name, and others
// find the keys that those scripts have made.
func TestFirstScriptsWhileSlotsMove(t *testing.T) {
	r := newRig(t, 2)
	bg := context.Background()
	c := r.client()
	const queues, rounds = 12, 40
	r.fill(20000, 1)
	fill := c.Pipeline()
	for q := range queues / 2 { // half of them have keys that were made without a script
		for i := range 20 {
			fill.Set(bg, fmt.Sprintf("{queue%d}:%d", q, i), 1000*i, 0)
		}
	}
	if _, err := fill.Exec(bg); err != nil {
		t.Fatal(err)
	}
	script := redis.NewScript(`
		local n = redis.call('INCR', KEYS[1])
		redis.call('INCR', KEYS[1] .. ':' .. (n % 20))
		redis.call('SET', KEYS[1] .. ':job:' .. n, ARGV[1])
		return redis.call('GET', KEYS[1] .. ':job:' .. (n - 1)) or 'none'`)
	run := func(from int) {
		t.Helper()
		var wg sync.WaitGroup
		for q := range queues {
			key := fmt.Sprintf("{queue%d}", q)
			wg.Go(func() {
				for i := from + 1; i <= from+rounds; i++ {
					want := fmt.Sprint("job", i-1)
					if i == 1 {
						want = "none"
					}
					if got, err := script.Run(bg, c, []string{key}, fmt.Sprint("job", i)).Text(); err != nil || got != want {
						t.Errorf("%s, run %d: %q, %v, want %q", key, i, got, err, want)
						return
					}
					if got, err := c.Get(bg, fmt.Sprintf("%s:job:%d", key, i)).Result(); err != nil || got != fmt.Sprint("job", i) {
						t.Errorf("%s: job %d is %q, %v", key, i, got, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "400")
	r.awaitMoved(400)
	run(0)
	if j := r.jobs()[0]; j.Phase != topology.Bulk {
		t.Fatalf("the scripts came in phase %s: that shows nothing", j.Phase)
	}
	r.kill()
	r.start("")
	run(rounds)
	r.unlimited()
	r.awaitDone()
	run(2 * rounds)
	for q := range queues {
		sum, want := 0, 3*rounds
		for i := range 20 {
			n, _ := c.Get(bg, fmt.Sprintf("{queue%d}:%d", q, i)).Int()
			sum += n
			if q < queues/2 {
				want += 1000 * i
			}
		}
		if sum != want {
			t.Errorf("queue %d: the sum is %d, want %d", q, sum, want)
		}
	}
	r.placesRight()
}
