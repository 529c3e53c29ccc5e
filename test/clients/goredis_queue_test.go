package clients

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// queue is one way to hand items to clients that block for them.
type queue struct {
	put  func(c redis.UniversalClient, key, item string) error
	take func(c redis.UniversalClient, key string) (string, error) // blocks a second, then redis.Nil
}

var queues = map[string]queue{
	"BLPOP": {
		func(c redis.UniversalClient, key, item string) error { return c.RPush(bg, key, item).Err() },
		func(c redis.UniversalClient, key string) (string, error) {
			v, err := c.BLPop(bg, time.Second, key).Result()
			if err != nil {
				return "", err
			}
			return v[1], nil
		},
	},
	"BLMOVE": {
		func(c redis.UniversalClient, key, item string) error { return c.LPush(bg, key, item).Err() },
		func(c redis.UniversalClient, key string) (string, error) {
			return c.BLMove(bg, key, key+":taken", "right", "left", time.Second).Result()
		},
	},
	"BZPOPMIN": {
		func(c redis.UniversalClient, key, item string) error {
			return c.ZAdd(bg, key, redis.Z{Score: 1, Member: item}).Err()
		},
		func(c redis.UniversalClient, key string) (string, error) {
			v, err := c.BZPopMin(bg, time.Second, key).Result()
			if err != nil {
				return "", err
			}
			return v.Member.(string), nil
		},
	},
	"XREADGROUP": {
		func(c redis.UniversalClient, key, item string) error {
			return c.XAdd(bg, &redis.XAddArgs{Stream: key, Values: []any{"item", item}}).Err()
		},
		func(c redis.UniversalClient, key string) (string, error) {
			v, err := c.XReadGroup(bg, &redis.XReadGroupArgs{Group: "g", Consumer: "c", Streams: []string{key, ">"}, Count: 1, Block: time.Second}).Result()
			if err != nil {
				return "", err
			}
			m := v[0].Messages[0]
			return m.Values["item"].(string), c.XAck(bg, key, "g", m.ID).Err()
		},
	},
}

// lateBound ends the wait for what was put and did not arrive.
const lateBound = 60 * time.Second

// queues has three consumers block on each kind of queue: every item is taken exactly once.
func (f *fleet) queues() {
	for name, q := range queues {
		key := f.key("{q}%s", name)
		if name == "XREADGROUP" {
			if err := f.c.XGroupCreateMkStream(bg, key, "g", "0").Err(); err != nil {
				f.t.Fatal(err)
			}
		}
		var put atomic.Int64
		over := f.work("put "+name, func(i int) error {
			if err := q.put(f.c, key, fmt.Sprint(i)); err != nil {
				return err
			}
			put.Add(1)
			time.Sleep(2 * time.Millisecond)
			return nil
		})
		var mu sync.Mutex
		taken := map[string]int{}
		for range 3 {
			f.wg.Go(func() {
				if err := takeAll(f.c, q, key, &mu, taken, func() bool { return ended(over) && len(taken) >= int(put.Load()) }); err != nil {
					f.t.Errorf("%s: take %s: %v", f.name, name, err)
				}
			})
		}
		f.after = append(f.after, func() error {
			for i := range put.Load() {
				if n := taken[fmt.Sprint(i)]; n != 1 {
					return fmt.Errorf("%s: item %d was taken %d times", name, i, n)
				}
			}
			return want(name+": items taken", len(taken), put.Load(), nil)
		})
	}
}

func ended(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// takeAll takes until enough says so, which is called under mu.
func takeAll(c redis.UniversalClient, q queue, key string, mu *sync.Mutex, taken map[string]int, enough func() bool) error {
	var idle time.Time
	for {
		item, err := q.take(c, key)
		mu.Lock()
		if err == nil {
			taken[item]++
			idle = time.Time{}
		}
		finished := enough()
		mu.Unlock()
		switch {
		case finished:
			return nil
		case err == nil:
		case !errors.Is(err, redis.Nil):
			return err
		case idle.IsZero():
			idle = time.Now()
		case time.Since(idle) > lateBound:
			return errors.New("nothing comes any more, and not all has come")
		}
	}
}

// pubsub has subscribers of a channel, a pattern and a shard channel see every message, in
// order.
func (f *fleet) pubsub() {
	channel := f.key("news")
	for name, sub := range map[string]*redis.PubSub{
		"Subscribe":  f.c.Subscribe(bg, channel),
		"PSubscribe": f.c.PSubscribe(bg, channel+"*"),
		"SSubscribe": f.c.SSubscribe(bg, channel),
	} {
		if _, err := sub.Receive(bg); err != nil {
			f.t.Fatalf("%s: %s: %v", f.name, name, err)
		}
		f.wg.Go(func() {
			defer sub.Close()
			for i := 0; ; i++ {
				ctx, cancel := context.WithTimeout(bg, lateBound)
				m, err := sub.ReceiveMessage(ctx)
				cancel()
				if err == nil && m.Payload == fmt.Sprint("end ", i) {
					return
				}
				if err != nil || m.Payload != fmt.Sprint(i) {
					f.t.Errorf("%s: %s: message %d: %v, %v", f.name, name, i, m, err)
					return
				}
			}
		})
	}
	publish := func(text string) error {
		n, err := f.c.SPublish(bg, channel, text).Result()
		if err := want("receivers of SPUBLISH", n, 1, err); err != nil {
			return err
		}
		n, err = f.c.Publish(bg, channel, text).Result()
		return want("receivers of PUBLISH", n, 2, err)
	}
	sent := &atomic.Int64{}
	f.done["publish"] = sent
	f.wg.Go(func() {
		for sent.Load() == 0 || f.until.Err() == nil {
			if err := publish(fmt.Sprint(sent.Load())); err != nil {
				f.t.Errorf("%s: message %d: %v", f.name, sent.Load(), err)
				return
			}
			sent.Add(1)
			time.Sleep(time.Millisecond)
		}
		if err := publish(fmt.Sprint("end ", sent.Load())); err != nil {
			f.t.Errorf("%s: last message: %v", f.name, err)
		}
	})
}
