package resp

import (
	"bytes"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// ended is one reply as a scanner saw it.
type ended struct {
	End  int // offset in the stream
	Type byte
}

// replyPieces gives the stream to s in pieces that end at the cuts, each in
// memory of its own.
func replyPieces(t fatalf, s *ReplyScanner, stream []byte, cuts []int) (out []ended, last Status) {
	t.Helper()
	from := 0
	for _, to := range append(cuts, len(stream)) {
		for from < to {
			buf := bytes.Clone(stream[from:to])
			n, st := s.Scan(buf)
			last = st
			if n < 0 || n > len(buf) || st == Again && n != len(buf) || st == OK && n == 0 {
				t.Fatalf("n = %d of %d bytes with status %d", n, len(buf), st)
			}
			if s.Started() != (st == Again) && st != Invalid {
				t.Fatalf("Started = %v after status %d", s.Started(), st)
			}
			from += n
			if st == Invalid {
				return out, st
			}
			if st == OK {
				out = append(out, ended{from, s.Type()})
			}
		}
	}
	return out, last
}

func TestReplies(t *testing.T) {
	for _, c := range []struct {
		in   string
		kind byte
	}{
		{"+OK\r\n", '+'}, {"+\r\n", '+'}, {"-ERR no\r\n", '-'}, {":1\r\n", ':'}, {":-12345\r\n", ':'},
		{"$3\r\nabc\r\n", '$'}, {"$0\r\n\r\n", '$'}, {"$-1\r\n", '$'}, {"$5\r\n\r\n\r\nx\r\n", '$'},
		{"*0\r\n", '*'}, {"*-1\r\n", '*'}, {"*2\r\n:1\r\n$1\r\nx\r\n", '*'}, {"*1\r\n*1\r\n*0\r\n", '*'},
		{"*2\r\n*2\r\n:1\r\n:2\r\n*1\r\n+x\r\n", '*'}, {"*3\r\n$-1\r\n*-1\r\n$0\r\n\r\n", '*'},
		{"_\r\n", '_'}, {"#t\r\n", '#'}, {",1.5\r\n", ','}, {",inf\r\n", ','}, {"(3492890328409238509\r\n", '('},
		{"!5\r\nERR x\r\n", '!'}, {"=7\r\ntxt:abc\r\n", '='}, {"~1\r\n+a\r\n", '~'}, {"~0\r\n", '~'},
		{"%0\r\n", '%'}, {"%1\r\n+a\r\n:1\r\n", '%'}, {"%2\r\n+a\r\n*1\r\n:1\r\n+b\r\n%0\r\n", '%'},
		{">2\r\n+message\r\n+x\r\n", '>'},
		{"|1\r\n+ttl\r\n:5\r\n$1\r\nx\r\n", '$'},                        // an attribute, then its reply
		{"|1\r\n+a\r\n*2\r\n:1\r\n:2\r\n*1\r\n:1\r\n", '*'},             // with an aggregate in it
		{"|0\r\n:1\r\n", ':'},                                           // an empty one
		{"|1\r\n+a\r\n:1\r\n|1\r\n+b\r\n:1\r\n+OK\r\n", '+'},            // two of them
		{"*2\r\n|1\r\n+a\r\n:1\r\n:7\r\n:8\r\n", '*'},                   // within an array it is no element
		{"*1\r\n|1\r\n+a\r\n:1\r\n*1\r\n:8\r\n", '*'},                   // before the last element
		{"|1\r\n|1\r\n+x\r\n+y\r\n+a\r\n:1\r\n%1\r\n+k\r\n+v\r\n", '%'}, // within an attribute
		{"+a\rb\nc\n\r\r\n", '+'},                                       // lone CR and LF are text
		{"+" + strings.Repeat("long", 10000) + "\r\n", '+'},
	} {
		stream := []byte(c.in + c.in)
		want := fmt.Sprint([]ended{{len(c.in), c.kind}, {2 * len(c.in), c.kind}})
		for _, cuts := range [][]int{nil, everyByte(len(stream))} {
			got, last := replyPieces(t, &ReplyScanner{}, stream, cuts)
			if fmt.Sprint(got) != want || last != OK {
				t.Errorf("%.60q: %v, status %d; want %v", c.in, got, last, want)
			}
		}
		for i := 1; i < min(len(c.in), 100); i++ {
			if got, last := replyPieces(t, &ReplyScanner{}, []byte(c.in[:i]), nil); len(got) > 0 || last != Again {
				t.Errorf("%.60q is not taken for incomplete", c.in[:i])
			}
		}
	}
}

func TestNotReplies(t *testing.T) {
	for _, in := range []string{
		"x", "\r\n", "\x00", "PING\r\n", "$x\r\n", "$\r\n", "$-2\r\n", "$+1\r\na\r\n", "$01\r\na\r\n", "$3\r\nabcd\r\n",
		"$3\r\nabc\rx", "$?\r\n", "*?\r\n", "*-2\r\n", "*2147483649\r\n", "%2147483649\r\n", "*99999999999999999999\r\n",
		"$" + strings.Repeat("1", 40), "=-1\r\n", "%-1\r\n", "~-1\r\n", "$1\n", "*1\rx\r\n", "*2\r\n:1\r\nx",
		"$1099511627777\r\n", "*2147483648\r\n?",
	} {
		for _, cuts := range [][]int{nil, everyByte(len(in))} {
			var s ReplyScanner
			if got, last := replyPieces(t, &s, []byte(in), cuts); last != Invalid || len(got) > 0 {
				t.Errorf("%q: %v, status %d", in, got, last)
			}
			if _, st := s.Scan([]byte("+OK\r\n")); st != Invalid {
				t.Errorf("%q: alive after Invalid", in)
			}
		}
	}
}

func TestDepth(t *testing.T) {
	// Nested by the first element, each level stays open.
	deep := func(n int) string { return strings.Repeat("*2\r\n", n) + ":1\r\n" + strings.Repeat(":2\r\n", n) }
	if got, last := replyPieces(t, &ReplyScanner{}, []byte(deep(maxReplyDepth)), nil); len(got) != 1 || last != OK {
		t.Errorf("%d levels: %v, status %d", maxReplyDepth, got, last)
	}
	if _, last := replyPieces(t, &ReplyScanner{}, []byte(deep(maxReplyDepth+1)), nil); last != Invalid {
		t.Errorf("%d levels: status %d", maxReplyDepth+1, last)
	}
	// Nested by the last element, none does.
	chain := strings.Repeat("*1\r\n", 100000) + ":1\r\n"
	if got, last := replyPieces(t, &ReplyScanner{}, []byte(chain), nil); len(got) != 1 || last != OK {
		t.Errorf("a chain: %d, status %d", len(got), last)
	}
}

func TestTypeWhileUnderWay(t *testing.T) {
	var s ReplyScanner
	for _, c := range []struct {
		in   string
		kind byte
	}{{"|", '|'}, {"1\r\n+a\r\n", '|'}, {":1\r\n", '|'}, {"*", '*'}, {"1\r\n", '*'}, {"+x", '*'}} {
		if _, st := s.Scan([]byte(c.in)); st != Again || s.Type() != c.kind || !s.Started() {
			t.Fatalf("%q: status %d, type %c, started %v", c.in, st, s.Type(), s.Started())
		}
	}
	if _, st := s.Scan([]byte("\r\n")); st != OK || s.Type() != '*' || s.Started() {
		t.Fatalf("status %d, type %c, started %v", st, s.Type(), s.Started())
	}
}

// genReply draws a reply. An attribute precedes a part of them.
func genReply(t *rapid.T, depth int) []byte {
	var out []byte
	count := func() int { return rapid.IntRange(0, 4).Draw(t, "count") }
	if depth > 0 && rapid.IntRange(0, 9).Draw(t, "attribute") == 0 {
		n := count()
		out = fmt.Appendf(out, "|%d\r\n", n)
		for range 2 * n {
			out = append(out, genReply(t, depth-1)...)
		}
	}
	kinds := "+-:_#,($$$$=!"
	if depth > 0 {
		kinds += "***~%>"
	}
	kind := rapid.SampledFrom([]byte(kinds)).Draw(t, "kind")
	switch kind {
	case '+', '-', ',', '#', ':', '(', '_':
		text := rapid.StringOfN(rapid.RuneFrom([]rune("ab1 \r\n")), 0, 20, -1).Draw(t, "text")
		for strings.Contains(text, "\r\n") { // again: what is left may join to one
			text = strings.ReplaceAll(text, "\r\n", "")
		}
		return fmt.Appendf(out, "%c%s\r\n", kind, text)
	case '$', '=', '!':
		body := rapid.SliceOfN(rapid.SampledFrom([]byte("\r\n$*:+abc\x00\xff")), 0, 40).Draw(t, "body")
		if kind == '$' && len(body) == 1 {
			return append(out, "$-1\r\n"...)
		}
		return fmt.Appendf(out, "%c%d\r\n%s\r\n", kind, len(body), body)
	}
	n := count()
	out = fmt.Appendf(out, "%c%d\r\n", kind, n)
	if kind == '%' {
		n *= 2
	}
	for range n {
		out = append(out, genReply(t, depth-1)...)
	}
	return out
}

func TestReplyPiecesAreWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var ends []int
		for range rapid.IntRange(1, 4).Draw(t, "replies") {
			stream = append(stream, genReply(t, 4)...)
			ends = append(ends, len(stream))
		}
		for _, cuts := range [][]int{nil, genCuts(t, len(stream)), everyByte(len(stream))} {
			got, last := replyPieces(t, &ReplyScanner{}, stream, cuts)
			var at []int
			for _, e := range got {
				at = append(at, e.End)
			}
			if last != OK || fmt.Sprint(at) != fmt.Sprint(ends) {
				t.Fatalf("%q in pieces to %v: ends %v, want %v, status %d", stream, cuts, at, ends, last)
			}
		}
	})
}

// TestRepliesOfRedis scans what a real server says, in RESP2 and RESP3.
func TestRepliesOfRedis(t *testing.T) {
	socket := redisAt(t)
	for _, proto := range []string{"2", "3"} {
		requests := [][]string{
			{"HELLO", proto}, {"FLUSHALL"}, {"SET", "k", "v"}, {"GET", "k"}, {"GET", "none"}, {"INCR", "k"}, {"INCR", "n"},
			{"HSET", "h", "a", "1"}, {"HGETALL", "h"}, {"SADD", "s", "x"}, {"SMEMBERS", "s"}, {"ZADD", "z", "1.5", "m"},
			{"ZRANGE", "z", "0", "-1", "WITHSCORES"}, {"ZSCORE", "z", "m"}, {"RPUSH", "l", "e"}, {"BLPOP", "l", "1"}, {"COMMAND"},
			{"INFO"}, {"CONFIG", "GET", "*"}, {"CLIENT", "LIST"}, {"MULTI"}, {"GET", "k"}, {"EXEC"}, {"EXEC"}, {"NOSUCH"},
			{"XADD", "x", "1-1", "f", "v"}, {"XREAD", "STREAMS", "x", "0"}, {"SLOWLOG", "GET"}, {"MEMORY", "DOCTOR"},
			{"EVAL", "return {1,{2,{3}},false,'x'}", "0"}, {"DEBUG", "PROTOCOL", "attrib"}, {"DEBUG", "PROTOCOL", "bignum"},
			{"DEBUG", "PROTOCOL", "verbatim"}, {"DEBUG", "PROTOCOL", "true"}, {"PING"}, {"QUIT"},
		}
		if proto == "2" {
			requests = requests[1:] // the default; and HELLO's own reply differs
		}
		var in []byte
		for _, r := range requests {
			var args [][]byte
			for _, a := range r {
				args = append(args, []byte(a))
			}
			in = AppendRequest(in, args...)
		}
		out := askUntilClosed(t, socket, in)
		got, last := replyPieces(t, &ReplyScanner{}, out, nil)
		if len(got) != len(requests) || last != OK || got[len(got)-1].End != len(out) {
			t.Errorf("RESP%s: %d replies to %d requests, status %d", proto, len(got), len(requests), last)
		}
		again, _ := replyPieces(t, &ReplyScanner{}, out, everyByte(len(out)))
		if fmt.Sprint(again) != fmt.Sprint(got) {
			t.Errorf("RESP%s: by bytes %v, whole %v", proto, again, got)
		}
	}
}

// TestLargeReplyIsNeverRead is TestLargeValueIsNeverRead for replies.
func TestLargeReplyIsNeverRead(t *testing.T) {
	const size = 64 << 20
	u := newUntouchable(t, "*2\r\n:1\r\n$67108864\r\n", size)
	var s ReplyScanner
	for from, to := u.from, u.page; to < u.to; from, to = to, to+4096 {
		if n, st := s.Scan(u.all[from:to]); st != Again || n != to-from {
			t.Fatalf("n %d, status %d", n, st)
		}
	}
	if n, st := s.Scan(u.all[u.to-2 : u.to]); st != OK || n != 2 {
		t.Fatalf("n %d, status %d", n, st)
	}
}

func TestReplyScanAllocatesNothing(t *testing.T) {
	in := []byte("*3\r\n$3\r\nabc\r\n%1\r\n+a\r\n:1\r\n*2147483648\r\n$1099511627776\r\n")
	if n := testing.AllocsPerRun(100, func() {
		var s ReplyScanner
		if _, st := s.Scan(in); st != Again {
			t.Fatal("not under way")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestCountsAddUp holds the number of values that the scanner waits for against
// the sum of all that was declared, over replies too large to be sent.
func TestCountsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s ReplyScanner
		total := big.NewInt(1)
		for range rapid.IntRange(1, maxReplyDepth-1).Draw(t, "levels") {
			kind := rapid.SampledFrom([]byte("*~>%|")).Draw(t, "kind")
			count := rapid.Int64Range(1, maxReplyCount).Draw(t, "count")
			if _, st := s.Scan(fmt.Appendf(nil, "%c%d\r\n", kind, count)); st != Again {
				t.Fatalf("status %d", st)
			}
			values := big.NewInt(count)
			if kind == '%' || kind == '|' {
				values.Lsh(values, 1)
			}
			if total.Add(total, values); kind != '|' {
				total.Sub(total, big.NewInt(1))
			}
		}
		sum := new(big.Int)
		for _, n := range s.left[:s.depth] {
			sum.Add(sum, big.NewInt(n))
		}
		if sum.Cmp(total) != 0 {
			t.Fatalf("waits for %v, want %v", sum, total)
		}
	})
}

func BenchmarkReply(b *testing.B) {
	for _, c := range []struct{ name, in string }{
		{"OK", "+OK\r\n"}, {"Int", ":1\r\n"}, {"Bulk3", "$3\r\nabc\r\n"}, {"Nil", "$-1\r\n"},
		{"Bulk1K", "$1024\r\n" + strings.Repeat("v", 1024) + "\r\n"},
		{"Array100", "*100\r\n" + strings.Repeat("$5\r\nhello\r\n", 100)},
		{"Nested", "*2\r\n*2\r\n:1\r\n:2\r\n*2\r\n:3\r\n:4\r\n"},
	} {
		b.Run(c.name, func(b *testing.B) {
			var s ReplyScanner
			buf := []byte(c.in)
			b.ReportAllocs()
			for b.Loop() {
				if n, st := s.Scan(buf); st != OK || n != len(buf) {
					b.Fatal("no reply")
				}
			}
		})
	}
}

// TestMore: after each piece of a bulk string it is known how much of its body is to come; of
// everything else nothing is.
func TestMore(t *testing.T) {
	var s ReplyScanner
	for _, tc := range []struct {
		piece string
		more  int
	}{
		{"$1", 0}, {"0\r\n", 10}, {"abc", 7}, {"defghij", 0}, {"\r\n", 0},
		{"*2\r\n$3\r\na", 2}, {"bc\r\n", 0}, {"$100000\r\nx", 99999}, {string(make([]byte, 99999)) + "\r\n", 0}, {"+O", 0}, {"K\r\n", 0},
	} {
		for b := []byte(tc.piece); len(b) > 0; {
			n, st := s.Scan(b)
			if st == Invalid {
				t.Fatalf("%.20q is invalid", tc.piece)
			}
			b = b[n:]
		}
		if got := s.More(); got != tc.more {
			t.Errorf("after %.20q %d bytes are to come, want %d", tc.piece, got, tc.more)
		}
	}
}
