package bench

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/testredis"
)

// tampering is a wrong done to one key behind the oracle's back.
type tampering struct {
	what string
	kind kind
	fits func(*key) bool
	do   func(context.Context, *redis.Client, *key) error
	want Verdict // the counts that it must add
}

func present(k *key) bool { return k.guess().alive && k.guess().hi == 0 }
func absent(k *key) bool  { return !k.guess().alive && !k.guess().expired }
func mortal(k *key) bool  { return k.guess().alive && k.life == lifespanLong && k.guess().hi != 0 }

// rewritten keys can have an older value: sequence numbers begin at 1.
func rewritten(k *key) bool { return present(k) && k.guess().num > 1 }

// partly is a key with some of its elements, and some deleted.
func partly(k *key) bool {
	g := k.guess()
	return present(k) && g.count > 1 && g.elem(0) != 0 && g.elem(1) == 0
}

func long(k *key) bool { return present(k) && k.guess().count > 2 }

func value(k *key, seq uint32) string  { return string(appendValue(nil, k, seq, 64)) }
func elemName(k *key, slot int) string { return string(appendName(nil, k, slot)) }

var tamperings = []tampering{
	{"delete a string", kindString, present, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.Del(ctx, k.name).Err()
	}, Verdict{Lost: 1}},
	{"write an older string", kindString, rewritten, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.Set(ctx, k.name, value(k, 1), 0).Err()
	}, Verdict{Stale: 1}},
	{"bring a deleted string back", kindString, absent, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.Set(ctx, k.name, value(k, 1), 0).Err()
	}, Verdict{Resurrected: 1}},
	{"write another key's value", kindString, present, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.Set(ctx, k.name, "oracle:0:string:77777|0|5|ffff", 0).Err()
	}, Verdict{Wrong: 1}},
	{"cut a value short in its key", kindString, present, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.SetRange(ctx, k.name, 60, "\x00").Err()
	}, Verdict{Wrong: 1}},
	{"replace a string by a hash", kindString, present, func(ctx context.Context, c *redis.Client, k *key) error {
		c.Del(ctx, k.name)
		return c.HSet(ctx, k.name, "f", "v").Err()
	}, Verdict{Wrong: 1}},
	{"give a string a TTL", kindString, present, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.Expire(ctx, k.name, time.Hour).Err()
	}, Verdict{WrongTTL: 1}},
	{"drop a TTL", kindTTL, mortal, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.Persist(ctx, k.name).Err()
	}, Verdict{WrongTTL: 1}},
	{"prolong a TTL", kindTTL, mortal, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.Expire(ctx, k.name, c.TTL(ctx, k.name).Val()+5*time.Second).Err()
	}, Verdict{WrongTTL: 1}},
	{"shorten a TTL", kindTTL, mortal, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.Expire(ctx, k.name, c.TTL(ctx, k.name).Val()-5*time.Second).Err()
	}, Verdict{WrongTTL: 1}},
	{"bring an expired key back", kindTTL, func(k *key) bool { return k.guess().expired }, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.Set(ctx, k.name, value(k, 1), 0).Err()
	}, Verdict{WrongTTL: 1}},
	{"lose an increment", kindCounter, present, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.Decr(ctx, k.name).Err()
	}, Verdict{Stale: 1}},
	{"add twice", kindCounter, present, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.Incr(ctx, k.name).Err()
	}, Verdict{Wrong: 1}},
	{"delete a hash", kindHash, long, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.Del(ctx, k.name).Err()
	}, Verdict{Lost: 1}},
	{"lose a field, bring back a deleted one", kindHash, partly, func(ctx context.Context, c *redis.Client, k *key) error {
		c.HDel(ctx, k.name, elemName(k, 0))
		return c.HSet(ctx, k.name, elemName(k, 1), value(k, 1)).Err()
	}, Verdict{Lost: 1, Resurrected: 1}},
	{"write an older field", kindHash, partly, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.HSet(ctx, k.name, elemName(k, 0), value(k, 1)).Err()
	}, Verdict{Stale: 1}},
	{"push a popped element", kindList, long, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.LPush(ctx, k.name, value(k, k.guess().elems[0]-1)).Err()
	}, Verdict{Resurrected: 1}},
	{"lose the tail of a list", kindList, long, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.RPop(ctx, k.name).Err()
	}, Verdict{Lost: 1}},
	{"push twice", kindList, long, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.RPush(ctx, k.name, c.LIndex(ctx, k.name, -1).Val()).Err()
	}, Verdict{Wrong: 1}},
	{"lose a member", kindSet, partly, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.SRem(ctx, k.name, elemName(k, 0)).Err()
	}, Verdict{Lost: 1}},
	{"bring a member back", kindSet, partly, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.SAdd(ctx, k.name, elemName(k, 1)).Err()
	}, Verdict{Resurrected: 1}},
	{"add another key's member", kindSet, partly, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.SAdd(ctx, k.name, "oracle:0:set:9|e1").Err()
	}, Verdict{Wrong: 1}},
	{"lower a score", kindZSet, partly, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.ZIncrBy(ctx, k.name, -1, elemName(k, 0)).Err()
	}, Verdict{Stale: 1}},
	{"bring a ranked member back", kindZSet, partly, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.ZAdd(ctx, k.name, redis.Z{Score: 1, Member: elemName(k, 1)}).Err()
	}, Verdict{Resurrected: 1}},
	{"lose an entry", kindStream, long, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.XTrimMaxLen(ctx, k.name, int64(k.guess().count-1)).Err()
	}, Verdict{Lost: 1}},
	{"empty a stream", kindStream, long, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.XTrimMaxLen(ctx, k.name, 0).Err()
	}, Verdict{Lost: 1}},
	{"delete a stream", kindStream, long, func(ctx context.Context, c *redis.Client, k *key) error {
		return c.Del(ctx, k.name).Err()
	}, Verdict{Lost: 1}},
}

// Every tampering is done to one key of a server that was right until then, and
// must be counted once, under its class, and be named with its key.
func TestVerifyCountsEveryTampering(t *testing.T) {
	server := testredis.StartT(t)
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	o := NewOracle(OracleConfig{
		Addr: server.Addr, Clients: 2, Keys: 8000, Pipeline: 10, Rate: 10_000, Seed: seed, IncludeDeletes: true,
	})
	mustPreload(t, o)
	runFor(t, o, 5*time.Second)
	for deadline := time.Now().Add(2 * time.Minute); lacking(o) != "" && time.Now().Before(deadline); {
		runFor(t, o, time.Second)
	}
	if v := verify(t, o); !v.OK() {
		t.Fatalf("before any tampering: %v", v)
	}
	ctx := context.Background()
	var want Verdict
	used := map[*key]bool{}
	for _, tamper := range tamperings {
		k := keyToTamper(o, tamper, used)
		if k == nil {
			t.Fatalf("no key to %s", tamper.what)
		}
		used[k] = true
		if err := tamper.do(ctx, server.Client(), k); err != nil {
			t.Fatalf("%s: %v", tamper.what, err)
		}
		want.Lost += tamper.want.Lost
		want.Stale += tamper.want.Stale
		want.Resurrected += tamper.want.Resurrected
		want.WrongTTL += tamper.want.WrongTTL
		want.Wrong += tamper.want.Wrong
		v := verify(t, o)
		if v.Lost != want.Lost || v.Stale != want.Stale || v.Resurrected != want.Resurrected ||
			v.WrongTTL != want.WrongTTL || v.Wrong != want.Wrong {
			t.Fatalf("after %q to %s the counts must be %+v: %v", tamper.what, k.name, want, v)
		}
		if !strings.Contains(v.String(), "key "+k.name+":") {
			t.Errorf("%s: key %s is not among the examples: %v", tamper.what, k.name, v)
		}
	}
}

// lacking is the first tampering for which there is no key yet; "" if none.
func lacking(o *Oracle) string {
	used := map[*key]bool{}
	for _, tamper := range tamperings {
		k := keyToTamper(o, tamper, used)
		if k == nil {
			return tamper.what
		}
		used[k] = true
	}
	return ""
}

// keyToTamper returns a key that fits and was not used.
func keyToTamper(o *Oracle, tamper tampering, used map[*key]bool) *key {
	for _, c := range o.clients {
		for _, k := range c.keys {
			if k.kind == tamper.kind && !used[k] && tamper.fits(k) && len(k.cands) == 1 {
				return k
			}
		}
	}
	return nil
}

func TestVerifyNeedsAnEndpoint(t *testing.T) {
	server := testredis.StartT(t)
	o := NewOracle(OracleConfig{Addr: server.Addr, Keys: 100})
	mustPreload(t, o)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if v, err := o.Verify(context.Background(), ""); err == nil {
		t.Errorf("nobody listens, and the verdict is %v", v)
	}
}

// Both clients of two databases have keys of the same names.
func TestVerifyTellsDatabasesApart(t *testing.T) {
	server := testredis.StartT(t)
	o := NewOracle(OracleConfig{Addr: server.Addr, Clients: 2, Keys: 20, DBs: []int{0, 1}, Types: []string{"string"}})
	mustPreload(t, o)
	if v := verify(t, o); !v.OK() || v.KeysChecked != 20 {
		t.Fatal(v)
	}
	if err := server.Client().Do(context.Background(), "SWAPDB", 0, 1).Err(); err != nil {
		t.Fatal(err)
	}
	if v := verify(t, o); v.Wrong != 20 || len(v.Examples) != 20 {
		t.Error(v)
	}
}
