package proxy

import (
	"math"

	"keyferry/internal/resp"
	"keyferry/proxy/stats"
)

// SLOWLOG shows what took long as the clients saw it: from the moment that a command was parsed,
// or had to wait unparsed, until its reply was written. That is what an operator of a gateway asks
// for; a server's own slow log has the time of execution alone.
//
// Each loop keeps its own log (stats.SlowLog), which only it touches. Whoever asks collects copies
// by message, so that a slow reader of the log holds up no loop.

// logAnswer enters a command that was answered at once in a log that takes everything.
//
// As in Redis: not what was refused, nor what MULTI has queued, which come by other ways, nor QUIT.
func (c *call) logAnswer() {
	s := c.s
	if c.cmd == quitCommand || c.cmd.Flags&resp.SkipSlowlog != 0 || s.life == lifeGone {
		return
	}
	s.l.rec.Answered(resp.AppendRequest(nil, c.args...), stats.Sender{ClientAddr: s.who.addr, ClientName: s.who.name}, s.l.ns, s.l.now)
}

func (c *call) slowlogLen() {
	srv := c.s.l.srv
	c.later(func(w *resp.Writer) { w.Int(int64(len(srv.SlowLog(srv.life.ctx, -1)))) })
}

func (c *call) slowlogReset() {
	srv := c.s.l.srv
	c.later(func(w *resp.Writer) {
		srv.resetSlowLog(srv.life.ctx)
		w.OK()
	})
}

// slowlogGet: the entries of all loops, the newest first. Their numbers are given when replies have been
// written, for all loops together. A client that reads the log again and again knows by them what it has
// seen.
func (c *call) slowlogGet() {
	s, args := c.s, c.args
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
		// -1 is all, as in Redis; a number beyond what can be kept is all as well.
		n = int(min(v, math.MaxInt32))
	}
	srv := s.l.srv
	c.later(func(w *resp.Writer) {
		list := srv.SlowLog(srv.life.ctx, n)
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
