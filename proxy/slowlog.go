package proxy

import (
	"math"

	"keyferry/internal/resp"
)

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
// written, for all loops together.
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
