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

func (s *session) clientReply(arg []byte) {
	switch strings.ToLower(string(arg)) {
	case "on":
		s.quiet, s.muted = quietNot, false
		s.answer(okReply)
	case "off":
		s.quiet, s.muted = quietOff, true
		s.answer(nil) // it is counted
	case "skip":
		if s.quiet != quietOff {
			s.quiet = quietAfter
		}
		s.muted = true
		s.answer(nil)
	default:
		s.reject("ERR syntax error")
	}
}

// mute decides whether the command that begins gets a reply. What SUBSCRIBE and its like
// send are messages, and they do.
func (s *session) mute(cmd *resp.Command) {
	s.muted = (s.quiet == quietOff || s.quiet == quietNow) && (cmd == nil || cmd.Serve != resp.Hub || !allowedSubscribed(cmd))
}

// unmute is said behind each command.
func (s *session) unmute() {
	switch s.quiet {
	case quietNow:
		s.quiet = quietNot
	case quietAfter:
		s.quiet = quietNow
	}
	s.muted = false
}
