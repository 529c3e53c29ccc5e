package proxy

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"keyferry/internal/resp"
)

// SlowEntry is one command of the slow log.
type SlowEntry struct {
	ID    int64
	At    time.Time     // when its reply was complete
	Total time.Duration // lock wait and backend, which decide whether it is slow

	Queue    time.Duration // at most so long its bytes had waited before it was parsed
	LockWait time.Duration // for keys that were being moved
	Backend  time.Duration // from when it was handed to the server connection to the last byte
	Write    time.Duration // for the replies that the client was due before

	Args       []string // as Redis cuts them: 32 arguments of 128 bytes
	ClientAddr string
	ClientName string
	Group      string // that answered, last if there were several; "": the gateway itself
}

// noteSlow looks closer at a command that took d ns.
func (l *loop) noteSlow(r *request, now, d int64) {
	if d >= l.t.spike {
		event := "command"
		if isFast(r.cmd) {
			event = "fast-command"
		}
		l.latencyEvent(event, d)
	}
	if d < l.t.slower || r.cmd.Flags&resp.SkipSlowlog != 0 {
		return
	}
	if !l.t.slow.wants(l.ns, d) {
		l.srv.nextSlow.Add(1) // it counts all the same
		return
	}
	e := &SlowEntry{At: l.now, Total: time.Duration(d), Queue: time.Duration(r.queued),
		Args: slowArgs(r.head), ClientAddr: r.s.addr, ClientName: r.s.name}
	if r.sent > 0 {
		e.LockWait, e.Backend = time.Duration(r.sent-r.begun), time.Duration(now-r.sent)
	}
	if r.pipe != nil {
		e.Group = r.pipe.Group
	}
	r.slow, r.begun = e, now
}

// writtenSlow enters a slow command when its reply has been written, or never will be.
func (l *loop) writtenSlow(r *request) {
	e := r.slow
	e.Write = time.Duration(l.ns - r.begun)
	e.ID = l.srv.nextSlow.Add(1) - 1
	l.t.slow.add(e)
}

// slowFlood is more in a second than the log is of use for, and costs about one in a
// hundred of it.
const slowFlood = 10_000

// slowRing holds the newest slow commands of a loop.
type slowRing struct {
	list []*SlowEntry // at most size
	next int          // place of the oldest, once full
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

// SlowLog is the n newest slow commands, newest first; all that are kept if n is negative.
// Not for a loop's goroutine.
func (s *Server) SlowLog(ctx context.Context, n int) []SlowEntry {
	var all []SlowEntry
	s.each(ctx, func(l *loop) {
		for _, e := range l.t.slow.ordered() {
			all = append(all, *e)
		}
	})
	slices.SortFunc(all, func(a, b SlowEntry) int { return cmp.Compare(b.ID, a.ID) })
	if n < 0 {
		n = math.MaxInt
	}
	return all[:min(n, len(all), s.live.Load().SlowlogMaxLen)]
}

func (s *Server) resetSlowLog(ctx context.Context) {
	s.each(ctx, func(l *loop) { l.t.slow.list, l.t.slow.next = nil, 0 })
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
	for i, to := secret(args); i < to; i++ {
		args[i] = "(redacted)"
	}
	return args
}

// cutNumber reads "<kind><number>\r\n".
func cutNumber(b []byte, kind byte) (n int, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != kind {
		return 0, nil, false
	}
	for i := 1; i < len(b); i++ {
		if b[i] == '\r' && i+1 < len(b) {
			n, err := strconv.Atoi(string(b[1:i]))
			return n, b[i+2:], err == nil && n >= 0
		}
	}
	return 0, nil, false
}

func (c *call) slowlog(sub string, args [][]byte) {
	s := c.s
	srv := s.l.srv
	switch sub {
	case "get":
		c.slowlogGet(args)
	case "len":
		c.later(func(w *resp.Writer) {
			w.Int(int64(len(srv.SlowLog(srv.ctx, -1))))
		})
	case "reset":
		c.later(func(w *resp.Writer) {
			srv.resetSlowLog(srv.ctx)
			w.OK()
		})
	case "help":
		c.help("SLOWLOG", slowlogHelp)
	default:
		c.wrongArity("slowlog")
	}
}

func (c *call) slowlogGet(args [][]byte) {
	s := c.s
	n := 10
	if len(args) > 3 {
		c.badSubcommand()
		return
	}
	if len(args) == 3 {
		v, ok := resp.Integer(args[2])
		if !ok || v < -1 {
			c.reject("ERR count should be greater than or equal to -1")
			return
		}
		n = int(min(v, math.MaxInt32))
	}
	srv := s.l.srv
	c.later(func(w *resp.Writer) {
		list := srv.SlowLog(srv.ctx, n)
		w.Array(len(list))
		for _, e := range list {
			w.Array(6)
			w.Int(e.ID)
			w.Int(e.At.Unix())
			w.Int(e.Total.Microseconds())
			w.Array(len(e.Args))
			for _, a := range e.Args {
				w.Text(a)
			}
			w.Text(e.ClientAddr)
			w.Text(e.ClientName)
		}
	})
}

var slowlogHelp = []string{
	"GET [<count>]",
	"    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
	"    Entries are made of:",
	"    id, timestamp, time in microseconds, arguments array, client IP and port,",
	"    client name",
	"LEN", "    Return the length of the slowlog.",
	"RESET", "    Reset the slowlog.",
}
