package resp

import (
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// keysOf are the keys that AppendKeys finds in a request, in its order.
func keysOf(t fatalf, args []string) (keys []string, ok bool) {
	t.Helper()
	c, bad := Resolve(argv(args))
	if bad != "" {
		t.Fatalf("%q: %s", args, bad)
	}
	at, err := c.AppendKeys(nil, argv(args))
	for _, k := range at {
		keys = append(keys, args[k])
	}
	return keys, err == nil
}

// keysWanted has the keys of each request marked by a '!' before them; '-' before the
// request says that its keys can't be told. The mark is not sent.
var keysWanted = []string{
	"get !k", "SET !k v ex 10", "mget !a !b !a", "mset !a 1 !b 2", "msetnx !a 1 !b 2", "del !a !b", "append !k v", "bitop and !d !a !b",
	"bitfield !k get u8 0", "ping", "ping k", "time", "select 1", "subscribe c", "scan 0", "keys *", "client id", "client setname k",
	"object encoding !k", "memory usage !k samples 5", "xinfo stream !k", "xinfo consumers !k g", "xgroup create !k g $ mkstream",
	"rename !a !b", "copy !a !b db 1", "copy !a !b replace", "lmove !a !b left right", "rpoplpush !a !b", "smove !a !b m", "lcs !a !b len",
	"restore !k 0 payload replace", "dump !k", "expire !k 1 nx", "type !k", "hexpire !k 1 fields 1 f", "httl !k fields 1 f", "hpersist !k fields 1 f",
	"pfmerge !d", "pfmerge !d !a !b", "pfcount !a !b", "sinterstore !d !a !b", "sunion !a", "watch !a !b", "blpop !a !b 0", "bzpopmin !a 0", "blmove !a !b left left 0",
	"blmpop 0 2 !a !b left", "bzmpop 0 1 !a min count 2", "lmpop 2 !a !b left", "zmpop 1 !a max", "sintercard 2 !a !b limit 1",
	"lmpop 3 !a !b !left", "-lmpop 4 a b left", "-lmpop 0 a left", "-lmpop -1 a left", "-lmpop x a left", "-lmpop +1 a left", "-lmpop 01 a left",
	"-lmpop 99999999999999999999 a left", "-lmpop 9223372036854775807 a left", "-lmpop 4294967297 a left", "-sintercard 3 a b",
	"zunion 2 !a !b weights 1 2", "zinter 1 !a withscores", "zdiff 2 !a !b", "zintercard 1 !a limit 3", "zunionstore !d 2 !a !b weights 1 2",
	"zinterstore !d 1 !a aggregate sum", "zdiffstore !d 1 !a", "-zunionstore d 0 a", "-zunionstore d 3 a b", "zrangestore !d !s 0 -1", "geosearchstore !d !s fromlonlat 1 1 byradius 1 m",
	"eval s 0", "eval s 0 a b", "eval s 1 !a b", "evalsha s 2 !a !b c", "eval_ro s 1 !a", "fcall f 1 !a b", "fcall_ro f 0", "-eval s 2 a", "-eval s -1 a",
	"sort !k", "sort !k by nosort get x limit 0 1 desc alpha", "sort !k store !d", "sort !k store a store !d", "sort !k by store get store store !d",
	"sort !k get store", "sort !k limit store store store !d", "sort !k store", "sort !k store !a store", "georadius !k 1 1 1 m store !a storedist", "sort_ro !k by w_* get x",
	"georadius !k 1 1 1 m", "georadius !k 1 1 1 m store !d", "georadius !k 1 1 1 m storedist a count 1 store !d asc", "georadius !k 1 1 1 m store storedist storedist !d",
	"georadius !k 1 1 1 store store !d", "georadiusbymember !k m 1 m storedist !d", "georadiusbymember !k store 1 m", "georadius_ro !k 1 1 1 m count 1", "georadiusbymember_ro !k m 1 m asc",
	"xread streams !a 0", "xread count 2 block 0 streams !a !b 0 0", "xread streams !streams 0", "xread streams !a !streams 0 0",
	"xreadgroup group g c streams !a >", "xreadgroup group streams streams noack streams !a !b > >", "xreadgroup noack group block count streams !a 0",
	"xreadgroup count 1 group g streams streams !k >",
	"-xread count 1 streams a", "-xread streams a b 0", "-xread count streams a 0", "-xread a b c d", "-xreadgroup group g c streams a b 0", "-xread a streams k 0",
	"migrate h 1 !k 0 10", "migrate h 1 !k 0 10 copy replace auth keys", "migrate h 1 !k 0 10 auth2 keys keys", "-migrate h 1 k 0 10 copy keys",
	"-migrate h 1 k 0 10 keys a", "-migrate h 1 k 0 10 auth p keys a b",
	"spublish !c m", "ssubscribe !c !d",
}

func TestAppendKeys(t *testing.T) {
	for _, marked := range keysWanted {
		request, refused := strings.CutPrefix(marked, "-")
		var args, want []string
		for _, w := range strings.Fields(request) {
			key, is := strings.CutPrefix(w, "!")
			args = append(args, key)
			if is {
				want = append(want, key)
			}
		}
		got, ok := keysOf(t, args)
		if ok == refused {
			t.Errorf("%s: told: %v", request, ok)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", request, diff)
		}
	}
	for _, args := range [][]string{
		{"migrate", "h", "1", "", "0", "10", "keys", "a", "keys"}, {"migrate", "h", "1", "", "0", "10", "auth2", "u", "p", "KEYS", "a", "keys"},
	} {
		if got, _ := keysOf(t, args); !slices.Equal(got, []string{"a", "keys"}) {
			t.Errorf("%q: %q", args, got)
		}
	}
}

// checkGetKeys compares what COMMAND GETKEYS says of a request.
func checkGetKeys(t fatalf, o *oracle, args []string) {
	t.Helper()
	theirs := o.do(t, append([]string{"COMMAND", "GETKEYS"}, args...)...)
	if diff := cmp.Diff(theirs, parse(t, AppendGetKeys(nil, argv(args)))); diff != "" {
		t.Fatalf("%q: -redis +ours\n%s", args, diff)
	}
}

// storesAnOption reports whether a SORT stores at a key called like an option. The server
// stores there, but its COMMAND GETKEYS reads the name as the option. We don't.
func storesAnOption(args []string) bool {
	if !strings.EqualFold(args[0], "sort") {
		return false
	}
	for i, a := range args[:len(args)-1] {
		if isOption([]byte(a), "store") && slices.Contains([]string{"limit", "get", "by", "store"}, strings.ToLower(args[i+1])) {
			return true
		}
	}
	return false
}

func TestGetKeysIsRedis(t *testing.T) {
	o := newOracle(t)
	for _, marked := range keysWanted {
		args := strings.Fields(strings.ReplaceAll(strings.TrimPrefix(marked, "-"), "!", ""))
		// See AppendGetKeys.
		if _, later := after70[args[0]]; !later && len(args) > 1 && !strings.HasPrefix(marked, "-lmpop +1") &&
			!strings.HasPrefix(marked, "-lmpop 01") && !strings.HasPrefix(marked, "-lmpop 4294967297") && !storesAnOption(args) {
			checkGetKeys(t, o, args)
		}
	}
	for _, args := range [][]string{
		{"nosuch", "a"}, {"client", "nosuch"}, {"client", "id"}, {"xgroup", "help"}, {"get", "a", "b"}, {"object", "encoding"},
		{"migrate", "h", "1", "", "0", "10", "keys", "a", "b"}, {"migrate", "h", "1", "", "0", "10", "auth", "keys", "keys", "b"},
		{"sunsubscribe", "c"}, {"eval", "s", "x"}, {"mset", "a", "1", "b"}, {"sort", "k", "store\x00x", "d"},
		{"georadius", "k", "1", "1", "1", "m", "store", "a", "storedist", "b", "store", "c"},
	} {
		checkGetKeys(t, o, args)
	}
}

// words is what random requests are made of: options, numbers, keys.
var words = []string{"a", "b", "k", "", "0", "1", "2", "3", "-1", "99999999999", "x", "STORE", "store", "storedist", "Limit", "get", "by", "count",
	"block", "group", "noack", "STREAMS", "streams", "keys", "KEYS", "auth", "auth2", "copy", "replace", "db", "weights", "left", "m"}

// genRequest draws a request of the right number of arguments for a row of 7.0.
func genRequest(t *rapid.T, names []string) []string {
	args := strings.Split(rapid.SampledFrom(names).Draw(t, "name"), "|")
	c, _ := Resolve(argv(args))
	if c == nil {
		c = Lookup([]byte(args[0]))
		if len(args) > 1 {
			c = c.Sub([]byte(args[1]))
		}
	}
	n := c.Arity
	if of70, other := arities70[c.Name]; other {
		n = of70
	}
	if n < 0 {
		n = -n + rapid.IntRange(0, 8).Draw(t, "more")
	}
	for len(args) < max(n, 2) {
		args = append(args, rapid.SampledFrom(words).Draw(t, "arg"))
	}
	return args
}

// namesOf70 are the rows of 7.0 for which yes is true; containers are not.
func namesOf70(yes func(*Command) bool) (names []string) {
	eachRow(func(c *Command) {
		if _, later := after70[c.Name]; !later && c.Subs == nil && yes(c) {
			names = append(names, c.Name)
		}
	})
	return names
}

func TestRandomGetKeysIsRedis(t *testing.T) {
	o := newOracle(t)
	movable := namesOf70(func(c *Command) bool { return c.Flags&MovableKeys != 0 })
	all := namesOf70(func(*Command) bool { return true })
	for _, names := range [][]string{movable, movable, movable, all} {
		rapid.Check(t, func(t *rapid.T) {
			if args := genRequest(t, names); !storesAnOption(args) {
				checkGetKeys(t, o, args)
			}
		})
	}
}

// genClauses draws some of the clauses, in any order and number. A '?' in one stands for
// any word, and so tempts us to take it for an option.
func genClauses(t *rapid.T, clauses ...string) (args []string) {
	for range rapid.IntRange(0, 4).Draw(t, "clauses") {
		for _, w := range strings.Fields(rapid.SampledFrom(clauses).Draw(t, "clause")) {
			if w == "?" {
				w = rapid.SampledFrom(tempting).Draw(t, "word")
			}
			args = append(args, w)
		}
	}
	return args
}

var tempting = []string{"a", "store", "STOREDIST", "limit", "get", "by", "streams", "block", "count", "group", "noack", "asc"}

// TestWrittenKeysAreFound lets a server execute requests and looks where they wrote.
func TestWrittenKeysAreFound(t *testing.T) {
	o := newOracle(t)
	var written, refused int
	rapid.Check(t, func(t *rapid.T) {
		o.do(t, "FLUSHALL")
		o.do(t, "RPUSH", "list", "1", "2")
		o.do(t, "GEOADD", "geo", "13", "38", "m")
		var args []string
		switch rapid.IntRange(0, 3).Draw(t, "command") {
		case 0:
			args = append([]string{"SORT", "list"}, genClauses(t, "store ?", "by ?", "get ?", "limit 0 1", "limit ? ?", "asc", "?", "store\x00x ?")...)
		case 1:
			args = append(strings.Fields("GEORADIUS geo 13 38 9 km"), genClauses(t, "store ?", "storedist ?", "count 1", "asc", "any", "?", "STOREDIST\x00 ?")...)
		case 2:
			args = append(strings.Fields("GEORADIUSBYMEMBER geo m 9 km"), genClauses(t, "store ?", "storedist ?", "count 1", "asc", "withdist", "?")...)
		case 3:
			args = append([]string{"ZUNIONSTORE", rapid.SampledFrom(tempting).Draw(t, "dst"), rapid.SampledFrom(words).Draw(t, "n"), "geo"},
				genClauses(t, "weights 1", "aggregate sum", "?")...)
		}
		keys, ok := keysOf(t, args)
		_, failed := o.do(t, args...).(redisError)
		for _, k := range o.do(t, "KEYS", "*").([]any) {
			if k == "list" || k == "geo" {
				continue
			}
			written++
			if !slices.Contains(keys, k.(string)) {
				t.Fatalf("%q wrote %q; we found %q", args, k, keys)
			}
		}
		if !ok {
			refused++
			if !failed {
				t.Fatalf("%q was executed", args)
			}
		}
	})
	if written == 0 || refused == 0 {
		t.Errorf("%d written, %d refused: nothing was tested", written, refused)
	}
}

// TestStreamsReadAreFound does the same for the streams that a server read.
func TestStreamsReadAreFound(t *testing.T) {
	o := newOracle(t)
	for _, stream := range tempting {
		o.do(t, "XADD", stream, "1-1", "f", "v")
		for _, group := range tempting {
			o.do(t, "XGROUP", "CREATE", stream, group, "0")
		}
	}
	executed := 0
	rapid.Check(t, func(t *rapid.T) {
		args := append([]string{"XREADGROUP"}, genClauses(t, "group ? ?", "group ? ?", "count 1", "block 1", "noack", "block\x00 1")...)
		args = append(args, "streams")
		n := rapid.IntRange(1, 3).Draw(t, "streams")
		for range n {
			args = append(args, rapid.SampledFrom(tempting).Draw(t, "stream"))
		}
		for range n + rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "unbalanced") {
			args = append(args, "0") // the consumer's history: answered for every stream
		}
		c, bad := Resolve(argv(args))
		if bad != "" {
			return
		}
		list, did := o.do(t, args...).([]any)
		if !did {
			return
		}
		executed++
		var read []string
		for _, v := range list {
			read = append(read, v.([]any)[0].(string))
		}
		keys, _ := keysOf(t, args)
		// A stream that is named twice is answered twice.
		sort.Strings(read)
		sort.Strings(keys)
		if diff := cmp.Diff(read, keys); diff != "" {
			t.Fatalf("%q: -redis +ours\n%s", args, diff)
		}
		if BlocksNow(c, argv(args)) != blockBefore(args) {
			t.Fatalf("%q: blocks %v", args, !blockBefore(args))
		}
	})
	if executed == 0 {
		t.Error("the server executed none")
	}
}

// blockBefore reports whether genClauses drew a BLOCK clause: no group or consumer is
// called "1".
func blockBefore(args []string) bool {
	for i, a := range args[:len(args)-1] {
		if isOption([]byte(a), "block") && args[i+1] == "1" {
			return true
		}
	}
	return false
}

func FuzzAppendKeys(f *testing.F) {
	for _, marked := range keysWanted {
		request := strings.ReplaceAll(strings.TrimPrefix(marked, "-"), "!", "")
		name, rest, _ := strings.Cut(request, " ")
		if c := Lookup([]byte(name)); c.Subs != nil {
			name, rest, _ = strings.Cut(rest, " ")
			f.Add(uint16(c.Sub([]byte(name)).Index), []byte(rest))
		} else {
			f.Add(uint16(c.Index), []byte(rest))
		}
	}
	rows := make([]*Command, NumCommands())
	eachRow(func(c *Command) { rows[c.Index] = c })
	f.Fuzz(func(t *testing.T, row uint16, rest []byte) {
		c := rows[int(row)%len(rows)]
		// Not even the number of arguments need be right.
		args := argv(strings.Split(c.Name, "|"))
		if len(rest) > 0 {
			args = append(args, argv(strings.Split(string(rest), " "))...)
		}
		keys, err := c.AppendKeys([]int{-7}, args)
		if keys[0] != -7 || err != nil && len(keys) > 1 {
			t.Fatalf("%q: %v, %v", args, keys, err)
		}
		for _, k := range keys[1:] {
			if k < 1 || k >= len(args) {
				t.Fatalf("%q: key at %d", args, k)
			}
		}
		BlocksNow(c, args)
		parse(t, AppendGetKeys(nil, args))
		Resolve(args)
	})
}

func BenchmarkAppendKeys(b *testing.B) {
	for _, request := range []string{"GET k", "MSET a 1 b 2", "LMPOP 2 a b LEFT", "XREADGROUP GROUP g c COUNT 1 STREAMS a >"} {
		b.Run(strings.Fields(request)[0], func(b *testing.B) {
			args := argv(strings.Fields(request))
			c, _ := Resolve(args)
			dst := make([]int, 0, 16)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.AppendKeys(dst, args); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
