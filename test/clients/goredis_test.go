package clients

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestGoRedis: a Client that speaks RESP3, one that speaks RESP2 and a ClusterClient do
// all that go-redis can, at the same time. None repeats a command that failed.
func TestGoRedis(t *testing.T) {
	r := newRig(t)
	ballast(t, r, 5000)
	single := func(protocol int) redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: r.Listen, Protocol: protocol, MaxRetries: -1, PoolSize: 100,
			DialTimeout: time.Minute, ReadTimeout: time.Minute, WriteTimeout: time.Minute})
	}
	fleets := []*fleet{
		{name: "resp3", c: single(3)},
		{name: "resp2", c: single(2)},
		{name: "cluster", c: redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{r.Listen}, MaxRedirects: -1, MaxRetries: -1,
			PoolSize: 100, DialTimeout: time.Minute, ReadTimeout: time.Minute, WriteTimeout: time.Minute})},
	}
	ctx, cancel := context.WithTimeout(context.Background(), *runFor)
	defer cancel()
	stop := r.KeepMoving()
	for _, f := range fleets {
		defer f.c.Close()
		f.t, f.until, f.done = t, ctx, map[string]*atomic.Int64{}
		f.launch()
	}
	for _, f := range fleets {
		f.wg.Wait()
		for _, holds := range f.after {
			if err := holds(); err != nil {
				t.Errorf("%s: %v", f.name, err)
			}
		}
		for _, what := range slices.Sorted(maps.Keys(f.done)) {
			n := f.done[what].Load()
			t.Logf("%s: %s: %d rounds", f.name, what, n)
			if n == 0 {
				t.Errorf("%s: %s: not one round", f.name, what)
			}
		}
	}
	t.Logf("%d migrations", stop())
	r.PlacesRight()
}

// fleet is one client object and the goroutines that use it.
type fleet struct {
	name  string
	c     redis.UniversalClient
	t     *testing.T
	until context.Context
	wg    sync.WaitGroup
	done  map[string]*atomic.Int64 // rounds, by worker
	after []func() error           // what must hold when all have ended
}

var bg = context.Background()

// work repeats round until the time is over, but once at least, or until it fails. What is
// returned is closed at its end.
func (f *fleet) work(what string, round func(i int) error) (ended <-chan struct{}) {
	n := &atomic.Int64{}
	f.done[what] = n
	over := make(chan struct{})
	f.wg.Go(func() {
		defer close(over)
		for i := 0; i == 0 || f.until.Err() == nil; i++ {
			if err := round(i); err != nil {
				f.t.Errorf("%s: %s, round %d: %v", f.name, what, i, err)
				return
			}
			n.Add(1)
		}
	})
	return over
}

// key is a key of this fleet's own.
func (f *fleet) key(format string, args ...any) string {
	return f.name + ":" + fmt.Sprintf(format, args...)
}

func (f *fleet) launch() {
	f.work("values", f.values())
	f.work("structures", f.structures())
	f.work("pipelines", f.pipelines())
	f.work("several slots", f.severalSlots)
	f.work("TxPipelined", f.txPipelined)
	f.work("scripts", f.scripts())
	f.work("scans", f.scans())
	f.watchCounters()
	f.queues()
	f.pubsub()
}

func want(what string, got, want any, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}

// values compares keys with a map.
func (f *fleet) values() func(int) error {
	have := map[string]string{}
	return func(i int) error {
		k := f.key("v%d", rand.IntN(200))
		got, err := f.c.Get(bg, k).Result()
		if old, there := have[k]; !there && !errors.Is(err, redis.Nil) || there && (err != nil || got != old) {
			return fmt.Errorf("%s is %q, %v, want %q (set: %v)", k, got, err, old, there)
		}
		if i%5 == 0 {
			delete(have, k)
			return f.c.Del(bg, k).Err()
		}
		have[k] = fmt.Sprint(i)
		return f.c.Set(bg, k, have[k], time.Hour).Err()
	}
}

// structures builds one of each type and reads it again.
func (f *fleet) structures() func(int) error {
	return func(i int) error {
		h, s, z, l, x := f.key("h%d", i%20), f.key("s%d", i%20), f.key("z%d", i%20), f.key("l%d", i%20), f.key("x%d", i%20)
		for _, k := range []string{h, s, z, l, x} {
			if err := f.c.Del(bg, k).Err(); err != nil {
				return err
			}
		}
		if err := errors.Join(
			f.c.HSet(bg, h, "a", 1, "b", i).Err(), f.c.SAdd(bg, s, "m", "n").Err(),
			f.c.ZAdd(bg, z, redis.Z{Score: 1.5, Member: "m"}, redis.Z{Score: -1, Member: "n"}).Err(),
			f.c.RPush(bg, l, "1", "2", "3").Err(), f.c.XAdd(bg, &redis.XAddArgs{Stream: x, ID: "1-1", Values: []any{"f", i}}).Err(),
		); err != nil {
			return err
		}
		hash, e1 := f.c.HGetAll(bg, h).Result()
		set, e2 := f.c.SMembersMap(bg, s).Result()
		zset, e3 := f.c.ZRangeWithScores(bg, z, 0, -1).Result()
		list, e4 := f.c.LRange(bg, l, 0, -1).Result()
		stream, e5 := f.c.XRange(bg, x, "-", "+").Result()
		return errors.Join(
			want("HGETALL", hash, map[string]string{"a": "1", "b": fmt.Sprint(i)}, e1), want("SMEMBERS", set, map[string]struct{}{"m": {}, "n": {}}, e2),
			want("ZRANGE", zset, []redis.Z{{Score: -1, Member: "n"}, {Score: 1.5, Member: "m"}}, e3), want("LRANGE", list, []string{"1", "2", "3"}, e4),
			want("XRANGE", stream, []redis.XMessage{{ID: "1-1", Values: map[string]any{"f": fmt.Sprint(i)}}}, e5),
		)
	}
}

// pipelines sends 300 commands on keys of many slots at once.
func (f *fleet) pipelines() func(int) error {
	var counts [100]int64
	return func(i int) error {
		cmds, err := f.c.Pipelined(bg, func(p redis.Pipeliner) error {
			for j := range counts {
				k := f.key("p%d", j)
				p.Incr(bg, k)
				p.Set(bg, k+":copy", i, 0)
				p.Get(bg, k+":copy")
			}
			return nil
		})
		if err != nil {
			return err
		}
		for j := range counts {
			counts[j]++
			if got := cmds[3*j].(*redis.IntCmd).Val(); got != counts[j] {
				return fmt.Errorf("INCR %d is %d, want %d", j, got, counts[j])
			}
			if got := cmds[3*j+2].(*redis.StringCmd).Val(); got != fmt.Sprint(i) {
				return fmt.Errorf("GET %d is %s, want %d", j, got, i)
			}
		}
		return nil
	}
}

// severalSlots uses the commands that the gateway splits; a ClusterClient wants their keys
// in one slot.
func (f *fleet) severalSlots(i int) error {
	tag := ""
	if f.name == "cluster" {
		tag = "{tag}"
	}
	var keys []string
	var pairs []any
	for j := range 20 {
		keys = append(keys, f.key("%sm%d", tag, j))
		pairs = append(pairs, keys[j], fmt.Sprint(i+j))
	}
	if err := f.c.MSet(bg, pairs...).Err(); err != nil {
		return err
	}
	values, err := f.c.MGet(bg, keys...).Result()
	if err != nil {
		return err
	}
	for j, v := range values {
		if v != fmt.Sprint(i+j) {
			return fmt.Errorf("MGET: %v at %d, want %d", v, j, i+j)
		}
	}
	n, err := f.c.Exists(bg, keys...).Result()
	if err := want("EXISTS", n, len(keys), err); err != nil {
		return err
	}
	n, err = f.c.Del(bg, keys[:10]...).Result()
	return want("DEL", n, 10, err)
}

// txPipelined changes two keys in one transaction, which stay equal.
func (f *fleet) txPipelined(i int) error {
	a, b := f.key("{tx%d}a", i%10), f.key("{tx%d}b", i%10)
	var x, y *redis.IntCmd
	_, err := f.c.TxPipelined(bg, func(p redis.Pipeliner) error {
		x = p.Incr(bg, a)
		y = p.IncrBy(bg, b, 1)
		p.Expire(bg, b, time.Hour)
		return nil
	})
	if err == nil && x.Val() != int64(i/10+1) {
		err = fmt.Errorf("%s is %d, want %d", a, x.Val(), i/10+1)
	}
	return want(b, y.Val(), x.Val(), err)
}

// scripts runs one by EVALSHA and a function; both also change a key.
func (f *fleet) scripts() func(int) error {
	script := redis.NewScript("redis.call('RPUSH', KEYS[1], ARGV[1]) return redis.call('LLEN', KEYS[1])")
	lib := "#!lua name=lib_" + f.name + "\nredis.register_function('add_" + f.name +
		"', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)"
	return func(i int) error {
		if i == 0 {
			if err := f.c.FunctionLoadReplace(bg, lib).Err(); err != nil {
				return err
			}
		}
		n, err := script.Run(bg, f.c, []string{f.key("script%d", i%7)}, i).Int()
		if err := want("script", n, i/7+1, err); err != nil {
			return err
		}
		n, err = f.c.FCall(bg, "add_"+f.name, []string{f.key("function%d", i%7)}, 2).Int()
		return want("function", n, 2*(i/7+1), err)
	}
}

// scans sees every key that is there all the time.
func (f *fleet) scans() func(int) error {
	const keys = 500
	return func(i int) error {
		if i == 0 {
			if _, err := f.c.Pipelined(bg, func(p redis.Pipeliner) error {
				for j := range keys {
					p.Set(bg, f.key("stable%d", j), "x", 0)
				}
				return nil
			}); err != nil {
				return err
			}
		}
		seen := map[string]bool{}
		it := f.c.Scan(bg, 0, f.key("stable*"), int64(100+i%5*300)).Iterator()
		for it.Next(bg) {
			seen[it.Val()] = true
		}
		return want("keys in SCAN", len(seen), keys, it.Err())
	}
}

// watchCounters increments counters by optimistic locking: each success counts once.
func (f *fleet) watchCounters() {
	var wins [2]atomic.Int64
	for w := range 4 {
		key := f.key("counter%d", w%2)
		f.work(fmt.Sprint("Watch ", w), func(int) error {
			err := f.c.Watch(bg, func(tx *redis.Tx) error {
				n, err := tx.Get(bg, key).Int()
				if err != nil && !errors.Is(err, redis.Nil) {
					return err
				}
				_, err = tx.TxPipelined(bg, func(p redis.Pipeliner) error {
					p.Set(bg, key, n+1, 0)
					return nil
				})
				return err
			}, key)
			if err == nil {
				wins[w%2].Add(1)
			} else if !errors.Is(err, redis.TxFailedErr) {
				return err
			}
			return nil
		})
	}
	f.after = append(f.after, func() error {
		for i := range wins {
			n, err := f.c.Get(bg, f.key("counter%d", i)).Int64()
			if err := want(f.key("counter%d", i), n, wins[i].Load(), err); err != nil {
				return err
			}
		}
		return nil
	})
}
