package stats

import (
	"cmp"
	"slices"
	"time"

	"keyferry/internal/metrics"
	"keyferry/internal/resp"
)

// LargePiece is the size in bytes of a piece of a reply from which on the whole is measured:
// less than a loop's read buffer, so that whatever is big has such pieces, and so much that
// small replies, which come in one piece, are not measured.
const LargePiece = 2 << 10

// bigKept bounds how many big values a loop remembers.
const bigKept = 64

// BigValue is a key whose value came by and was big.
type BigValue struct {
	DB      int
	Key     string // at most metrics.KeyShown bytes
	Bytes   int    // of the largest command or reply that was seen
	Command string
	At      time.Time // last seen
}

// BigValues are the big values that one loop has seen, in commands or in replies. It belongs to
// the loop's goroutine. A key that became small or was deleted stays until 64 others are seen.
type BigValues struct {
	From int // bytes from which a value is big; 0: none is
	seen []BigValue
}

// Is says whether so many bytes are big.
func (q *BigValues) Is(bytes int) bool { return q.From > 0 && bytes >= q.From }

// Note notes a command whose frame or reply has size bytes, which are big. frame is the command,
// or its beginning. Which of several keys is big is not known, so that then none is noted.
func (q *BigValues) Note(db int, frame []byte, size int, at time.Time) {
	args := frameArgs(frame)
	cmd, bad := resp.Resolve(args)
	if bad != "" {
		return
	}
	keys, err := cmd.AppendKeys(nil, args)
	if err != nil || len(keys) != 1 {
		return
	}
	name := args[keys[0]]
	if len(name) == 0 {
		return // the head does not reach so far
	}
	b := BigValue{DB: db, Key: string(name[:min(len(name), metrics.KeyShown)]), Bytes: size, Command: cmd.Name, At: at}
	for i := range q.seen {
		if x := &q.seen[i]; x.DB == b.DB && x.Key == b.Key {
			x.Bytes, x.Command, x.At = max(x.Bytes, b.Bytes), b.Command, b.At
			return
		}
	}
	if len(q.seen) == bigKept { // the one not seen for longest makes room
		oldest := 0
		for i := range q.seen {
			if q.seen[i].At.Before(q.seen[oldest].At) {
				oldest = i
			}
		}
		q.seen[oldest] = b
		return
	}
	q.seen = append(q.seen, b)
}

// Seen is a copy of what the loop remembers.
func (q *BigValues) Seen() []BigValue { return slices.Clone(q.seen) }

// Biggest are the values that several loops have seen, the largest first. A key that several
// have seen is there once, as it was at its largest. It changes the order of all.
func Biggest(all []BigValue) []BigValue {
	slices.SortFunc(all, func(a, b BigValue) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Key, b.Key))
	})
	type id struct {
		db  int
		key string
	}
	seen := make(map[id]bool)
	return slices.DeleteFunc(all, func(b BigValue) bool {
		again := seen[id{b.DB, b.Key}]
		seen[id{b.DB, b.Key}] = true
		return again
	})
}
