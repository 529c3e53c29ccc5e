package proxy

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/testredis"
)

// infoOf gives sections in their order, each with its fields.
func infoOf(t *testing.T, c *redis.Client, args ...string) (order []string, fields map[string]map[string]string) {
	t.Helper()
	v, err := do(c, append([]string{"INFO"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	fields = make(map[string]map[string]string)
	for i, part := range strings.Split(v.(string), "# ") {
		if i == 0 {
			continue
		}
		name, rest, _ := strings.Cut(part, "\r\n")
		order = append(order, name)
		fields[name] = make(map[string]string)
		for line := range strings.SplitSeq(rest, "\r\n") {
			if key, value, ok := strings.Cut(line, ":"); ok {
				fields[name][key] = value
			}
		}
	}
	return order, fields
}

// TestInfoSectionsLikeRedis: the sections that a server gives for the same request, in its
// order, and ours behind them; of its fields those that mean anything of a gateway.
func TestInfoSectionsLikeRedis(t *testing.T) {
	srv := testredis.StartT(t)
	_, addr := startProxy(t, srv)
	g, s := testredis.NewClient(addr, "", 0), testredis.NewClient(srv.Addr, "", 0)
	defer g.Close()
	defer s.Close()
	ours := []string{"Gateway", "Groups", "Slots", "Migration"}
	for _, args := range [][]string{nil, {"default"}, {"all"}, {"everything"}, {"server"}, {"SERVER", "clients"}, {"nonsense"}, {"cpu", "nonsense", "keyspace"}, {"keyspace", "default"},
		{"commandstats"}, {"default", "latencystats"}, {"modules"}, {"errorstats", "cluster", "stats", "memory", "replication", "persistence"}} {
		mine, _ := infoOf(t, g, args...)
		theirs, _ := infoOf(t, s, args...)
		mine = slices.DeleteFunc(mine, func(x string) bool { return slices.Contains(ours, x) })
		if !slices.Equal(mine, theirs) {
			t.Errorf("INFO %v: gateway %v, server %v", args, mine, theirs)
		}
	}
	_, mine := infoOf(t, g, "everything")
	_, theirs := infoOf(t, s, "everything")
	// What only a process with data has.
	not := regexp.MustCompile(`^(mem_|used_memory_|allocator_|maxmemory|rss_overhead|rdb_|aof_|current_|module_fork|active_defrag|lazyfree|io_thread|reply_buffer|dump_payload|slave_expires|migrate_cached|` +
		`total_(reads|writes|active_defrag|eviction|net_repl|io_thr)|instantaneous_.*_repl|expired?_(stale|time|cycle)|used_cpu_.*_main|number_of_(functions|libraries)|lru_clock|gcc_version|monotonic_clock|atomicvar_api|master_sync|cmdstat_|latency_percentiles|errorstat_|db\d)`)
	for name, fields := range theirs {
		for _, key := range slices.Sorted(maps.Keys(fields)) {
			if _, have := mine[name][key]; !have && !not.MatchString(key) {
				t.Errorf("%s has no %s (%s)", name, key, fields[key])
			}
		}
	}
	for _, key := range []string{"used_memory_human", "mem_fragmentation_ratio", "maxmemory_policy", "used_memory_peak", "mem_not_counted_for_evict", "used_memory_dataset",
		"used_memory_dataset_perc", "used_memory_overhead", "mem_allocator", "number_of_functions", "number_of_libraries", "lazyfreed_objects", "lazyfree_pending_objects"} {
		if mine["Memory"][key] == "" {
			t.Errorf("Memory has no %s", key)
		}
	}
	if v := g.Info(context.Background()).Val(); strings.HasSuffix(v, "\r\n\r\n") || strings.Contains(strings.ReplaceAll(v, "\r\n", ""), "\n") {
		t.Errorf("form of the text: %q", v)
	}
}

// TestInfoKeyspace is the sum of the groups; one that is silent is left out, and one that
// was restarted is in again.
func TestInfoKeyspace(t *testing.T) {
	one, two := testredis.StartT(t), testredis.StartT(t)
	_, addr := startProxy(t, one, two)
	ctx := context.Background()
	for db, n := range map[int]int{0: 100, 5: 30} {
		c := testredis.NewClient(addr, "", db)
		defer c.Close()
		for i := range n {
			ttl := time.Duration(0)
			if i%2 == 0 {
				ttl = time.Hour
			}
			if err := c.Set(ctx, fmt.Sprint("k", i), "v", ttl).Err(); err != nil {
				t.Fatal(err)
			}
		}
		c.Get(ctx, "k1")
		c.Get(ctx, "nothing")
	}
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	// A server has a second to answer, and where the machine is busy one may need more.
	var ks, stats map[string]string
	await := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(hangBound); ; {
			_, f := infoOf(t, c, "keyspace", "stats")
			if ks, stats = f["Keyspace"], f["Stats"]; is() {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %v %v", what, ks, stats)
			}
		}
	}
	await("the sum of both", func() bool {
		return len(ks) == 2 && strings.HasPrefix(ks["db0"], "keys=100,expires=50,avg_ttl=") && strings.HasPrefix(ks["db5"], "keys=30,expires=15,avg_ttl=") &&
			stats["keyspace_hits"] == "2" && stats["keyspace_misses"] == "2"
	})
	if err := one.Pause(); err != nil {
		t.Fatal(err)
	}
	await("with a silent server", func() bool { return len(ks) == 2 && !strings.HasPrefix(ks["db0"], "keys=100,") })
	if err := one.Continue(); err != nil {
		t.Fatal(err)
	}
	two.ClientDB(0).Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
	await("again", func() bool { return strings.HasPrefix(ks["db0"], "keys=100,expires=50,") })
}

// TestInfoCountsClients: what clients do shows.
func TestInfoCountsClients(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t))
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	for _, cmd := range []string{"BLPOP nothing 0\n", "BLPOP nothing 1000\n", "SUBSCRIBE a b\n", "PSUBSCRIBE p*\n", "WATCH k\n", "HELLO 3\nCLIENT TRACKING ON\nGET k\n"} {
		l := dialLine(t, addr)
		l.send(cmd)
	}
	want := map[string]string{"blocked_clients": "2", "clients_in_timeout_table": "1", "pubsub_clients": "2", "watching_clients": "1", "tracking_clients": "1",
		"pubsub_channels": "2", "pubsub_patterns": "1", "tracking_total_keys": "1"}
	for deadline := time.Now().Add(hangBound); ; time.Sleep(10 * time.Millisecond) {
		_, f := infoOf(t, c, "clients", "stats")
		got := make(map[string]string)
		for key := range want {
			got[key] = f["Clients"][key] + f["Stats"][key]
		}
		if maps.Equal(got, want) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

// TestInfoOfLibraries: a library that is at every group is one, and what servers free later is summed.
func TestInfoOfLibraries(t *testing.T) {
	one, two := testredis.StartT(t), testredis.StartT(t)
	_, addr := startProxy(t, one, two)
	ctx := context.Background()
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	if err := c.Do(ctx, "FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)\nredis.register_function('g', function() return 1 end)").Err(); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*testredis.Server{one, two} {
		d := s.Client()
		members := make([]any, 1000) // which a server frees in the background
		for i := range members {
			members[i] = fmt.Sprint("member ", i)
		}
		if err := d.SAdd(ctx, "big", members...).Err(); err != nil {
			t.Fatal(err)
		}
		if err := d.Unlink(ctx, "big").Err(); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(hangBound); ; {
		_, f := infoOf(t, c, "memory")
		m := f["Memory"]
		if m["number_of_libraries"] == "1" && m["number_of_functions"] == "2" && m["lazyfreed_objects"] == "2" && m["lazyfree_pending_objects"] == "0" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%v", m)
		}
	}
}
