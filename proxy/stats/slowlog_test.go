package stats

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"keyferry/internal/resp"
)

func head(args ...string) []byte {
	b := make([][]byte, len(args))
	for i, a := range args {
		b[i] = []byte(a)
	}
	f := resp.AppendRequest(nil, b...)
	return f[:min(len(f), headBytes)]
}

func TestSlowArgs(t *testing.T) {
	for _, x := range []struct {
		head []byte
		want []string
	}{
		{head("GET", "k"), []string{"GET", "k"}},
		{head("SET", "k", strings.Repeat("x", 130)), []string{"SET", "k", strings.Repeat("x", 128) + "... (2 more bytes)"}},
		{head("SET", "k", strings.Repeat("x", 1000), "EX", "5"), []string{"SET", "k", strings.Repeat("x", 128) + "... (872 more bytes)", "... (2 more arguments)"}},
		{head("SET", "k", ""), []string{"SET", "k", ""}},
		{head("AUTH", "me", "secret"), []string{"AUTH", "(redacted)", "(redacted)"}},
		{head("CONFIG", "SET", "RequirePass", "secret"), []string{"CONFIG", "SET", "RequirePass", "(redacted)"}},
		{nil, nil},
	} {
		if got := slowArgs(x.head); !slices.Equal(got, x.want) {
			t.Errorf("%.60q: got %q, want %q", x.head, got, x.want)
		}
	}
	many := []string{"DEL"}
	for i := range 40 {
		many = append(many, fmt.Sprint(i%10))
	}
	got := slowArgs(head(many...))
	if len(got) != slowMaxArgs || got[31] != "... (10 more arguments)" {
		t.Errorf("%d arguments, last %q", len(got), got[len(got)-1])
	}
	for n := range headBytes { // wherever the head ends, it is read without harm
		slowArgs(head(many...)[:min(n, len(head(many...)))])
	}
}

// TestSlowFlood: of a second that has more slow commands than anybody could read, the
// slowest are entered all the same, and the next second begins anew.
func TestSlowFlood(t *testing.T) {
	var q slowRing
	second := int64(time.Second)
	for range slowFlood {
		if !q.wants(second, 10) {
			t.Fatal("not a flood yet")
		}
	}
	for i, x := range []struct {
		ns, d int64
		want  bool
	}{{second, 10, false}, {second + 1, 9, false}, {second + 2, 11, true}, {second + 3, 11, false}, {2*second - 1, 12, true}, {2 * second, 5, true}} {
		if got := q.wants(x.ns, x.d); got != x.want {
			t.Errorf("%d: %v ns at %v: %v", i, x.d, x.ns, got)
		}
	}
}

func TestSlowRing(t *testing.T) {
	var q slowRing
	q.resize(3)
	ids := func() (out []int64) {
		for _, e := range q.ordered() {
			out = append(out, e.ID)
		}
		return out
	}
	for i := range 5 {
		q.add(&SlowEntry{ID: int64(i)})
	}
	if got := ids(); !slices.Equal(got, []int64{2, 3, 4}) {
		t.Error(got)
	}
	q.resize(2)
	q.resize(4)
	q.add(&SlowEntry{ID: 5})
	if got := ids(); !slices.Equal(got, []int64{3, 4, 5}) {
		t.Error(got)
	}
}
