package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// clientPace is the least time from command to command of one client.
const clientPace = 3 * time.Millisecond

// runClient works on the keys until ctx ends.
func (w *world) runClient(ctx context.Context, id int, ks *keyspace) {
	rng := rand.New(rand.NewPCG(w.seed, uint64(1000+id)))
	c := w.dial(w.front.Addr, 1500*time.Millisecond)
	defer c.Close()
	for n := 0; pause(ctx, clientPace); n++ {
		k := ks.pick(rng.IntN(1 << 20))
		verbs := kindVerbs[k.kind]
		o := op{client: id, verb: verbs[rng.IntN(len(verbs))]}
		switch o.verb {
		case vSet, vMSet, vSetNX, vAppend, vTx, vHSet:
			o.arg = fmt.Sprintf("%d.%d,", id, n)
		}
		if ks.keepAll && o.verb.deletes() {
			continue
		}
		if k.kind == kHash && o.verb != vDel && o.verb != vHGetAll {
			o.field = string(rune('a' + rng.IntN(4)))
		}
		if !w.apply(c, ks, k, o) && !pause(ctx, 20*time.Millisecond) {
			return
		}
	}
}

// apply executes o, and records it unless it was certainly not executed.
func (w *world) apply(c *redis.Client, ks *keyspace, k *tracked, o op) bool {
	o.call = w.since()
	err := execute(c, k, &o)
	o.ret = w.since()
	f := w.fateOf(err)
	switch f {
	case answered:
		o.null = err == redis.Nil
		w.count("commands", 1)
	case notDone:
		w.count("refused", 1)
		return false
	case open:
		o.unknown = true
		w.count("ambiguous", 1)
	}
	ks.record(k, o)
	return f == answered
}

func execute(c *redis.Client, k *tracked, o *op) (err error) {
	ctx, key := context.Background(), k.name
	switch o.verb {
	case vGet:
		o.text, err = c.Get(ctx, key).Result()
	case vSet:
		err = c.Set(ctx, key, o.arg, 0).Err()
	case vMSet:
		err = c.MSet(ctx, key, o.arg, k.partner.name, o.arg).Err()
	case vSetNX:
		o.text, err = c.Do(ctx, "SET", key, o.arg, "NX").Text()
	case vAppend:
		o.num, err = c.Append(ctx, key, o.arg).Result()
	case vDel:
		o.num, err = c.Del(ctx, key).Result()
	case vGetDel:
		o.text, err = c.GetDel(ctx, key).Result()
	case vIncr:
		o.num, err = c.Incr(ctx, key).Result()
	case vScriptIncr:
		o.num, err = c.Eval(ctx, "return redis.call('INCR', KEYS[1])", []string{key}).Int64()
	case vTx:
		p := c.TxPipeline()
		get, length := p.Get(ctx, key), p.Append(ctx, key, o.arg)
		if _, err = p.Exec(ctx); err == redis.Nil { // no value before
			err = nil
		}
		o.text, o.num = get.Val(), length.Val()
	case vHSet:
		o.num, err = c.HSet(ctx, key, o.field, o.arg).Result()
	case vHGet:
		o.text, err = c.HGet(ctx, key, o.field).Result()
	case vHDel:
		o.num, err = c.HDel(ctx, key, o.field).Result()
	case vHGetAll:
		var h map[string]string
		h, err = c.HGetAll(ctx, key).Result()
		o.text = formatHash(h)
	}
	return err
}

// finalReads asks for every key when no fault is left, so that the end of each history is
// what the clients find.
func (w *world) finalReads(keys []*tracked) {
	w.t.Helper()
	c := w.well()
	defer c.Close()
	for _, k := range keys {
		o := op{client: -1, verb: vGet}
		if k.kind == kHash {
			o.verb = vHGetAll
		}
		o.call = w.since()
		err := execute(c, k, &o)
		o.ret = w.since()
		if err != nil && err != redis.Nil {
			w.fail("%s can't be read when all is well again: %v", k.name, err)
			continue
		}
		o.null = err == redis.Nil
		k.history = append(k.history, o)
	}
}

// filler are keys that nobody writes: they give the jobs something to move.
func (w *world) fill(n int) {
	w.t.Helper()
	ctx := context.Background()
	c := w.well()
	defer c.Close()
	p := c.Pipeline()
	for i := range n {
		p.Set(ctx, "filler:"+strconv.Itoa(i), i, 0)
	}
	if _, err := p.Exec(ctx); err != nil {
		w.t.Fatalf("filling: %v", err)
	}
}

// checkFiller demands that every filler key is there and has its value.
func (w *world) checkFiller(n int) {
	w.t.Helper()
	ctx := context.Background()
	c := w.well()
	defer c.Close()
	p := c.Pipeline()
	got := make([]*redis.StringCmd, n)
	for i := range got {
		got[i] = p.Get(ctx, "filler:"+strconv.Itoa(i))
	}
	_, _ = p.Exec(ctx)
	wrong := 0
	for i, g := range got {
		if g.Val() != strconv.Itoa(i) {
			if wrong++; wrong <= 5 {
				w.fail("filler:%d is %q, %v", i, g.Val(), g.Err())
			}
		}
	}
	if wrong > 0 {
		w.fail("%d of %d keys that nobody writes are not as they were", wrong, n)
	}
}
