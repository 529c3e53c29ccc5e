package proxy

import (
	"context"
	"math"
	"strings"
	"time"

	"keyferry/internal/metrics"
	"keyferry/internal/resp"
)

// What a loop measures of the commands that it serves. The clock is not read for it: a
// command begins and ends with the event in which its bytes came, so that what is answered
// within one event takes no time.
//
//	bytes come ─► begun ──────────► sent ───────────► last byte ────────► written
//	      queued (input   lock wait       backend          write (the replies
//	      of a held-up                                     before it are due first)
//	      client)
type timing struct {
	cmds   []commandStat     // by resp.Command.Index
	errors map[string]uint64 // error replies by code
	// lockWaits is how long commands on moving slots waited for their keys.
	lockWaits metrics.Histogram
	events    map[string]*latencyEvent

	notable int64 // ns from which a command is looked at closer: the lesser of the two below
	slower  int64 // ns; math.MaxInt64: no slow log
	spike   int64 // ns; math.MaxInt64: no latency events
	slow    slowRing
}

// commandStat is what one loop knows of one command.
type commandStat struct {
	times    *metrics.Histogram // of those that were answered; nil: none was
	failed   uint64             // … with an error
	rejected uint64             // before they were executed
}

// maxErrorCodes bounds what servers, modules and scripts can make us remember.
const maxErrorCodes = 128

// Sizes of what is kept to show a slow command: of its frame, and as Redis shows it.
const (
	headBytes    = 256
	slowMaxArgs  = 32
	slowMaxBytes = 128
)

func (l *loop) initTiming() {
	l.t.cmds = make([]commandStat, resp.NumCommands())
	l.t.errors = make(map[string]uint64)
	l.t.events = make(map[string]*latencyEvent)
	l.observe(l.srv.live.Load())
}

// observe puts o into force on this loop.
func (l *loop) observe(o *Options) {
	if l.opt != nil && l.opt.Password != "" && o.Password == "" {
		for s := range l.sessions {
			s.authed = true
		}
	}
	l.opt = o
	l.parking.Limits = o.parkingLimits()
	t := &l.t
	t.slower, t.spike = math.MaxInt64, math.MaxInt64
	if o.SlowlogSlowerThan > 0 && o.SlowlogMaxLen > 0 {
		t.slower = int64(o.SlowlogSlowerThan)
	}
	if o.LatencyThreshold > 0 {
		t.spike = int64(o.LatencyThreshold)
	}
	t.notable = min(t.slower, t.spike)
	t.slow.resize(o.SlowlogMaxLen)
}

// clock reads the clock, at the start of an event.
func (l *loop) clock() {
	l.now = time.Now()
	l.ns = int64(l.now.Sub(l.srv.started))
}

// keep keeps what the slow log would show of a request.
func (l *loop) keep(r *request, frame []byte) {
	r.queued = r.s.waited
	if l.heat.big > 0 && len(frame) >= l.heat.big {
		l.metBig(r, frame, len(frame))
	}
	if l.t.slower != math.MaxInt64 {
		r.head = append(r.head[:0], frame[:min(len(frame), headBytes)]...)
	}
}

// timed counts a request whose last bytes, b, have come.
func (l *loop) timed(r *request, b []byte) {
	if r.begun == 0 {
		return // it is an answer of the gateway's own, counted when it was given
	}
	failed := false
	if r.reply != nil {
		b = r.reply
	}
	if !r.started && len(b) > 0 && b[0] == '-' {
		failed = true
		l.countError(b)
	}
	now := l.ns
	d := now - r.begun
	l.count(r.cmd, d, failed)
	if r.motion != nil && r.sent > 0 {
		l.t.lockWaits.Record(time.Duration(r.sent - r.begun))
	}
	if d >= l.t.notable && r.cmd.Flags&resp.Blocking == 0 {
		l.noteSlow(r, now, d)
	}
}

func (l *loop) count(c *resp.Command, ns int64, failed bool) {
	st := &l.t.cmds[c.Index]
	if st.times == nil {
		st.times = &metrics.Histogram{}
	}
	st.times.Record(time.Duration(ns))
	if failed {
		st.failed++
	}
}

// countError counts an error reply by its code, the first word.
func (l *loop) countError(reply []byte) {
	l.n.errorReplies++
	end := 1
	for end < len(reply) && end < 64 && reply[end] > ' ' {
		end++
	}
	code := reply[1:end]
	if n, ok := l.t.errors[string(code)]; ok {
		l.t.errors[string(code)] = n + 1
	} else if len(l.t.errors) < maxErrorCodes {
		l.t.errors[string(code)] = 1
	}
}

// countAnswer counts a reply that the gateway itself gives to a command. c is nil where the
// command is counted elsewhere, or there is none.
func (l *loop) countAnswer(c *resp.Command, reply []byte) {
	failed := len(reply) > 0 && reply[0] == '-'
	if failed {
		l.countError(reply)
	}
	if c != nil {
		l.count(c, 0, failed)
	}
}

// countRejected counts a command that is refused before it is executed.
func (l *loop) countRejected(args [][]byte) {
	c := resp.Lookup(args[0])
	if c != nil && c.Subs != nil && len(args) > 1 {
		c = c.Sub(args[1])
	}
	if c != nil {
		l.t.cmds[c.Index].rejected++
	}
}

// each runs f for every loop, on that loop, one after the other. Off the loops only.
func (s *Server) each(ctx context.Context, f func(*loop)) {
	for _, l := range s.allLoops() {
		_ = l.call(ctx, func() { f(l) })
	}
}

// commandStats is the sum over all loops, by resp.Command.Index.
func (s *Server) commandStats(ctx context.Context) []commandStat {
	sum := make([]commandStat, resp.NumCommands())
	s.each(ctx, func(l *loop) {
		for i := range l.t.cmds {
			from, to := &l.t.cmds[i], &sum[i]
			to.merge(from)
		}
	})
	return sum
}

// Latencies is how long commands took from when they were parsed to the last byte of
// their reply, by the command's name ("get", "client|list"), since the start or CONFIG
// RESETSTAT. Commands that no one sent are absent. Not for a loop's goroutine.
func (s *Server) Latencies(ctx context.Context) map[string]metrics.Histogram {
	out := make(map[string]metrics.Histogram)
	stats := s.commandStats(ctx)
	eachCommand(func(c *resp.Command) {
		if h := stats[c.Index].times; h != nil {
			out[c.Name] = *h
		}
	})
	return out
}

// ErrorCounts is how many error replies clients were given, by code ("ERR", "WRONGTYPE").
// Not for a loop's goroutine.
func (s *Server) ErrorCounts(ctx context.Context) map[string]uint64 {
	out := make(map[string]uint64)
	s.each(ctx, func(l *loop) {
		for code, n := range l.t.errors {
			out[code] += n
		}
	})
	return out
}

// eachCommand visits the command table, subcommands after their container.
func eachCommand(f func(*resp.Command)) {
	for _, c := range resp.Commands {
		f(c)
		for _, sub := range c.Subs {
			f(sub)
		}
	}
}

// isFast is Redis's distinction of latency events.
func isFast(c *resp.Command) bool { return c.Flags&resp.Fast != 0 }

// secret reports which arguments of a command are never shown: from … to-1.
func secret(args []string) (from, to int) {
	if len(args) == 0 {
		return 0, 0
	}
	n := len(args)
	switch strings.ToLower(args[0]) {
	case "auth":
		return 1, n
	case "hello":
		for i := 2; i < n; i++ {
			if strings.EqualFold(args[i], "auth") {
				return i + 1, min(i+3, n)
			}
		}
	case "config":
		if n > 1 && strings.EqualFold(args[1], "set") {
			return secretSetting(args), n
		}
	case "acl":
		if n > 1 && strings.EqualFold(args[1], "setuser") {
			return 2, n
		}
	case "migrate":
		for i := 6; i < n; i++ {
			if strings.HasPrefix(strings.ToLower(args[i]), "auth") {
				return i + 1, n
			}
		}
	}
	return 0, 0
}

// secretSetting is where in a CONFIG SET the first secret is; behind it nothing is shown.
func secretSetting(args []string) int {
	for i := 2; i < len(args); i += 2 {
		name := strings.ToLower(args[i])
		for _, end := range []string{"pass", "password", "masterauth", "masteruser", "token"} {
			if strings.HasSuffix(name, end) {
				return i + 1
			}
		}
	}
	return len(args)
}
