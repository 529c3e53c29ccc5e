package proxy

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/router"
	"keyferry/slotlock"
)

// TestElementCursor: it is exact as a double, and 0 is always the end.
func TestElementCursor(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		c := elementCursor{group: r.IntN(topology.MaxGroupNumber + 1), at: 1 + r.Uint64N(1<<(1+r.IntN(41)))}
		v := c.encode()
		if got, ours := parseElementCursor(v); !ours || got != c || v >= 1<<53 {
			t.Fatalf("%+v becomes %d and that %+v, ours: %v", c, v, got, ours)
		}
	}
	if v := (elementCursor{group: 7}).encode(); v != 0 {
		t.Errorf("the end is %d", v)
	}
	for _, v := range []uint64{1, 1 << 41, 1<<52 - 1, 1 << 53, 1<<64 - 1} {
		if c, ours := parseElementCursor(v); ours || c.at != v {
			t.Errorf("%d, which a server gave, is %+v", v, c)
		}
	}
}

// TestElementScanOverAMove: a client that scans a large key is given each element, however often
// the key moves meanwhile. The servers' hash tables are in different orders.
func TestElementScanOverAMove(t *testing.T) {
	servers := []*testredis.Server{testredis.StartT(t), testredis.StartT(t)}
	s, addr := startProxy(t, servers...)
	epoch := uint64(1)
	// home has all slots at one group. The key is taken there by hand, since no job runs here.
	home := func(key string, group int) {
		epoch++
		st := topology.NewState("redis", 16384, 16)
		st.Epoch = epoch
		for i, s := range servers {
			_ = st.AddGroup(topology.Group{ID: fmt.Sprintf("g%d", i), Endpoint: topology.Endpoint{Addr: s.Addr}})
		}
		_ = st.AssignSlots(topology.Range{First: 0, Last: 16383}, fmt.Sprintf("g%d", group))
		table, err := router.Build(st.Topology, router.View{Locks: func(string) (*slotlock.Table, *slotlock.Whole) { return nil, nil }})
		if err != nil {
			t.Fatal(err)
		}
		from, to := servers[1-group].Client(), servers[group].Client()
		if dump, err := from.Dump(t.Context(), key).Result(); err == nil {
			if err := to.Restore(t.Context(), key, 0, dump).Err(); err != nil {
				t.Fatal(err)
			}
			from.Del(t.Context(), key)
		}
		if _, err := s.Apply(t.Context(), table); err != nil {
			t.Fatal(err)
		}
	}
	const elements = 3000
	for name, add := range map[string]string{"HSCAN": "HSET k e%d v", "SSCAN": "SADD k e%d", "ZSCAN": "ZADD k 1 e%d",
		"HSCAN in MULTI": "HSET k e%d v", "SSCAN in MULTI": "SADD k e%d", "ZSCAN in MULTI": "ZADD k 1 e%d"} {
		command, multi := name[:5], strings.HasSuffix(name, "MULTI")
		t.Run(name, func(t *testing.T) {
			home("k", 0)
			c := testredis.NewClient(addr, "", 0)
			defer c.Close()
			pipe := c.Pipeline()
			pipe.Del(t.Context(), "k")
			for i := range elements {
				var args []any
				for _, a := range strings.Fields(fmt.Sprintf(add, i)) {
					args = append(args, a)
				}
				pipe.Do(t.Context(), args...)
			}
			if _, err := pipe.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			seen := make(map[string]bool)
			cursor, group := "0", 0
			for page := 0; page == 0 || cursor != "0"; page++ {
				if page == 10_000 {
					t.Fatal("it has no end")
				}
				if page == 40 || page == 100 || page == 130 {
					group = 1 - group
					home("k", group)
				}
				var reply []any
				if multi {
					reply = scanInMulti(t, c, command, cursor)
				} else {
					reply, _ = c.Do(t.Context(), command, "k", cursor, "COUNT", 20).Slice()
				}
				if len(reply) != 2 {
					t.Fatalf("%v", reply)
				}
				cursor = reply[0].(string)
				if v, _ := strconv.ParseUint(cursor, 10, 64); v >= 1<<53 {
					t.Fatalf("cursor %s", cursor)
				}
				for i, e := range reply[1].([]any) {
					if command == "SSCAN" || i%2 == 0 {
						seen[e.(string)] = true
					}
				}
			}
			if len(seen) != elements {
				t.Errorf("%d of %d elements were returned", len(seen), elements)
			}
		})
	}
}

// scanInMulti is a step of a scan in a transaction, which has another one that begins and commands
// around them.
func scanInMulti(t *testing.T, c *redis.Client, command, cursor string) []any {
	tx := c.TxPipeline()
	tx.Do(t.Context(), "EXISTS", "k")
	begins := tx.Do(t.Context(), command, "k", "0", "COUNT", 1)
	goesOn := tx.Do(t.Context(), command, "k", cursor, "COUNT", 20)
	last := tx.Do(t.Context(), "ECHO", "last")
	if _, err := tx.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	if first, _ := begins.Slice(); len(first) != 2 || first[0] == "0" {
		t.Fatalf("a scan that begins: %v", first)
	}
	if last.Val() != "last" {
		t.Fatalf("behind the scans: %v", last.Val())
	}
	reply, _ := goesOn.Slice()
	return reply
}
