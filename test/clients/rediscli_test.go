package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
)

const stable = 3000 // keys that are there all the time

// TestRedisCLI: each mode of redis-cli, again and again.
func TestRedisCLI(t *testing.T) {
	r := newRig(t)
	for _, s := range r.Servers { // for --hotkeys; nothing is evicted, since there is no maxmemory
		if err := s.Client().ConfigSet(bg, "maxmemory-policy", "volatile-lfu").Err(); err != nil {
			t.Fatal(err)
		}
	}
	ballast(t, r, stable)
	for _, big := range []string{"RPUSH big:list", "SADD big:set", "ZADD big:zset", "HSET big:hash"} {
		args := strings.Fields(big)
		var in strings.Builder
		for i := range 400 {
			fmt.Fprintf(&in, "%s %s %d %d\n", args[0], args[1], i, i)
		}
		cli(t, r, in.String())
	}
	stop := r.KeepMoving()
	modes := []struct {
		name string
		f    func(*testing.T, *testrig.Rig)
	}{
		{"commands on stdin", cliCommands}, {"terminal", cliTerminal}, {"pipe", cliPipe}, {"scan", cliScan}, {"bigkeys", cliBigKeys},
		{"memkeys", cliMemKeys}, {"hotkeys", cliHotKeys}, {"stat", cliStat}, {"latency", cliLatency}, {"eval", cliEval}, {"subscribe", cliSubscribe},
		{"cluster mode", cliClusterMode}, {"cluster manager", cliClusterManager}, {"formats", cliFormats}, {"arguments from stdin", cliStdin},
		{"lru-test", cliLRUTest},
	}
	rounds := 0
	for end := time.Now().Add(*runFor); (rounds == 0 || time.Now().Before(end)) && !t.Failed(); rounds++ {
		for _, m := range modes {
			if !t.Run(m.name, func(t *testing.T) { m.f(t, r) }) {
				break
			}
		}
	}
	t.Logf("%d rounds, %d migrations", rounds, stop())
	r.PlacesRight()
}

// cliBound ends what hangs; it is no expectation of speed.
const cliBound = 5 * time.Minute

// cli runs redis-cli against the gateway.
func cli(t *testing.T, r *testrig.Rig, input string, args ...string) string {
	t.Helper()
	return run(t, cliBound, input, "redis-cli", append(address(r), args...)...)
}

func address(r *testrig.Rig) []string {
	host, port, _ := strings.Cut(r.Listen, ":")
	return []string{"-h", host, "-p", port}
}

func demand(t *testing.T, what, out string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(out) {
			t.Fatalf("%s: no %q in\n%s", what, p, testrig.Tail(out, 4000))
		}
	}
}

// cliSession is what a person would type.
const cliSession = `set cli:a 1
incr cli:a
get cli:none
mset cli:x 1 cli:y 2 cli:z 3
mget cli:x cli:y cli:z
del cli:x cli:y cli:z
multi
incr cli:a
incr {cli:a}b
exec
del cli:a {cli:a}b
hset cli:h f v
hgetall cli:h
lpush cli:h 1
del cli:h
select 3
set cli:a three
get cli:a
del cli:a
select 0
get cli:a
notacommand
command docs set zadd
`

func cliCommands(t *testing.T, r *testrig.Rig) {
	plain := testredis.StartT(t)
	for _, protocol := range []string{"-2", "-3"} {
		for _, format := range []string{"--raw", "--no-raw", "--csv", "--json"} {
			got := cli(t, r, cliSession, protocol, format)
			want := run(t, cliBound, cliSession, "redis-cli", "-p", strconv.Itoa(plain.Port), protocol, format)
			if got != want {
				t.Fatalf("%s %s: got\n%s\nwant, as a plain Redis does,\n%s", protocol, format, got, want)
			}
		}
	}
	if got := cli(t, r, "", "-r", "50", "incr", "cli:repeat"); strings.Count(got, "\n") != 50 {
		t.Fatalf("-r 50 incr: %q", got)
	}
	cli(t, r, "", "-e", "get", "cli:repeat")
}

func cliTerminal(t *testing.T, r *testrig.Rig) {
	out := terminal(t, r, append([]string{"redis-cli"}, address(r)...), "set cli:t 5", "incr cli:t", "hset cli:th a 1 b 2", "hgetall cli:th", "help set", "del cli:t cli:th", "quit")
	demand(t, "terminal", out, `\(integer\) 6`, `1\) "a"`, `SET key value \[`, `\(integer\) 2`)
}

func cliPipe(t *testing.T, r *testrig.Rig) {
	const n = 20000
	var in strings.Builder
	for i := range n {
		k := fmt.Sprintf("cli:pipe%d", i%2000)
		fmt.Fprintf(&in, "*2\r\n$4\r\nINCR\r\n$%d\r\n%s\r\n", len(k), k)
	}
	demand(t, "--pipe", cli(t, r, in.String(), "--pipe"), fmt.Sprintf("errors: 0, replies: %d\n", n))
	var get strings.Builder
	get.WriteString("mget")
	for i := range 2000 {
		fmt.Fprintf(&get, " cli:pipe%d", i)
	}
	for _, v := range strings.Fields(cli(t, r, get.String()+"\nflushdb_is_not_meant")) {
		if v != "10" {
			if strings.HasPrefix(v, "ERR") {
				break
			}
			t.Fatalf("a counter is %s, want 10", v)
		}
	}
	cli(t, r, strings.Replace(get.String(), "mget", "unlink", 1)+"\n")
}

func cliScan(t *testing.T, r *testrig.Rig) {
	seen := map[string]bool{}
	for _, k := range strings.Fields(cli(t, r, "", "--scan", "--pattern", "ballast:*")) {
		seen[k] = true
	}
	if len(seen) != stable {
		t.Fatalf("--scan saw %d of %d keys", len(seen), stable)
	}
}

func cliBigKeys(t *testing.T, r *testrig.Rig) {
	demand(t, "--bigkeys", cli(t, r, "", "--bigkeys"), `Biggest +list found .*big:list.* has 800 items`, `Biggest +set found .*big:set.* has 400 members`,
		`Biggest +zset found .*big:zset.* has 400 members`, `Biggest +hash found .*big:hash.* has 400 fields`)
}

func cliMemKeys(t *testing.T, r *testrig.Rig) {
	demand(t, "--memkeys", cli(t, r, "", "--memkeys"), `Biggest +list found .*big:list.* has \d+ bytes`, `Biggest +hash found .*big:hash.* has \d+ bytes`)
}

func cliHotKeys(t *testing.T, r *testrig.Rig) {
	// A key whose value is a small integer shares its counter with all of the same value.
	cli(t, r, "set cli:hot x\n"+strings.Repeat("get cli:hot\n", 2000))
	demand(t, "--hotkeys", cli(t, r, "", "--hotkeys"), `hot key found with counter: \d+\tkeyname: "?cli:hot"?\n`)
}

func cliStat(t *testing.T, r *testrig.Rig) {
	s := onScreen(t, append([]string{"redis-cli"}, append(address(r), "--stat", "-i", "0.1")...))
	defer s.kill()
	lines := regexp.MustCompile(`(?m)^\d+ +\d+(\.\d+)?[KMG] +\d+ +\d+ +\d+ \(\+\d+\) +\d+`) // keys mem clients blocked requests connections
	r.Await("five lines of --stat: "+s.text(0), func() bool { return len(lines.FindAllString(s.text(0), -1)) >= 5 })
}

func cliLatency(t *testing.T, r *testrig.Rig) {
	demand(t, "--latency", cli(t, r, "", "--latency", "--raw", "-i", "0.3"), `^\d+ \d+ \d+\.\d+ \d+\n$`)
}

func cliEval(t *testing.T, r *testrig.Rig) {
	file := filepath.Join(t.TempDir(), "script.lua")
	if err := os.WriteFile(file, []byte("redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1]) .. '!'"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := cli(t, r, "", "--eval", file, "cli:eval", ",", "hello"); got != "hello!\n" {
		t.Fatalf("--eval: %q", got)
	}
}

func cliSubscribe(t *testing.T, r *testrig.Rig) {
	var out testrig.Log
	cmd := exec.Command("redis-cli", append(address(r), "--csv", "subscribe", "cli:news")...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	r.Await("the subscription", func() bool { return strings.Contains(out.String(), `"subscribe","cli:news",1`) })
	for i := range 5 {
		if got := cli(t, r, "", "publish", "cli:news", fmt.Sprint("m", i)); got != "1\n" {
			t.Fatalf("publish: %q", got)
		}
	}
	r.Await("the messages", func() bool { return strings.Count(out.String(), `"message","cli:news","m`) == 5 })
}

func cliClusterMode(t *testing.T, r *testrig.Rig) {
	var in, wanted strings.Builder
	for i := range 200 {
		fmt.Fprintf(&in, "set cli:c%d v%d\nget cli:c%d\n", i, i, i)
		fmt.Fprintf(&wanted, "OK\nv%d\n", i)
	}
	if got := cli(t, r, in.String(), "-c"); got != wanted.String() {
		t.Fatalf("-c: got\n%s", got)
	}
}

func cliClusterManager(t *testing.T, r *testrig.Rig) {
	demand(t, "--cluster info", cli(t, r, "", "--cluster", "info", r.Listen), `\[OK\] \d+ keys in 2 masters`)
	demand(t, "--cluster call", cli(t, r, "", "--cluster", "call", r.Listen, "get", "ballast:7"), `(?s)x.*x`)
	demand(t, "--cluster check", cli(t, r, "", "--cluster", "check", r.Listen), `All nodes agree about slots configuration`, `All 16384 slots covered`)
}

func cliFormats(t *testing.T, r *testrig.Rig) {
	cli(t, r, "", "hset", "cli:f", "a", "1", "b", "x y")
	for _, x := range [][2]string{
		{"--csv", "\"a\",\"1\",\"b\",\"x y\"\n"}, {"--json", "{\"a\":\"1\",\"b\":\"x y\"}\n"}, {"--raw", "a\n1\nb\nx y\n"},
		{"--no-raw", "1) \"a\"\n2) \"1\"\n3) \"b\"\n4) \"x y\"\n"},
	} {
		if got := cli(t, r, "", x[0], "hgetall", "cli:f"); got != x[1] {
			t.Fatalf("%s: %q, want %q", x[0], got, x[1])
		}
	}
	if got := cli(t, r, "", "-n", "2", "set", "cli:n", "2"); got != "OK\n" {
		t.Fatalf("-n 2: %q", got)
	}
	if got := cli(t, r, "", "-u", "redis://"+r.Listen+"/2", "get", "cli:n"); got != "2\n" {
		t.Fatalf("-u: %q", got)
	}
}

func cliStdin(t *testing.T, r *testrig.Rig) {
	value := "from\x00stdin\n"
	if got := cli(t, r, value, "-x", "set", "cli:stdin"); got != "OK\n" {
		t.Fatalf("-x: %q", got)
	}
	dump := cli(t, r, "", "-D", "", "--raw", "dump", "cli:stdin")
	if got := cli(t, r, dump, "-X", "tag", "restore", "cli:restored", "0", "tag", "replace"); got != "OK\n" {
		t.Fatalf("-X restore: %q", got)
	}
	if got := cli(t, r, "", "get", "cli:restored"); got != value+"\n" {
		t.Fatalf("restored: %q", got)
	}
}

func cliLRUTest(t *testing.T, r *testrig.Rig) {
	s := onScreen(t, append([]string{"redis-cli"}, append(address(r), "--lru-test", "1000")...))
	defer s.kill()
	r.Await("--lru-test", func() bool { return regexp.MustCompile(`\d+ Gets/sec \| Hits: \d+`).MatchString(s.text(0)) })
}
