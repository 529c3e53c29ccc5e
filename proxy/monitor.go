package proxy

import (
	"fmt"
	"slices"

	"keyferry/internal/resp"
	"keyferry/proxy/stats"
)

// MONITOR: every loop writes what its clients have executed, one line each, and at the end
// of a turn hands the lines to the loops that have monitoring clients.
//
//	loop ─ lines of a turn ─┬─► loop with monitors ─► their output, bounded as everybody's
//	loop ─ lines of a turn ─┘
//
// While nobody monitors it costs a look at a slice's length.

// monitoring is a loop's part of it.
//
// Invariant: at is the same on all loops but while a change of it is under way, and startMonitor
// answers when that is over: no command is missed that comes behind its OK.
type monitoring struct {
	here  map[*session]struct{} // clients of this loop
	at    []*loop               // every loop that has such
	shown []byte                // lines of this turn for them
}

// monitorArg is how much is shown of one argument: a loop must not spend its time on quoting
// a large value.
//
// Redis shows all of it. A monitor is for people, who read no further.
const monitorArg = 16 << 10

// startMonitor answers OK when every loop knows, so that no later command is missed.
//
// It holds the session: what the client sends next would else be run as if it did not monitor.
// The client can have gone before the answer; then the count is taken back.
func (c *call) startMonitor() {
	s := c.s
	if s.modes.monitor {
		c.answer(nil) // as Redis: no second OK
		return
	}
	l, srv := s.l, s.l.srv
	r := c.begin()
	s.hold = r
	srv.life.wg.Go(func() {
		srv.countMonitors(l, 1)
		srv.each(srv.life.ctx, func(*loop) {}) // they have all heard of it
		l.post(func() {
			if s.life == lifeGone {
				l.monitorLeft()
			} else {
				s.modes.monitor = true
				l.monitoring.here[s] = struct{}{}
			}
			r.finish(okReply)
		})
	})
}

// stopMonitor: by RESET and teardown. Lines on their way to it are dropped when they come.
func (s *session) stopMonitor() {
	if s.modes.monitor {
		s.modes.monitor = false
		delete(s.l.monitoring.here, s)
		s.l.monitorLeft()
	}
}

func (l *loop) monitorLeft() { l.srv.countMonitors(l, -1) }

// countMonitors tells every loop where monitoring clients are.
//
// Under the mutex of Server.monitors until all loops have been posted to, so that two changes
// reach every loop in the same order. New loops read monitors.at, which is stored first.
func (s *Server) countMonitors(l *loop, n int) {
	s.monitors.mu.Lock()
	defer s.monitors.mu.Unlock()
	if s.monitors.by[l] += n; s.monitors.by[l] == 0 {
		delete(s.monitors.by, l)
	}
	var at []*loop
	for x := range s.monitors.by {
		at = append(at, x)
	}
	s.monitors.at.Store(&at)
	for _, x := range s.allLoops() {
		x.post(func() { x.monitoring.at = at })
	}
}

// show writes the line of a command that was executed or, by EXEC, is about to be.
//
// Commands with secrets show where their secrets would be that they are hidden. Administrative
// commands are not shown, as in Redis.
func (l *loop) show(cmd *resp.Command, s *session, args [][]byte) {
	if cmd.Flags&resp.Admin != 0 || cmd.Flags&resp.SkipMonitor != 0 && cmd.Serve != resp.Script {
		return
	}
	us := l.now.UnixMicro()
	b := fmt.Appendf(l.monitoring.shown, "+%d.%06d [%d %s]", us/1e6, us%1e6, s.db, s.who.addr)
	from, to := stats.SecretBytes(args)
	for i, a := range args {
		b = append(b, ' ')
		if i >= from && i < to {
			b = append(b, `"(redacted)"`...)
			continue
		}
		b = appendQuoted(b, a[:min(len(a), monitorArg)])
		if more := len(a) - monitorArg; more > 0 {
			b = fmt.Appendf(b, "... (%d more bytes)", more)
		}
	}
	l.monitoring.shown = append(b, '\r', '\n')
	l.arm()
}

// show writes the line of the call's command, behind those of what it has executed.
func (c *call) show() {
	l := c.s.l
	if tx := c.executed; tx != nil {
		l.showExecuted(c.s, tx)
	}
	l.show(c.cmd, c.s, c.args)
}

// showExecuted shows what a transaction has queued.
//
// They are parsed once more from what was sent, which is cheaper than to keep their arguments
// for the case that somebody monitors.
func (l *loop) showExecuted(s *session, tx *transaction) {
	scan := l.scanner(true)
	defer l.putScanner(scan)
	for b := tx.frames; len(b) > 0; {
		n, st := scan.Scan(b)
		if st != resp.OK {
			return
		}
		if cmd, bad := resp.Resolve(scan.Args()); bad == "" {
			l.show(cmd, s, scan.Args())
		}
		b = b[n:]
	}
}

// deliverShown gives the lines of this turn to those who monitor.
//
// One copy goes to all, which only read it. Within a loop lines are in the order in which
// commands ran; those of two loops can be out of the order of their times.
func (l *loop) deliverShown() {
	if len(l.monitoring.shown) == 0 {
		return
	}
	lines := slices.Clone(l.monitoring.shown)
	if l.monitoring.shown = l.monitoring.shown[:0]; cap(l.monitoring.shown) > 64<<10 {
		l.monitoring.shown = nil
	}
	for _, to := range l.monitoring.at {
		if to == l {
			l.monitorLines(lines)
		} else {
			to.post(func() { to.monitorLines(lines) })
		}
	}
}

// monitorLines: they are no replies, so they go between these, and count as output like all else.
func (l *loop) monitorLines(lines []byte) {
	for s := range l.monitoring.here {
		s.push(lines)
	}
}

// appendQuoted is Redis's sdscatrepr.
func appendQuoted(b, text []byte) []byte {
	b = append(b, '"')
	for _, c := range text {
		switch c {
		case '\\', '"':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		case '\a':
			b = append(b, `\a`...)
		case '\b':
			b = append(b, `\b`...)
		default:
			if c >= ' ' && c <= '~' {
				b = append(b, c)
			} else {
				b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
			}
		}
	}
	return append(b, '"')
}

const hexDigits = "0123456789abcdef"

// noKeyspace: what a monitoring client is told that asks for data, as Redis does.
func (s *session) noKeyspace(cmd *resp.Command) bool {
	return s.modes.monitor && cmd.Flags&(resp.Write|resp.Readonly) != 0
}

const noKeyspaceText = "ERR Replica can't interact with the keyspace"
