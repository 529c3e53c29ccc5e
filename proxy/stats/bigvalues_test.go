package stats

import (
	"fmt"
	"testing"
	"time"

	"keyferry/internal/resp"
)

func frame(args ...string) []byte {
	b := make([][]byte, len(args))
	for i, a := range args {
		b[i] = []byte(a)
	}
	return resp.AppendRequest(nil, b...)
}

// TestBigValues: a key is there once, as it was at its largest; the one not seen for longest makes
// room; and where it is not known which key is big, none is named.
func TestBigValues(t *testing.T) {
	q := BigValues{From: 1000}
	if q.Is(999) || !q.Is(1000) || (&BigValues{}).Is(1<<30) {
		t.Error("what is big")
	}
	at := time.Unix(1, 0)
	next := func() time.Time { at = at.Add(time.Second); return at }
	q.Note(0, frame("SET", "a", "x"), 2000, next())
	q.Note(0, frame("GET", "a"), 1500, next())
	q.Note(1, frame("GET", "a"), 3000, next())
	q.Note(0, frame("MGET", "a", "b"), 9000, next())
	q.Note(0, frame("NOSUCH", "a"), 9000, next())
	q.Note(0, frame("GET", "a")[:12], 9000, next()) // cut off in front of the key
	got := Biggest(q.Seen())
	if len(got) != 2 || got[0].DB != 1 || got[0].Bytes != 3000 || got[1].DB != 0 || got[1].Bytes != 2000 || got[1].Command != "get" {
		t.Errorf("%+v", got)
	}
	for i := range bigKept - 1 {
		q.Note(0, frame("GET", fmt.Sprint("k", i)), 1000, next())
	}
	got = Biggest(append(q.Seen(), BigValue{DB: 1, Key: "a", Bytes: 5000})) // another loop's
	if len(got) != bigKept || got[0].Bytes != 5000 || got[1].Bytes != 1000 {
		t.Errorf("%d big values, the largest %+v and %+v", len(got), got[0], got[1])
	}
}
