package resp

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Replies as the tests compare them: status and redisError, string for a bulk, int64,
// nil, []any. The kinds are apart because clients tell them apart.
type (
	status     string
	redisError string
)

// oracle is a connection to a real server, which is asked what it would do.
type oracle struct {
	conn net.Conn
	in   *bufio.Reader
}

func newOracle(t testing.TB) *oracle {
	t.Helper()
	conn, err := net.Dial("unix", redisAt(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &oracle{conn, bufio.NewReader(conn)}
}

func (o *oracle) do(t fatalf, args ...string) any {
	t.Helper()
	_ = o.conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := o.conn.Write(AppendRequest(nil, argv(args)...)); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	v, err := readValue(o.in)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return v
}

func argv(words []string) [][]byte {
	var args [][]byte
	for _, w := range words {
		args = append(args, []byte(w))
	}
	return args
}

func readValue(in *bufio.Reader) (any, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	text := strings.TrimSuffix(line[1:], "\r\n")
	switch line[0] {
	case '+':
		return status(text), nil
	case '-':
		return redisError(text), nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil || line[0] == ':':
		return n, err
	case n < 0:
		return nil, nil
	case line[0] == '$':
		b := make([]byte, n+2)
		_, err := io.ReadFull(in, b)
		return string(b[:n]), err
	case line[0] != '*':
		return nil, fmt.Errorf("%q is not RESP2", line)
	}
	list := make([]any, n)
	for i := range list {
		if list[i], err = readValue(in); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// parse reads one reply that the package made, and that must be all there is.
func parse(t fatalf, reply []byte) any {
	t.Helper()
	in := bufio.NewReader(strings.NewReader(string(reply)))
	v, err := readValue(in)
	if err != nil {
		t.Fatalf("%q: %v", reply, err)
	}
	if rest, _ := io.ReadAll(in); len(rest) > 0 {
		t.Fatalf("%q behind the reply", rest)
	}
	return v
}

// eachRow calls f for every row, subcommands included.
func eachRow(f func(*Command)) {
	for _, c := range Commands {
		f(c)
		for _, s := range c.Subs {
			f(s)
		}
	}
}

// after70 are the rows that Redis 7.0 does not have.
var after70 = map[string]string{
	"client|no-touch": "7.2.0", "client|setinfo": "7.2.0", "cluster|myshardid": "7.2.0", "waitaof": "7.2.0",
	"hexpire": "7.4.0", "hexpireat": "7.4.0", "hexpiretime": "7.4.0", "hpersist": "7.4.0", "hpexpire": "7.4.0",
	"hpexpireat": "7.4.0", "hpexpiretime": "7.4.0", "hpttl": "7.4.0", "httl": "7.4.0",
}

// arities72 are the arities that Redis 7.2 has other than 7.0: WITHSCORE came, and a command
// without arguments can be asked for its keys. 7.4, 8.0 and Valkey have no further ones. What is
// too much for an older server it says itself.
var arities72 = map[string]int64{"zrank": -3, "zrevrank": -3, "command|getkeys": -3, "command|getkeysandflags": -3}

// arities70 are the arities of these rows in 7.0.
var arities70 = map[string]int{"zrank": 3, "zrevrank": 3, "command|getkeys": -4, "command|getkeysandflags": -4}

// arity72 puts the arity of 7.2 into a row of COMMAND.
func arity72(row []any) {
	if n, other := arities72[row[0].(string)]; other {
		row[1] = n
	}
}

// TestAritiesOf72: what 7.2 and later servers take is not refused by the table.
func TestAritiesOf72(t *testing.T) {
	for _, line := range []string{"ZRANK z m", "ZRANK z m WITHSCORE", "ZREVRANK z m WITHSCORE", "COMMAND GETKEYS PING", "COMMAND GETKEYS ZRANK z m WITHSCORE", "COMMAND GETKEYSANDFLAGS PING",
		"WAITAOF 1 0 0", "CLIENT NO-TOUCH on", "CLIENT SETINFO lib-name x", "HEXPIRE h 9 NX FIELDS 1 f", "HSCAN h 0 NOVALUES", "XREAD STREAMS s +", "CLIENT KILL MAXAGE 9"} {
		if _, bad := Resolve(bytes.Fields([]byte(line))); bad != "" {
			t.Errorf("%s: %s", line, bad)
		}
	}
	for _, line := range []string{"ZRANK z", "ZREVRANK z", "COMMAND GETKEYS", "COMMAND GETKEYSANDFLAGS", "HEXPIRE h 9 FIELDS"} {
		if _, bad := Resolve(bytes.Fields([]byte(line))); !strings.Contains(bad, "wrong number of arguments") {
			t.Errorf("%s: %q", line, bad)
		}
	}
}

func TestRowsAreThoseOfRedis(t *testing.T) {
	o := newOracle(t)
	theirs := map[string]bool{}
	var walk func(list []any)
	walk = func(list []any) {
		for _, v := range list {
			row := v.([]any)
			arity72(row)
			name := row[0].(string)
			theirs[name] = true
			top, sub, has := strings.Cut(name, "|")
			c := Lookup([]byte(top))
			if c != nil && has {
				c = c.Sub([]byte(sub))
			}
			if c == nil {
				t.Errorf("%s is missing", name)
				continue
			}
			var names []string
			for _, f := range row[2].([]any) {
				names = append(names, string(f.(status)))
			}
			got := []any{int64(c.Arity), int64(c.FirstKey), int64(c.LastKey), int64(c.KeyStep)}
			if diff := cmp.Diff([]any{row[1], row[3], row[4], row[5]}, got); diff != "" {
				t.Errorf("%s: arity, first, last, step: -redis +ours\n%s", name, diff)
			}
			var flags Flag
			for _, n := range names {
				if flagNames[n] == 0 {
					t.Errorf("%s: no Flag for %s", name, n)
				}
				flags |= flagNames[n]
			}
			if flags != c.Flags {
				t.Errorf("%s: flags %b, of redis %b", name, c.Flags, flags)
			}
			walk(row[9].([]any))
		}
	}
	walk(o.do(t, "COMMAND").([]any))
	eachRow(func(c *Command) {
		if since, later := after70[c.Name]; later == theirs[c.Name] {
			t.Errorf("%s: of 7.0 %v, listed as later %v", c.Name, theirs[c.Name], later)
		} else if later && since != c.Since {
			t.Errorf("%s: since %s, not %s", c.Name, c.Since, since)
		}
	})
}

func TestTableIsWellFormed(t *testing.T) {
	checkRows(t)
	eachRow(func(c *Command) {
		if c.Serve.ByKey() && c.find == noKeys && !strings.HasPrefix(c.Name, "wait") {
			t.Errorf("%s is routed by keys and has none", c.Name)
		}
		if c.Flags&Blocking != 0 && c.Serve != Blocks {
			t.Errorf("%s may block a shared connection", c.Name)
		}
		if c.Since == "" || c.Group == "" || c.Summary == "" {
			t.Errorf("%s is not documented", c.Name)
		}
	})
}

// TestServe writes out what needs more than a slot, and what of the commands with keys is
// Refused: a change of the data must be meant.
func TestServe(t *testing.T) {
	want := map[Serve]string{
		SplitMGet: "mget", SplitMSet: "mset", SplitSum: "del exists touch unlink",
		Refused:     "migrate restore-asking",
		Transaction: "discard exec multi unwatch watch",
		Blocks:      "blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin wait waitaof xread xreadgroup",
		Script:      "eval eval_ro evalsha evalsha_ro fcall fcall_ro",
		Sort:        "sort sort_ro",
	}
	got := map[Serve][]string{}
	eachRow(func(c *Command) {
		if c.Serve != Keyed && (c.Serve != Refused || c.find != noKeys) {
			got[c.Serve] = append(got[c.Serve], c.Name)
		}
	})
	for serve, names := range want {
		if diff := cmp.Diff(strings.Fields(names), got[serve]); diff != "" {
			t.Errorf("serve %d: -want +got\n%s", serve, diff)
		}
	}
}

func TestUnknownNames(t *testing.T) {
	for _, name := range []string{"", "ge", "gett", "get\x00", "\x00get", "g\x00et", "ge\xf4", "GE\x14", "sentinel", "client|id",
		"georadiusbymember_r", "georadiusbymember_rox", "georadiusbymember\x7fro", strings.Repeat("g", 300)} {
		if c := Lookup([]byte(name)); c != nil {
			t.Errorf("%q finds %s", name, c.Name)
		}
	}
	for _, sub := range []string{"", "i", "idd", "id\x00", "client|id", "no\revict"} {
		if c := Lookup([]byte("client")).Sub([]byte(sub)); c != nil {
			t.Errorf("CLIENT %q finds %s", sub, c.Name)
		}
	}
	if c := Lookup([]byte("get")).Sub([]byte("get")); c != nil {
		t.Errorf("GET has the subcommand %s", c.Name)
	}
}

// checkResolve compares with a server what is wrong with a request. Only requests that
// are wrong may be given: the server executes the others.
func checkResolve(t fatalf, o *oracle, args []string) {
	t.Helper()
	c, bad := Resolve(argv(args))
	if bad == "" || c != nil && strings.HasPrefix(bad, "ERR unknown") {
		t.Fatalf("%q resolves to %+v, %q", args, c, bad)
	}
	if diff := cmp.Diff(o.do(t, args...), parse(t, AppendErr(nil, bad))); diff != "" {
		t.Fatalf("%q: -redis +ours\n%s", args, diff)
	}
}

func TestErrorsOfResolveAreRedis(t *testing.T) {
	o := newOracle(t)
	long := strings.Repeat("0123456789", 20)
	for _, args := range [][]string{
		{"foo"}, {"foo", "a", "b"}, {"FOO", ""}, {""}, {"", ""}, {long}, {long, long, "b"}, {"foo", long[:127]},
		{"foo", long[:124], "b"}, {"foo", long[:125], "b"}, {"foo", long[:126], "bcd"}, {"foo", long[:120], "bcd", "e", "f"},
		{"foo\r\nbar", "a\nb"}, {"foo\x00bar", "a\x00b", "c"}, {"\xff\xfe", "\xe4\xb8"}, {"foo", strings.Repeat("é", 100)},
		{strings.Repeat("é", 100)}, {"client|id"}, {"sentinel", "masters"}, {"get"}, {"GET", "a", "b"}, {"Set", "a"},
		{"client"}, {"CLIENT", "foo"}, {"client", ""}, {"client", "a|b"}, {"client", "id|"}, {"client", "a\x00x"},
		{"cLiEnT", strings.Repeat("é", 100)}, {"client", long}, {"client", "a\r\nb"}, {"client", "ID", "x"},
		{"client", "SetName"}, {"object", "Encoding"}, {"object", "foo", "k"}, {"xgroup"}, {"xinfo", "Stream"},
		{"command", "foo"}, {"command", "count", "x"}, {"config", "nope"}, {"memory", "usage"},
		{"mset"}, {"mset", "a"}, {"mset", "a", "1", "b"}, {"MSETNX", "a", "1", "b"}, {"mset", "a", "1", "b", "2", "c"},
	} {
		checkResolve(t, o, args)
	}
	eachRow(func(c *Command) {
		args := strings.Split(c.Name, "|")
		n := c.Arity
		if n < 0 {
			n = -n - 1 // one too few
		} else {
			n++ // one too many
		}
		for len(args) < n {
			args = append(args, "x")
		}
		_, later := after70[c.Name]
		if len(args) == n && !later && (c.Subs == nil || n < 2) {
			checkResolve(t, o, args)
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.OneOf(rapid.String(), rapid.StringOfN(rapid.RuneFrom([]rune("ab\r\n\x00é")), 0, 150, -1))
		args := append([]string{"no" + word.Draw(t, "name")}, rapid.SliceOfN(word, 0, 8).Draw(t, "args")...)
		if rapid.Bool().Draw(t, "sub") {
			args = append([]string{"client"}, args...)
		}
		checkResolve(t, o, args)
	})
}

func TestBlocksNow(t *testing.T) {
	for _, tc := range []struct {
		request string
		want    bool
	}{
		{"get k", false}, {"blpop k 0", true}, {"blpop k 0.1", true}, {"brpop k 0", true}, {"blmove a b left left 0", true},
		{"brpoplpush a b 0", true}, {"blmpop 0 1 k left", true}, {"bzpopmin k 0", true}, {"bzpopmax k 0", true},
		{"bzmpop 0 1 k min", true}, {"lmpop 1 k left", false},
		{"xread streams k 0", false}, {"xread count 1 streams k 0", false}, {"XREAD BLOCK 0 STREAMS k 0", true},
		{"xread count 1 block 5 streams k 0", true}, {"xread streams block 0", false}, {"xread streams streams block 0 0", false},
		{"xreadgroup group g c streams k >", false}, {"xreadgroup group g c block 0 streams k >", true},
		{"xreadgroup noack block 0 group g c streams k >", true},
		// Groups and consumers may have any name.
		{"xreadgroup group block block streams k >", false}, {"xreadgroup group streams streams block 0 streams k >", true},
		{"xreadgroup group g c noack count 2 block 0 streams k >", true}, {"xread block\x00x 0 streams k 0", true},
	} {
		c, bad := Resolve(argv(strings.Fields(tc.request)))
		if bad != "" {
			t.Fatalf("%s: %s", tc.request, bad)
		}
		if got := BlocksNow(c, argv(strings.Fields(tc.request))); got != tc.want {
			t.Errorf("%s: %v", tc.request, got)
		}
	}
}

func TestResolveAllocatesNothing(t *testing.T) {
	dst := make([]int, 0, 16)
	for _, request := range []string{"GET k", "set k v", "CLIENT SETNAME a-name", "object ENCODING k", "MSET a 1 b 2",
		"XREADGROUP GROUP g c COUNT 1 STREAMS a b > >", "ZUNIONSTORE d 2 a b", "SORT k LIMIT 0 1 STORE d",
		"GEORADIUS k 1 1 1 m STORE d", "georadiusbymember_ro k m 1 m", "EVAL x 1 a"} {
		args := argv(strings.Fields(request))
		if n := testing.AllocsPerRun(100, func() {
			c, bad := Resolve(args)
			if bad != "" {
				t.Fatal(bad)
			}
			if _, err := c.AppendKeys(dst[:0], args); err != nil {
				t.Fatal(err)
			}
			BlocksNow(c, args)
		}); n != 0 {
			t.Errorf("%s: %v allocations", request, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { Lookup([]byte("no-such-command-of-this-length")) }); n != 0 {
		t.Errorf("an unknown name: %v allocations", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, name := range []string{"GET", "set", "HGETALL", "ZRANGEBYSCORE", "GEORADIUSBYMEMBER_RO", "nosuch"} {
		b.Run(name, func(b *testing.B) {
			arg := []byte(name)
			b.ReportAllocs()
			for b.Loop() {
				Lookup(arg)
			}
		})
	}
}

func BenchmarkResolve(b *testing.B) {
	for _, request := range []string{"GET k", "CLIENT SETNAME me", "OBJECT ENCODING k"} {
		b.Run(strings.ReplaceAll(request, " ", "_"), func(b *testing.B) {
			args := argv(strings.Fields(request))
			b.ReportAllocs()
			for b.Loop() {
				Resolve(args)
			}
		})
	}
}
