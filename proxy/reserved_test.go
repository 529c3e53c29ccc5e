package proxy

import (
	"context"
	"strings"
	"testing"

	"keyferry/internal/testredis"
	"keyferry/router"
)

// TestReservedNames: a client that names a key of the gateway's own is told, by every command and at
// once; nobody is shown one; and names that only look like it are as good as others.
func TestReservedNames(t *testing.T) {
	ctx := context.Background()
	server := testredis.StartT(t)
	_, addr := startProxy(t, server)
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	own := router.ReservedPrefix + "m1"
	for _, args := range [][]any{
		{"SET", own, "v"}, {"GET", own}, {"DEL", own}, {"MSET", "a", "1", own, "2"}, {"MGET", "a", own}, {"EXISTS", own, "a"},
		{"RENAME", own, "a"}, {"COPY", "a", own}, {"EVAL", "return redis.call('set', KEYS[1], 1)", "1", own}, {"EVALSHA", strings.Repeat("0", 40), "1", own},
		{"BLPOP", own, "1"}, {"XREAD", "STREAMS", own, "0"}, {"WATCH", own}, {"OBJECT", "ENCODING", own}, {"SORT", "a", "STORE", own},
		{"ZUNIONSTORE", own, "1", "a"}, {"BITOP", "AND", own, "a"}, {"GEORADIUS", "a", "1", "1", "1", "m", "STORE", own}, {"RESTORE", own, "0", "x"},
	} {
		if err := c.Do(ctx, args...).Err(); err == nil || !strings.Contains(err.Error(), "reserved for the gateway") || !strings.Contains(err.Error(), router.ReservedPrefix) {
			t.Errorf("%v: %v", args, err)
		}
	}
	if n := server.Client().DBSize(ctx).Val(); n != 0 {
		t.Errorf("%d keys are at the server", n)
	}
	tx := dialLine(t, addr)
	tx.send("MULTI\nSET a 1\nSET " + own + " 2\nEXEC\n")
	tx.expect("+OK", "+QUEUED", "-"+reservedText, "-EXECABORT Transaction discarded because of previous errors.")

	// What the gateway has at a server is shown to nobody.
	c.Set(ctx, "keyferry:preflight:m1", "v", 0)
	c.Set(ctx, "__keyferry__", "v", 0)
	server.Client().Set(ctx, own, "1", 0)
	keys, _, err := c.Scan(ctx, 0, "", 1000).Result()
	if all := c.Keys(ctx, "*").Val(); err != nil || len(keys) != 2 || len(all) != 2 {
		t.Errorf("SCAN %q, KEYS %q, %v", keys, all, err)
	}
	for range 20 {
		if k := c.RandomKey(ctx).Val(); k == own {
			t.Errorf("RANDOMKEY gives %q", k)
		}
	}
	bcast := dialLine(t, addr)
	bcast.send("HELLO 3\n")
	for bcast.line() != "$7" || bcast.line() != "modules" {
	}
	bcast.expect("*0")
	bcast.send("CLIENT TRACKING ON BCAST\n")
	bcast.expect("+OK")
	server.Client().Incr(ctx, own)
	server.Client().Set(ctx, "k", "v", 0)
	bcast.expect(">2", "$10", "invalidate", "*1", "$1", "k")
}
