package proxy

import (
	"strings"

	"keyferry/internal/resp"
)

// quiet is what CLIENT REPLY has said of the client's replies.
type quiet uint8

const (
	quietNot   quiet = iota
	quietOff         // no replies
	quietAfter       // SKIP: none to the next command
	quietNow         // … which is this one
)

// clientReply: ON is answered, OFF and SKIP are not: what they say is about themselves too.
func (c *call) clientReply() {
	s := c.s
	switch strings.ToLower(string(c.args[2])) {
	case "on":
		s.modes.quiet, c.muted = quietNot, false
		c.answer(okReply)
	case "off":
		s.modes.quiet, c.muted = quietOff, true
		c.answer(nil) // it is counted
	case "skip":
		if s.modes.quiet != quietOff {
			s.modes.quiet = quietAfter
		}
		c.muted = true
		c.answer(nil)
	default:
		c.reject("ERR syntax error")
	}
}

// mutes reports that a command gets no reply. What SUBSCRIBE and its like send are messages,
// and those the client gets all the same. cmd is nil for one that there is not.
func (s *session) mutes(cmd *resp.Command) bool {
	return (s.modes.quiet == quietOff || s.modes.quiet == quietNow) && (cmd == nil || cmd.Serve != resp.Hub || cmd.Traits&resp.WhileSubscribed == 0)
}

// quietNext is said behind each command: what CLIENT REPLY SKIP says is about the next one.
func (s *session) quietNext() {
	switch s.modes.quiet {
	case quietNow:
		s.modes.quiet = quietNot
	case quietAfter:
		s.modes.quiet = quietNow
	}
}
