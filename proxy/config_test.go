package proxy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/testredis"
	"keyferry/proxy/stats"
)

func do(c *redis.Client, words ...string) (any, error) {
	args := make([]any, len(words))
	for i, w := range words {
		args[i] = w
	}
	return c.Do(context.Background(), args...).Result()
}

// dialOne is a client of one connection that waits long for each reply and asks for none twice.
func dialOne(t *testing.T, addr string, proto int) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, Protocol: proto, DisableIdentity: true, PoolSize: 1, MaxRetries: -1,
		DialTimeout: hangBound, ReadTimeout: hangBound, WriteTimeout: hangBound})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// pairs are a client of a gateway and one of a server, in each version of the protocol.
func pairs(t *testing.T, gateway, server string) iter.Seq2[*redis.Client, *redis.Client] {
	return func(yield func(g, s *redis.Client) bool) {
		for _, proto := range []int{2, 3} {
			if !yield(dialOne(t, gateway, proto), dialOne(t, server, proto)) {
				return
			}
		}
	}
}

// sayTheSame gives commands, words parted by blanks, to a gateway and to a server: both must answer alike.
func sayTheSame(t *testing.T, gateway, server *redis.Client, commands ...string) {
	t.Helper()
	for _, cmd := range commands {
		var words []string
		for i, part := range strings.Split(cmd, "'") { // '' quotes a word with blanks
			if i%2 == 1 {
				words = append(words, part)
			} else {
				words = append(words, strings.Fields(part)...)
			}
		}
		a, errA := do(gateway, words...)
		b, errB := do(server, words...)
		if fmt.Sprint(a, errA) != fmt.Sprint(b, errB) {
			t.Errorf("%s:\n  gateway %v %v\n  server  %v %v", cmd, a, errA, b, errB)
		}
	}
}

// TestConfigLikeRedis: where a setting is Redis's own, so are the answers.
func TestConfigLikeRedis(t *testing.T) {
	srv := testredis.StartT(t)
	_, addr := startProxy(t, srv)
	for g, s := range pairs(t, addr, srv.Addr) {
		sayTheSame(t, g, s,
			"CONFIG", "CONFIG GET", "CONFIG nonsense", "CONFIG HELP", "CONFIG SET", "CONFIG SET maxclients", "CONFIG SET maxclients 5 timeout",
			"CONFIG SET nonsense 1", "CONFIG SET nonsense 1 maxclients 0", "CONFIG SET maxclients x", "CONFIG SET timeout 5 timeout 6",
			"CONFIG SET timeout 1.5", "CONFIG SET slowlog-log-slower-than x", "CONFIG SET client-query-buffer-limit 5q",
			"CONFIG SET client-output-buffer-limit normal", "CONFIG SET client-output-buffer-limit 'foo 0 0 0'", "CONFIG SET client-output-buffer-limit 'normal 1 2 x'",
			"CONFIG SET databases 3", "CONFIG RESETSTAT x", "CONFIG RESETSTAT", "CONFIG REWRITE x",
			"CONFIG SET slowlog-log-slower-than 1234 slowlog-max-len 77", "CONFIG GET slowlog-max-l?n", "CONFIG GET slowlog-max-len",
			"CONFIG SET slowlog-log-slower-than -1", "CONFIG GET slowlog-log-slower-than", "CONFIG SET slowlog-log-slower-than 0", "CONFIG GET slowlog-log-slower-than",
			"CONFIG SET latency-monitor-threshold 55", "CONFIG GET latency-monitor-threshold", "CONFIG GET LATENCY-MONITOR-THRESHOLD",
			"CONFIG SET maxclients 500 timeout 0", "CONFIG GET maxclients", "CONFIG GET timeout", "CONFIG SET client-query-buffer-limit 2mb", "CONFIG GET client-query-buffer-limit",
			"CONFIG SET proto-max-bulk-len 5m", "CONFIG GET proto-max-bulk-len", "CONFIG GET databases", "CONFIG GET nonsense", "CONFIG GET nonsense maxmemory",
			"CONFIG GET maxmemory", "CONFIG GET save", "CONFIG GET appendonly", "CONFIG GET maxmemory-policy", "CONFIG GET notify-keyspace-events",
			"CONFIG SET requirepass ''")
	}
}

// TestConfigSetIsAllOrNothing, seen and followed by every loop.
func TestConfigSetIsAllOrNothing(t *testing.T) {
	s, addr := startProxy(t, testredis.StartT(t))
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	if _, err := do(c, "CONFIG", "SET", "maxclients", "7", "timeout", "-5"); err == nil {
		t.Error("accepted a bad value")
	}
	if _, err := do(c, "CONFIG", "SET", "maxclients", "7", "maxmemory", "5"); err == nil || !strings.Contains(err.Error(), "data servers") {
		t.Error(err)
	}
	if o := s.settings.live.Load(); o.MaxClients != 1000 || o.IdleTimeout != 0 {
		t.Errorf("something was set: %+v", o)
	}
	if _, err := do(c, "CONFIG", "SET", "maxclients", "70", "client-output-buffer-limit", "pubsub 1mb 128kb 7 normal 3mb 2mb 8"); err != nil {
		t.Fatal(err)
	}
	n := 0
	s.each(context.Background(), func(l *loop) {
		n++
		if l.opt.MaxClients != 70 || l.opt.OutputPubSub != (OutputLimit{1 << 20, 128 << 10, 7 * time.Second}) || l.opt.Output != (OutputLimit{3 << 20, 2 << 20, 8 * time.Second}) {
			t.Errorf("loop %d has %+v", l.id, l.opt)
		}
	})
	if n == 0 {
		t.Error("no loop was looked at")
	}
	if v, err := do(c, "CONFIG", "GET", "client-output-buffer-limit"); fmt.Sprint(v) != "[client-output-buffer-limit normal 3145728 2097152 8 slave 0 0 0 pubsub 1048576 131072 7]" {
		t.Error(v, err)
	}
	var refused []string
	for name := range ofServers {
		if _, err := do(c, "CONFIG", "SET", name, "1"); err == nil {
			t.Errorf("%s was accepted", name)
		}
		refused = append(refused, name)
	}
	if len(refused) < 100 {
		t.Errorf("only %d settings of servers are known", len(refused))
	}
}

// TestMaxClientsAndTimeoutAreLive: they apply to those who come, and to those who are there.
func TestMaxClientsAndTimeoutAreLive(t *testing.T) {
	s, addr := startProxy(t, testredis.StartT(t))
	dial := func() *redis.Client { return dialOne(t, addr, 3) }
	one, two, three := dial(), dial(), dial()
	for _, c := range []*redis.Client{one, two} {
		if _, err := do(c, "PING"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := do(one, "CONFIG", "SET", "maxclients", "2"); err != nil {
		t.Fatal(err)
	}
	if _, err := do(three, "PING"); err == nil || s.Stats()[stats.Rejected] == 0 {
		t.Error("a third client: ", err)
	}
	if _, err := do(one, "CONFIG", "SET", "timeout", "1", "maxclients", "100"); err != nil {
		t.Fatal(err)
	}
	conn := two.Conn()
	defer conn.Close()
	id := conn.ClientID(context.Background()).Val()
	for deadline := time.Now().Add(hangBound); ; time.Sleep(50 * time.Millisecond) {
		list, err := do(one, "CLIENT", "LIST")
		if err == nil && !strings.Contains(list.(string), fmt.Sprintf("id=%d ", id)) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the idle client is still there:\n%v %v", list, err)
		}
	}
}

// TestRequirepassIsLive: those who are in stay in, others need it, and no reply has it.
func TestRequirepassIsLive(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t))
	c := dialOne(t, addr, 3)
	if _, err := do(c, "CONFIG", "SET", "slowlog-log-slower-than", "0", "requirepass", "pssst"); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(context.Background(), "k", "v", 0).Err(); err != nil {
		t.Error("the client that set it is locked out: ", err)
	}
	var all strings.Builder
	for _, cmd := range []string{"CONFIG GET *", "CONFIG GET requirepass password", "SLOWLOG GET -1", "CLIENT LIST", "INFO everything"} {
		v, err := do(c, strings.Fields(cmd)...)
		fmt.Fprintln(&all, v, err)
	}
	if strings.Contains(all.String(), "pssst") {
		t.Error("the password is shown:\n", all.String())
	}
	other := dialOne(t, addr, 3)
	if _, err := do(other, "GET", "k"); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
		t.Error(err)
	}
	if _, err := do(c, "CONFIG", "SET", "requirepass", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := do(other, "GET", "k"); err != nil {
		t.Error("after the password was taken away: ", err)
	}
}

// TestResetStats begins to count anew, and what counts for ever goes on.
func TestResetStats(t *testing.T) {
	s, addr := startProxy(t, testredis.StartT(t))
	c := dialOne(t, addr, 3)
	ctx := context.Background()
	for range 5 {
		c.Set(ctx, "k", "v", 0)
	}
	c.LPush(ctx, "k", "v")
	for s.Stats()[stats.Commands] < 6 { // a loop publishes after it has written the reply
		time.Sleep(time.Millisecond)
	}
	before := s.Stats()
	if _, err := do(c, "CONFIG", "RESETSTAT"); err != nil {
		t.Fatal(err)
	}
	if n := s.Stats()[stats.Commands]; n < before[stats.Commands] {
		t.Errorf("%d commands in all, before %d", n, before[stats.Commands])
	}
	c.Get(ctx, "k")
	info := c.Info(ctx, "stats", "commandstats").Val()
	if strings.Contains(info, "cmdstat_set") || !strings.Contains(info, "cmdstat_get:calls=1,") || !strings.Contains(info, "total_error_replies:0\r\n") {
		t.Error(info)
	}
	if e := s.ErrorCounts(ctx); len(e) > 0 {
		t.Errorf("errors %v", e)
	}
}

// TestConfigRewrite gives the owner of the file what was changed and nothing else.
func TestConfigRewrite(t *testing.T) {
	srv := testredis.StartT(t)
	_, addr := startProxy(t, srv)
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	if _, err := do(c, "CONFIG", "REWRITE"); err == nil || err.Error() != "ERR The server is running without a config file" {
		t.Error(err)
	}
	type call struct {
		keys []string
		o    Options
	}
	calls, results := make(chan call, 1), make(chan error, 1)
	_, addr = startProxyWith(t, func(o *Options) {
		o.Rewrite = func(o *Options, keys []string) error {
			calls <- call{keys, *o}
			return <-results
		}
	}, srv)
	c = testredis.NewClient(addr, "", 0)
	defer c.Close()
	if _, err := do(c, "CONFIG", "SET", "timeout", "77", "slowlog.max-len", "5"); err != nil {
		t.Fatal(err)
	}
	results <- errors.New("disk\nfull")
	if _, err := do(c, "CONFIG", "REWRITE"); err == nil || err.Error() != "ERR Rewriting config file: disk; full" {
		t.Error(err)
	}
	<-calls
	results <- nil
	if _, err := do(c, "CONFIG", "REWRITE"); err != nil {
		t.Error(err)
	}
	if got := <-calls; !slices.Equal(got.keys, []string{"clients.idle-timeout", "slowlog.max-len"}) || got.o.IdleTimeout != 77*time.Second || got.o.SlowMax != 5 {
		t.Error(got.keys, got.o.IdleTimeout, got.o.SlowMax)
	}
}

// TestSettingsKeepToOneName: no name means two things.
func TestSettingsKeepToOneName(t *testing.T) {
	seen := make(map[string]int)
	for _, x := range settings {
		seen[x.name]++
		if _, own := ofServers[x.name]; own && x.set != nil {
			t.Errorf("%s is of the servers and can be set", x.name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		if seen[name] > 1 {
			t.Errorf("%s is there %d times", name, seen[name])
		}
	}
}
