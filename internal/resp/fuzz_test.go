package resp

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// cutsOf makes cuts of a stream out of bytes that a fuzzer chose: each is how
// many bytes the next piece has. There are at most 256 pieces: every one is a
// copy of the stream, and a fuzzer would soon do nothing but copy.
func cutsOf(steps []byte, n int) (cuts []int) {
	at := 0
	for _, s := range steps[:min(len(steps), 255)] {
		if at += int(s); at >= n {
			break
		}
		cuts = append(cuts, at)
	}
	return cuts
}

func FuzzRequest(f *testing.F) {
	for _, c := range malformed {
		if len(c.in) < 200 {
			f.Add([]byte(c.in), []byte{1, 2, 3}, uint16(0), uint16(0))
		}
	}
	for _, in := range []string{
		"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n", "*0\r\n*-1\r\n\r\n*1\r\n$0\r\n\r\n", "SET \"a\\x41\\n\" 'b\\'c'\r\n",
		"*1\rx$1\r\naxx", "\x00\r\nPING\r\n", "*1\r\n$536870912\r\nabc", "*1048576\r\n$1\r\na\r\n",
	} {
		f.Add([]byte(in), []byte{1, 1, 1, 1, 5}, uint16(0), uint16(20))
	}
	f.Fuzz(func(t *testing.T, stream, steps []byte, maxArgs, maxBulk uint16) {
		limited := func() *RequestScanner {
			return &RequestScanner{MaxArgs: int(maxArgs), MaxBulk: int(maxBulk)}
		}
		whole := scanPieces(t, limited(), stream, nil)
		pieces := scanPieces(t, limited(), stream, cutsOf(steps, len(stream)))
		if diff := cmp.Diff(whole, pieces); diff != "" {
			t.Fatalf("-whole +pieces\n%s", diff)
		}
		// What we hand on is what we understood.
		for i, args := range whole.Args {
			var b [][]byte
			for _, a := range args {
				b = append(b, []byte(a))
			}
			again := scanPieces(t, &RequestScanner{}, AppendRequest(nil, b...), nil)
			if len(again.Args) != 1 || !cmp.Equal(again.Args[0], args) || again.Inline[0] {
				t.Fatalf("frame %d %q encodes to %+v", i, args, again)
			}
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, in := range []string{
		"+OK\r\n:1\r\n$3\r\nabc\r\n$-1\r\n", "*2\r\n*1\r\n:1\r\n$0\r\n\r\n", "|1\r\n+a\r\n:1\r\n%1\r\n+k\r\n~1\r\n_\r\n",
		"*2147483648\r\n", "$1099511627776\r\n", "$?\r\n", ">2\r\n+a\r\n!3\r\nERR\r\n", "+a\rb\nc\r\n", "*1\r\n*1\r\n*1\r\n*0\r\n",
	} {
		f.Add([]byte(in), []byte{1, 2, 3, 1})
	}
	f.Fuzz(func(t *testing.T, stream, steps []byte) {
		whole, last := replyPieces(t, &ReplyScanner{}, stream, nil)
		pieces, lastPiece := replyPieces(t, &ReplyScanner{}, stream, cutsOf(steps, len(stream)))
		if fmt.Sprint(whole, last) != fmt.Sprint(pieces, lastPiece) {
			t.Fatalf("whole %v %d, pieces %v %d", whole, last, pieces, lastPiece)
		}
		from := 0
		for _, e := range whole {
			frame := stream[from:e.End]
			from = e.End
			if elements, ok := SplitArray(frame, nil); ok && !bytes.HasSuffix(frame, bytes.Join(elements, nil)) {
				t.Fatalf("%q: elements %q", frame, elements)
			}
			if frame[0] == '*' {
				if _, ok := SplitArray(frame, nil); !ok && string(frame) != "*-1\r\n" {
					t.Fatalf("%q is no array", frame)
				}
			}
			if body, ok := BulkBody(frame); ok != (frame[0] == '$' && string(frame) != "$-1\r\n") || len(body) > len(frame) {
				t.Fatalf("%q: body %q %v", frame, body, ok)
			}
			ParseInt(frame)
		}
	})
}
