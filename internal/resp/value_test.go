package resp

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSplitArray(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string // nil: not a complete array
	}{
		{"*0\r\n", []string{}},
		{"*3\r\n$1\r\na\r\n$-1\r\n:7\r\n", []string{"$1\r\na\r\n", "$-1\r\n", ":7\r\n"}},
		{"*2\r\n*2\r\n:1\r\n:2\r\n+x\r\n", []string{"*2\r\n:1\r\n:2\r\n", "+x\r\n"}},
		{"*1\r\n|1\r\n+a\r\n:1\r\n_\r\n", []string{"|1\r\n+a\r\n:1\r\n_\r\n"}},
		{"*-1\r\n", nil}, {"*1\r\n", nil}, {"*1\r\n:1", nil}, {"*1\r\n:1\r\n:2\r\n", nil}, {"*x\r\n", nil},
		{"*", nil}, {"", nil}, {"$1\r\na\r\n", nil}, {"*2147483647\r\n:1\r\n", nil}, {"*1\r\nx\r\n", nil},
	} {
		kept := [][]byte{[]byte("kept")}
		got, ok := SplitArray([]byte(c.in), kept)
		if ok != (c.want != nil) || string(got[0]) != "kept" {
			t.Errorf("%q: %q, %v", c.in, got, ok)
			continue
		}
		if s := fmt.Sprintf("%q", got[1:]); s != fmt.Sprintf("%q", append([]string{}, c.want...)) {
			t.Errorf("%q: %s, want %q", c.in, s, c.want)
		}
	}
}

func TestSplitArrayIsWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var elements []string
		for range rapid.IntRange(0, 6).Draw(t, "elements") {
			elements = append(elements, string(genReply(t, 2)))
		}
		reply := fmt.Sprintf("*%d\r\n%s", len(elements), strings.Join(elements, ""))
		got, ok := SplitArray([]byte(reply), nil)
		if !ok || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", elements) {
			t.Fatalf("%q: %q %v", reply, got, ok)
		}
	})
}

func TestParseIntReply(t *testing.T) {
	for in, want := range map[string]int64{":0\r\n": 0, ":1\r\n": 1, ":-42\r\n": -42, ":9223372036854775807\r\n": math.MaxInt64} {
		if got, ok := ParseInt([]byte(in)); !ok || got != want {
			t.Errorf("%q: %d, %v", in, got, ok)
		}
	}
	for _, in := range []string{"", ":", ":\r\n", ":1", ":1\r", ":1\n", ":1\r\n:2\r\n", "+1\r\n", ":x\r\n", "$1\r\n1\r\n", ":9223372036854775808\r\n"} {
		if got, ok := ParseInt([]byte(in)); ok {
			t.Errorf("%q: %d", in, got)
		}
	}
}

func TestParseIntIsString2ll(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "7": 7, "-1": -1, "9223372036854775807": math.MaxInt64, "-9223372036854775808": math.MinInt64,
		"1000000000000000000": 1e18,
	} {
		if got, ok := parseInt([]byte(in)); !ok || got != want {
			t.Errorf("%q: %d, %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "-", "-0", "00", "01", "+1", " 1", "1 ", "1.0", "0x1", "--1", "9223372036854775808",
		"-9223372036854775809", "18446744073709551616", "99999999999999999999", "1\x00", "9999999999999999999"} {
		if got, ok := parseInt([]byte(in)); ok {
			t.Errorf("%q: %d", in, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64().Draw(t, "n")
		if got, ok := parseInt(strconv.AppendInt(nil, n, 10)); !ok || got != n {
			t.Fatalf("%d: %d, %v", n, got, ok)
		}
	})
}

func TestBulkBody(t *testing.T) {
	for in, want := range map[string]string{"$0\r\n\r\n": "", "$3\r\nabc\r\n": "abc", "$2\r\n\r\n\r\n": "\r\n"} {
		if got, ok := BulkBody([]byte(in)); !ok || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "$", "$-1\r\n", "$3\r\nab\r\n", "$3\r\nabcd\r\n", "$3\r\nabcxx", "$3\r\nabc\r\n+x\r\n",
		"$x\r\n", "$9223372036854775807\r\n", "+abc\r\n", "$0\r\n", "$0\r\n\r"} {
		if got, ok := BulkBody([]byte(in)); ok {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestAppend(t *testing.T) {
	if got := AppendRequest([]byte("x"), []byte("GET"), nil, []byte("\r\n")); string(got) != "x*3\r\n$3\r\nGET\r\n$0\r\n\r\n$2\r\n\r\n\r\n" {
		t.Errorf("%q", got)
	}
	if got := AppendErr([]byte("x"), "ERR a\r\nb\nc"); string(got) != "x-ERR a  b c\r\n" {
		t.Errorf("%q", got)
	}
}

func BenchmarkSplitArray(b *testing.B) {
	reply := []byte("*100\r\n" + strings.Repeat("$5\r\nhello\r\n", 100))
	var dst [][]byte
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = SplitArray(reply, dst[:0])
	}
}

func TestArrayElements(t *testing.T) {
	for _, x := range []struct {
		in   string
		want []string
		end  bool
	}{
		{"*3\r\n$1\r\na\r\n$-1\r\n*1\r\n:5\r\n", []string{"$1\r\na\r\n", "$-1\r\n", "*1\r\n:5\r\n"}, true},
		{"*0\r\n", nil, true},
		{"*2\r\n_\r\n", []string{"_\r\n"}, false},
		{"*1\r\n:1\r\n:2\r\n", []string{":1\r\n"}, false},
		{"*1\r\n$5\r\nab", nil, false},
	} {
		e, ok := ArrayElements([]byte(x.in))
		if !ok {
			t.Errorf("%q: no array", x.in)
		}
		var got []string
		for el, ok := e.Next(); ok; el, ok = e.Next() {
			got = append(got, string(el))
		}
		if !slices.Equal(got, x.want) || e.AtEnd() != x.end {
			t.Errorf("%q: %q, at its end: %v", x.in, got, e.AtEnd())
		}
	}
	for _, in := range []string{"", "*", "*-1\r\n", "$1\r\na\r\n", "*x\r\n", "+OK\r\n"} {
		if _, ok := ArrayElements([]byte(in)); ok {
			t.Errorf("%q is taken for an array", in)
		}
	}
}
