package proxy

import "keyferry/internal/resp"

// admission is what was decided about a command before it runs.
//
// A new reason to let a command through or not (limits of a user, rights to keys) has its
// place in admit and nowhere else.
type admission uint8

const (
	admitted  admission = iota
	denied              // it has been answered with the reason
	postponed           // a pause holds it up: it is to be given again
	queued              // it belongs to the transaction that the client has begun
)

// admit decides whether a command runs now. It is the one place that does, so that a command
// behind MULTI has passed what any other one has: the checks come first, and only what they
// all let through is queued. The order is Redis's:
//
//	it exists, with so many arguments    bad says if not
//	the client has authenticated         but for AUTH and what else needs no password
//	it does not write, or writes are served
//	CLIENT PAUSE does not hold it up
//	a RESP2 client is not subscribed     it could not tell a reply from a message
//	a monitoring client asks for no data
//	no transaction is open               but for what ends one
//
// What a client may send before it gets a reply is not decided here but before the next
// command is parsed (session.mustWait).
//
// It may answer, and does nothing else: a command that is postponed leaves no trace.
func (c *call) admit(bad string) admission {
	s, cmd := c.s, c.cmd
	switch {
	// Redis knows SENTINEL in another role only, so it is no row of the table; but there is more
	// to say of it than that it is unknown.
	case cmd == nil:
		if text, yes := unknownButRefused(c.args[0]); yes {
			bad = text
		}
		c.refuse(bad)
	case !s.modes.authed && cmd.Flags&resp.NoAuth == 0:
		c.refuse("NOAUTH Authentication required.")
	case s.l.clients.refusal != "" && c.writes():
		c.refuse(s.l.clients.refusal)
	// Before everything that has an effect, and before MULTI queues: what a pause holds up is to
	// be as if it had not been sent yet. It stays in the input as bytes.
	case s.l.clients.pause != pauseNone && c.postponed():
		return postponed
	case s.nsubs > 0 && s.proto == 2 && cmd.Traits&resp.WhileSubscribed == 0:
		c.refuse("ERR Can't execute '" + cmd.Name + "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
	// A monitoring client is in Redis a kind of replica, and gets a replica's text.
	case s.modes.monitor && s.noKeyspace(cmd):
		c.refuse(noKeyspaceText)
	case s.tx != nil && cmd.Traits&resp.AtOnceInMulti == 0:
		return queued
	default:
		return admitted
	}
	return denied
}
