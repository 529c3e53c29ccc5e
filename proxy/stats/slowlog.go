package stats

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"keyferry/internal/resp"
)

// Sizes of what is kept to show a slow command: of its frame, and as Redis shows it.
const (
	headBytes    = 256
	slowMaxArgs  = 32
	slowMaxBytes = 128
)

// SlowEntry is one command of the slow log. It is not changed once it is in a ring.
type SlowEntry struct {
	ID    int64
	At    time.Time     // when its reply was complete
	Total time.Duration // lock wait and backend, which decide whether it is slow

	Queue    time.Duration // at most so long its bytes had waited before it was parsed
	LockWait time.Duration // for keys that were being moved
	Backend  time.Duration // from when it was handed to the server connection to the last byte
	Write    time.Duration // for the replies that the client was due before

	Args []string // as Redis cuts them: 32 arguments of 128 bytes
	Sender
}

// Sender says whose a slow command was, and who answered it.
type Sender struct {
	ClientAddr string
	ClientName string
	Group      string // that answered, last if there were several; "": the gateway itself
}

// SlowLog is the slow log of one loop. It belongs to the loop's goroutine.
//
// A command is entered when its reply has been written, so that the entry can say how long that
// took. Until then the entry hangs on the command's Span.
type SlowLog struct {
	shared    *Shared
	threshold int64 // ns; math.MaxInt64: no slow log
	ring      slowRing
}

// All reports that the log takes every command, however quick.
func (q *SlowLog) All() bool { return q.threshold == 0 }

// Answered enters a command that the gateway has answered at once, and so in no time.
func (r *Recorder) Answered(frame []byte, from Sender, now int64, at time.Time) {
	id := r.Slow.shared.Slow.Add(1) - 1
	if r.Slow.ring.wants(now, 0) {
		r.Slow.ring.add(&SlowEntry{ID: id, At: at, Args: slowArgs(frame), Sender: from})
	}
}

// Notable looks closer at a command for which Done has said so, at the same now.
func (r *Recorder) Notable(t *Span, c *resp.Command, from Sender, now int64, at time.Time) {
	d := now - t.Begun
	if d >= r.Spikes.threshold {
		event := "command"
		if c.Flags&resp.Fast != 0 { // Redis tells these two apart
			event = "fast-command"
		}
		r.Spikes.Note(event, d, at)
	}
	if d < r.Slow.threshold {
		return
	}
	if !r.Slow.ring.wants(now, d) {
		r.Slow.shared.Slow.Add(1) // it counts all the same
		return
	}
	e := &SlowEntry{At: at, Total: time.Duration(d), Queue: time.Duration(t.Queued), Args: slowArgs(t.Head), Sender: from}
	if t.Sent > 0 {
		e.LockWait, e.Backend = time.Duration(t.Sent-t.Begun), time.Duration(now-t.Sent)
	}
	t.slow, t.Begun = e, now
}

// Written is told at the end of every command: when its reply has been written, or never will
// be. If it was slow it is entered now.
func (r *Recorder) Written(t *Span, now int64) {
	e := t.slow
	if e == nil {
		return
	}
	t.slow = nil
	e.Write = time.Duration(now - t.Begun)
	e.ID = r.Slow.shared.Slow.Add(1) - 1
	r.Slow.ring.add(e)
}

// Entries are copies of what the loop keeps, oldest first.
func (q *SlowLog) Entries() []SlowEntry {
	list := q.ring.ordered()
	out := make([]SlowEntry, len(list))
	for i, e := range list {
		out[i] = *e
	}
	return out
}

// Reset is SLOWLOG RESET.
func (q *SlowLog) Reset() { q.ring.list, q.ring.next = nil, 0 }

// NewestSlow is the n newest of all loops' entries, newest first. It changes the order of all.
func NewestSlow(all []SlowEntry, n int) []SlowEntry {
	slices.SortFunc(all, func(a, b SlowEntry) int { return cmp.Compare(b.ID, a.ID) })
	return all[:min(n, len(all))]
}

// slowFlood is more in a second than the log is of use for, and costs about one in a
// hundred of it.
const slowFlood = 10_000

// slowRing holds the newest slow commands of a loop.
type slowRing struct {
	list []*SlowEntry // at most size
	next int          // index of the oldest, once full
	size int

	second int64 // of the time, for wants
	taken  int   // in it
	worst  int64 // … ns
}

// wants reports whether one more slow command, of d ns at the time ns, is to be entered. When
// clients send more than the servers can do, all commands are slow, and to write each down
// would make it worse. Of a second the ring takes slowFlood, and after these only what is
// slower than all of them.
func (q *slowRing) wants(ns, d int64) bool {
	if s := ns / int64(time.Second); s != q.second {
		q.second, q.taken, q.worst = s, 0, 0
	}
	if q.taken >= slowFlood && d <= q.worst {
		return false
	}
	q.taken++
	q.worst = max(q.worst, d)
	return true
}

func (q *slowRing) add(e *SlowEntry) {
	switch {
	case q.size == 0:
	case len(q.list) < q.size:
		q.list = append(q.list, e)
	default:
		q.list[q.next] = e
		q.next = (q.next + 1) % q.size
	}
}

// ordered are the entries, oldest first.
func (q *slowRing) ordered() []*SlowEntry {
	return slices.Concat(q.list[q.next:], q.list[:q.next])
}

func (q *slowRing) resize(n int) {
	if n == q.size {
		return
	}
	list := q.ordered()
	q.list, q.next, q.size = list[max(0, len(list)-n):], 0, n
}

// slowArgs makes of the head of a frame the list that SLOWLOG GET shows. What the head
// does not reach is counted, since the frame says how much there is.
func slowArgs(head []byte) []string {
	count, head, ok := cutNumber(head, '*')
	if !ok {
		return nil
	}
	var args []string
	for i := 0; i < count; i++ {
		size, rest, ok := cutNumber(head, '$')
		if i == slowMaxArgs-1 && count > slowMaxArgs || !ok {
			args = append(args, fmt.Sprintf("... (%d more arguments)", count-i))
			break
		}
		show := min(size, slowMaxBytes, len(rest))
		text := string(rest[:show])
		if show < size {
			text += fmt.Sprintf("... (%d more bytes)", size-show)
		}
		args = append(args, text)
		head = rest[min(size+2, len(rest)):]
	}
	for i, to := Secret(args); i < to; i++ {
		args[i] = "(redacted)"
	}
	return args
}
