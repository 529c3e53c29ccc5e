package integration

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
	"keyferry/internal/topology"
)

// wire is a client that shows every byte.
type wire struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func (r *rig) wire() *wire {
	r.t.Helper()
	c, err := net.Dial("tcp", r.listen)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return &wire{r.t, c, bufio.NewReader(c)}
}

// expect sends inline commands and demands exactly these bytes.
func (w *wire) expect(send, want string) {
	w.t.Helper()
	if send != "" {
		if _, err := w.c.Write([]byte(send + "\r\n")); err != nil {
			w.t.Fatal(err)
		}
	}
	_ = w.c.SetReadDeadline(time.Now().Add(time.Minute))
	got := make([]byte, len(want))
	for n := 0; n < len(got); {
		m, err := w.r.Read(got[n:])
		if err != nil {
			w.t.Fatalf("%s: got %q and %v, want %q", send, got[:n], err, want)
		}
		n += m
	}
	if string(got) != want {
		rest, _ := w.r.Peek(w.r.Buffered())
		w.t.Fatalf("%s: got %q…%q, want %q", send, got, rest, want)
	}
}

func (r *rig) restartServer(i int) {
	r.t.Helper()
	if err := r.servers[i].Kill(); err != nil {
		r.t.Fatal(err)
	}
	if err := r.servers[i].Restart(); err != nil {
		r.t.Fatal(err)
	}
}

func invalid(keys ...string) string {
	s := fmt.Sprintf(">2\r\n$10\r\ninvalidate\r\n*%d\r\n", len(keys))
	for _, k := range keys {
		s += fmt.Sprintf("$%d\r\n%s\r\n", len(k), k)
	}
	return s
}

const allInvalid = ">2\r\n$10\r\ninvalidate\r\n_\r\n"

// TestTracking: a client that caches hears of writes, of moves, of FLUSHALL and of servers
// that went away.
func TestTracking(t *testing.T) {
	r := newRig(t, 2)
	ctx := context.Background()
	c := r.client()
	w := r.wire()
	w.expect("HELLO 3", "%7\r\n")
	w.r.Discard(w.r.Buffered())
	w.expect("CLIENT TRACKING ON", "+OK\r\n")
	w.expect("GET k", "_\r\n")
	c.Set(ctx, "k", "1", 0)
	w.expect("", invalid("k"))
	c.Set(ctx, "k", "2", 0) // not read since: no news
	w.expect("GET k", "$1\r\n2\r\n")
	r.proxy("MIGRATE", "0-16383", "TO", "g2")
	r.awaitDone()
	w.expect("", invalid("k"))
	w.expect("GET k", "$1\r\n2\r\n")
	c.Set(ctx, "k", "3", 0)
	w.expect("", invalid("k"))
	c.FlushAll(ctx)
	w.expect("", allInvalid)
	w.expect("CLIENT TRACKING OFF", "+OK\r\n")
	w.expect("CLIENT TRACKING ON OPTIN", "+OK\r\n")
	w.expect("GET a", "_\r\n")
	w.expect("CLIENT CACHING YES", "+OK\r\n")
	w.expect("GET b", "_\r\n")
	c.Set(ctx, "a", "1", 0)
	c.Set(ctx, "b", "1", 0)
	w.expect("", invalid("b"))
	w.expect("CLIENT TRACKING OFF", "+OK\r\n")
	w.expect("CLIENT TRACKING ON BCAST PREFIX u:", "+OK\r\n")
	c.Set(ctx, "v:1", "1", 0)
	c.Set(ctx, "u:1", "1", 0)
	w.expect("", invalid("u:1"))
	w.expect("MULTI", "+OK\r\n")
	w.expect("GET b", "+QUEUED\r\n")
	w.expect("EXEC", "*1\r\n$1\r\n1\r\n")
	r.restartServer(1)
	w.expect("", allInvalid)
	if got := w.replyBehindNews("CLIENT TRACKING ON REDIRECT 999999 BCAST"); !strings.HasPrefix(got, "-ERR The client ID you want redirect to does not exist") {
		t.Errorf("REDIRECT: %q", got)
	}
}

// TestTrackingWhileAServerIsNotHeard: the news of a server stops while its commands go on. What a
// client reads and caches meanwhile, and another changes, is stale: it hears of that when the
// news come again.
func TestTrackingWhileAServerIsNotHeard(t *testing.T) {
	ctx := context.Background()
	server := testredis.StartT(t)
	way, err := faultproxy.New(server.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = way.Close() })
	bare := testrig.Bare(t)
	bare.Start("")
	bare.Proxy("GROUP", "ADD", "g1", way.Addr)
	bare.Proxy("SLOT", "ASSIGN", "0-16383", "g1")
	r := wrap(bare)
	c, w := r.client(), r.wire()
	if err := c.Set(ctx, "k", "1", 0).Err(); err != nil { // before anybody tracks: the news of it might come late
		t.Fatal(err)
	}
	w.expect("HELLO 3", "%7\r\n")
	w.r.Discard(w.r.Buffered())
	w.expect("CLIENT TRACKING ON", "+OK\r\n")
	w.expect("GET k", "$1\r\n1\r\n")
	news := func() (id string) { // of the connection by which the server tells of changes
		for line := range strings.Lines(server.Client().ClientList(ctx).Val()) {
			f := strings.Fields(line)
			for _, word := range f {
				if flags, ok := strings.CutPrefix(word, "flags="); ok && strings.Contains(flags, "t") {
					id = strings.TrimPrefix(f[0], "id=")
				}
			}
		}
		return id
	}
	if err := way.Refuse(true); err != nil {
		t.Fatal(err)
	}
	if err := server.Client().Do(ctx, "CLIENT", "KILL", "ID", news()).Err(); err != nil {
		t.Fatal(err)
	}
	w.expect("", allInvalid)
	w.expect("GET k", "$1\r\n1\r\n")
	if err := c.Set(ctx, "k", "2", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := way.Refuse(false); err != nil {
		t.Fatal(err)
	}
	r.await("the news to come again", func() bool { return news() != "" })
	w.expect("", allInvalid)
	w.expect("GET k", "$1\r\n2\r\n")
	if err := c.Set(ctx, "k", "3", 0).Err(); err != nil {
		t.Fatal(err)
	}
	w.expect("", invalid("k"))
}

// replyBehindNews sends a command and gives the first line that is not of an invalidation: a
// server that starts may be asked before it has loaded its file, and tells of what that writes.
func (w *wire) replyBehindNews(send string) string {
	w.t.Helper()
	if _, err := w.c.Write([]byte(send + "\r\n")); err != nil {
		w.t.Fatal(err)
	}
	line := func() string {
		w.t.Helper()
		_ = w.c.SetReadDeadline(time.Now().Add(time.Minute))
		s, err := w.r.ReadString('\n')
		if err != nil {
			w.t.Fatalf("%s: %q, %v", send, s, err)
		}
		return strings.TrimSuffix(s, "\r\n")
	}
	for {
		first := line()
		if first != ">2" {
			return first
		}
		w.expect("", "$10\r\ninvalidate\r\n")
		n := 0
		if _, err := fmt.Sscanf(line(), "*%d", &n); err != nil {
			continue // null: of all
		}
		for range 2 * n {
			line()
		}
	}
}

// TestScripts: loaded once, run everywhere: on every group, on one that was added later,
// on one that has lost its scripts.
func TestScripts(t *testing.T) {
	r := newRig(t, 2)
	ctx := context.Background()
	c := r.client()
	r.proxy("MIGRATE", "8192-16383", "TO", "g2")
	r.awaitDone()
	low, high := keyInSlots(0, 8191), keyInSlots(8192, 16383)
	sha, err := c.ScriptLoad(ctx, "return redis.call('INCRBY', KEYS[1], ARGV[1])").Result()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.FunctionLoad(ctx, "#!lua name=lib\nredis.register_function('twice', function(keys, args) return 2 * args[1] end)").Err(); err != nil {
		t.Fatal(err)
	}
	run := func(key string, want int) {
		t.Helper()
		if v, err := c.EvalSha(ctx, sha, []string{key}, 5).Int(); err != nil || v != want {
			t.Errorf("EVALSHA on %s: %d, %v", key, v, err)
		}
		if v, err := c.FCall(ctx, "twice", []string{key}, 4).Int(); err != nil || v != 8 {
			t.Errorf("FCALL on %s: %d, %v", key, v, err)
		}
	}
	run(low, 5)
	run(high, 5)
	for _, s := range r.servers { // behind the gateway's back
		if err := s.Client().ScriptFlush(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
	run(low, 10)
	run(high, 10)
	r.restartServer(1)
	r.await("the server to be back", func() bool { return c.Get(ctx, high).Val() == "10" })
	if v, err := c.EvalSha(ctx, sha, []string{high}, 5).Int(); err != nil || v != 15 {
		t.Errorf("EVALSHA after a restart: %d, %v", v, err)
	}
	if got := c.ScriptExists(ctx, sha, strings.Repeat("0", 40)).Val(); fmt.Sprint(got) != "[true false]" {
		t.Errorf("SCRIPT EXISTS: %v", got)
	}
	if _, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Do(ctx, "MULTI")
		p.EvalSha(ctx, sha, []string{low}, 1)
		p.Do(ctx, "EXEC")
		return nil
	}); err != nil {
		t.Error(err)
	}
	if v := c.Get(ctx, low).Val(); v != "11" {
		t.Errorf("after EVALSHA in a transaction: %s", v)
	}
	third := testredis.StartT(t)
	r.proxy("GROUP", "ADD", "g3", third.Addr)
	r.proxy("MIGRATE", "0-8191", "TO", "g3")
	r.awaitDone()
	if v, err := c.EvalSha(ctx, sha, []string{low}, 5).Int(); err != nil || v != 16 {
		t.Errorf("EVALSHA on a new group: %d, %v", v, err)
	}
	if err := c.ScriptFlush(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.EvalSha(ctx, sha, []string{low}, 5).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOSCRIPT") {
		t.Errorf("after SCRIPT FLUSH: %v", err)
	}
}

// TestFlushWhileSlotsMove: a FLUSHALL in the middle of a move leaves nothing that was
// there before, on either side, and the move goes on.
func TestFlushWhileSlotsMove(t *testing.T) {
	r := newRig(t, 2)
	ctx := context.Background()
	c := r.client()
	fill := func() {
		t.Helper()
		for i := 0; i < 20000; i += 1000 {
			p := c.Pipeline()
			for j := range 1000 {
				p.Set(ctx, fmt.Sprint("k", i+j), "x", 0)
			}
			if _, err := p.Exec(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	for round := range 6 {
		fill()
		r.proxy("MIGRATE", "0-16383", "TO", fmt.Sprintf("g%d", 2-round%2))
		r.await("some keys to have moved", func() bool {
			for _, j := range r.jobs() {
				if j.ID == fmt.Sprint("m", round+1) && j.KeysMoved > 500 {
					return true
				}
			}
			return false
		})
		if err := c.FlushAll(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		if n := c.DBSize(ctx).Val(); n != 0 {
			t.Errorf("round %d: %d keys after FLUSHALL", round, n)
		}
		c.Set(ctx, "later", "x", 0)
		r.awaitDone()
		if n, v := c.DBSize(ctx).Val(), c.Get(ctx, "later").Val(); n != 1 || v != "x" {
			t.Errorf("round %d: %d keys, %q", round, n, v)
		}
	}
	r.placesRight()
}

// TestTransactions: what a client sees of MULTI and its kin, byte by byte.
func TestTransactions(t *testing.T) {
	r := newRig(t, 2)
	w := r.wire()
	for _, x := range [][2]string{
		{"EXEC", "-ERR EXEC without MULTI\r\n"}, {"DISCARD", "-ERR DISCARD without MULTI\r\n"}, {"MULTI", "+OK\r\n"},
		{"MULTI", "-ERR MULTI calls can not be nested\r\n"}, {"WATCH a", "-ERR WATCH inside MULTI is not allowed\r\n"},
		{"SET a 1", "+QUEUED\r\n"}, {"INCR a", "+QUEUED\r\n"}, {"LPUSH a x", "+QUEUED\r\n"}, {"BLPOP {a}l 0", "+QUEUED\r\n"},
		{"EXEC", "*4\r\n+OK\r\n:2\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n*-1\r\n"},
		{"MULTI", "+OK\r\n"}, {"SET a", "-ERR wrong number of arguments for 'set' command\r\n"},
		{"EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n"},
		{"MULTI", "+OK\r\n"}, {"GET a", "+QUEUED\r\n"}, {"GET b", "-CROSSSLOT Keys in request don't hash to the same slot\r\n"},
		{"EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n"},
		{"WATCH a", "+OK\r\n"}, {"SET a 5", "+OK\r\n"}, {"MULTI", "+OK\r\n"}, {"GET a", "+QUEUED\r\n"}, {"EXEC", "*-1\r\n"},
		{"WATCH a", "+OK\r\n"}, {"GET a", "$1\r\n5\r\n"}, {"MULTI", "+OK\r\n"}, {"GET a", "+QUEUED\r\n"}, {"EXEC", "*1\r\n$1\r\n5\r\n"},
		{"WATCH a", "+OK\r\n"}, {"SET a 6", "+OK\r\n"}, {"UNWATCH", "+OK\r\n"}, {"MULTI", "+OK\r\n"}, {"GET a", "+QUEUED\r\n"}, {"EXEC", "*1\r\n$1\r\n6\r\n"},
		{"WATCH a", "+OK\r\n"}, {"MULTI", "+OK\r\n"}, {"DISCARD", "+OK\r\n"}, {"MULTI", "+OK\r\n"}, {"EXEC", "*0\r\n"},
		{"MULTI", "+OK\r\n"}, {"SELECT 2", "+QUEUED\r\n"}, {"SET a db2", "+QUEUED\r\n"}, {"EXEC", "*2\r\n+OK\r\n+OK\r\n"},
		{"GET a", "$3\r\ndb2\r\n"}, {"SELECT 0", "+OK\r\n"}, {"GET a", "$1\r\n6\r\n"},
		{"MULTI", "+OK\r\n"}, {"PING", "+QUEUED\r\n"}, {"ECHO x", "+QUEUED\r\n"}, {"EXEC", "*2\r\n+PONG\r\n$1\r\nx\r\n"},
		{"MULTI", "+OK\r\n"}, {"RESET", "+RESET\r\n"}, {"GET a", "$1\r\n6\r\n"},
		{"WATCH a", "+OK\r\n"}, {"WATCH b", "-CROSSSLOT Keys in request don't hash to the same slot\r\n"}, {"UNWATCH", "+OK\r\n"},
	} {
		w.expect(x[0], x[1])
	}
	// All in one packet, and while the slots move.
	block := "MULTI\r\nSET {t}a 1\r\nINCR {t}b\r\nEXEC\r\nGET {t}a\r\n"
	r.proxy("MIGRATE", "0-16383", "TO", "g2")
	for i := range 500 {
		if _, err := w.c.Write([]byte(block)); err != nil {
			t.Fatal(err)
		}
		w.expect("", fmt.Sprintf("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:%d\r\n$1\r\n1\r\n", i+1))
	}
	r.awaitDone()
	// A key that changed place since WATCH: null, never a silent success.
	w.expect("WATCH {t}a", "+OK\r\n")
	r.proxy("MIGRATE", "0-16383", "TO", "g1")
	r.awaitDone()
	w.expect("MULTI", "+OK\r\n")
	w.expect("SET {t}a lost", "+QUEUED\r\n")
	w.expect("EXEC", "*-1\r\n")
}

// TestScriptsWithUnnamedKeys: scripts that use keys of their slot without naming them, as
// job queues do, find them while the slots move.
func TestScriptsWithUnnamedKeys(t *testing.T) {
	r := newRig(t, 2)
	bg := context.Background()
	c := r.client()
	r.fill(8000, 1) // what makes a job take a while
	// Adds to one key that is named, and to another that is not, and says whether they agree.
	script := redis.NewScript(`
		local a = redis.call('INCR', KEYS[1])
		local b = redis.call('INCR', KEYS[1] .. ':' .. (a % 50))
		redis.call('RPUSH', KEYS[1] .. ':log', a)
		return redis.call('LLEN', KEYS[1] .. ':log') == a and a or redis.error_reply('ERR lost at ' .. a)`)
	ctx, stop := context.WithCancel(bg)
	defer stop()
	var wg sync.WaitGroup
	counts := make([]int64, 8)
	for i := range counts {
		key := fmt.Sprintf("{queue%d}", i%4)
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := script.Run(bg, c, []string{key}).Int64(); err != nil {
					t.Errorf("%s: %v", key, err)
					return
				}
				counts[i]++
				time.Sleep(time.Millisecond) // a few thousand runs do, and leave the movers some of the machine
			}
		})
	}
	r.await("scripts to run", func() bool { return c.Exists(bg, "{queue0}", "{queue1}", "{queue2}", "{queue3}").Val() == 4 })
	r.bounce(6)
	stop()
	wg.Wait()
	for i := range 4 {
		key := fmt.Sprintf("{queue%d}", i)
		want := counts[i] + counts[i+4]
		if got, _ := c.Get(bg, key).Int64(); got != want || c.LLen(bg, key+":log").Val() != want {
			t.Errorf("%s is %d with %d in its log after %d runs", key, got, c.LLen(bg, key+":log").Val(), want)
		}
	}
	r.placesRight()
}

// TestSortByPatterns: the keys that the patterns of SORT's BY and GET stand for are found while
// the slots move, by a SORT that comes when a slot is half moved, and in transactions.
func TestSortByPatterns(t *testing.T) {
	r := newRig(t, 2)
	bg := context.Background()
	c := r.client()
	const lists, each = 6, 40
	r.fill(5000, 1)
	fill := c.Pipeline()
	var want, stored []string
	for i := range each {
		want = append(want, fmt.Sprint("name", each-1-i), fmt.Sprint(each-1-i))
		stored = append(stored, fmt.Sprint("name", i))
		for n := range lists {
			fill.RPush(bg, fmt.Sprintf("{list%d}", n), i)
			fill.Set(bg, fmt.Sprintf("{list%d}:weight:%d", n, i), 1000-i, 0)
			fill.HSet(bg, fmt.Sprintf("{list%d}:%d", n, i), "name", fmt.Sprint("name", i))
		}
	}
	if _, err := fill.Exec(bg); err != nil {
		t.Fatal(err)
	}
	sorted := func(n int) error {
		key := fmt.Sprintf("{list%d}", n)
		by := &redis.Sort{By: key + ":weight:*", Get: []string{key + ":*->name", "#"}}
		if got, err := c.Sort(bg, key, by).Result(); err != nil || !slices.Equal(got, want) {
			return fmt.Errorf("%s: %q, %v", key, got, err)
		}
		var list *redis.StringSliceCmd
		_, err := c.TxPipelined(bg, func(p redis.Pipeliner) error {
			p.SortStore(bg, key, key+"-sorted", &redis.Sort{By: key + ":weight:*", Order: "DESC", Get: by.Get[:1]})
			list = p.LRange(bg, key+"-sorted", 0, -1)
			return nil
		})
		if err != nil || !slices.Equal(list.Val(), stored) {
			return fmt.Errorf("%s, stored: %q, %v", key, list.Val(), err)
		}
		return nil
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "200")
	r.awaitMoved(200)
	for n := range lists / 2 {
		if err := sorted(n); err != nil {
			t.Fatal(err)
		}
	}
	if j := r.jobs()[0]; j.Phase != topology.Bulk {
		t.Fatalf("the SORTs came in phase %s: that shows nothing", j.Phase)
	}
	r.proxy("MIGRATION", "LIMIT", "m1", "RATE", "0")
	r.awaitDone()
	ctx, stop := context.WithCancel(bg)
	defer stop()
	var wg sync.WaitGroup
	for n := range lists {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := sorted(n); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g1")
	r.awaitDone()
	r.bounce(2)
	stop()
	wg.Wait()
	r.placesRight()
}
