package proxy

import (
	"bytes"
	"strings"

	"keyferry/internal/resp"
)

// serverCommand answers the commands about the server itself, which is this gateway.
func (s *session) serverCommand(name, sub string, cmd *resp.Command, args [][]byte) {
	switch name {
	case "config":
		s.config(sub, args)
	case "acl":
		s.acl(sub, args)
	case "memory":
		s.memoryCommand(sub)
	case "debug":
		s.debugCommand(args)
	case "monitor":
		s.startMonitor()
	case "role":
		s.role()
	case "module":
		s.help("MODULE", []string{"LIST", "    Return a list of loaded modules."})
	case "slowlog":
		s.slowlog(sub, args)
	case "latency":
		s.latency(sub, args)
	default:
		s.reject(refusalOf(cmd))
	}
}

// later queues a reply that f writes off the loop; f may block for a short while, and must
// not touch the session.
func (s *session) later(f func(w *resp.Writer)) {
	proto := s.proto
	s.async(func() []byte {
		w := &resp.Writer{Proto: proto}
		f(w)
		return w.B
	})
}

// laterHeld is later for what the client's next commands must find done.
func (s *session) laterHeld(f func(w *resp.Writer)) {
	proto := s.proto
	s.hold = s.async(func() []byte {
		w := &resp.Writer{Proto: proto}
		f(w)
		return w.B
	})
}

func (s *session) help(name string, lines []string) { s.answer(appendHelp(nil, name, lines)) }

// cText is what is seen of an argument in an error that a server makes with C's %s: all
// before the first NUL.
func cText(arg []byte) string {
	text, _, _ := bytes.Cut(arg, []byte{0})
	return string(text)
}

func (s *session) wrongArity(name string) {
	s.reject("ERR wrong number of arguments for '" + name + "' command")
}

// badSubcommand is what Redis says of a subcommand's arguments when it doesn't say more.
func (s *session) badSubcommand(args [][]byte) {
	s.reject("ERR unknown subcommand or wrong number of arguments for '" + string(args[1][:min(len(args[1]), 128)]) + "'. Try " + strings.ToUpper(string(args[0])) + " HELP.")
}
