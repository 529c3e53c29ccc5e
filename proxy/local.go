package proxy

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
	"keyferry/proxy/pubsub"
)

var okReply = []byte("+OK\r\n")

func (c *call) echo() { c.answer(redcon.AppendBulk(nil, c.args[1])) }

// quit: the reply is the last one. What stands behind QUIT in the input is dropped, as by Redis.
func (c *call) quit() {
	c.s.becomeEnding()
	c.answer(okReply)
}

// time: the loop's clock, which was read when the bytes came.
func (c *call) time() {
	us := c.s.l.now.UnixMicro()
	b := redcon.AppendArray(nil, 2)
	b = redcon.AppendBulkString(b, strconv.FormatInt(us/1e6, 10))
	c.answer(redcon.AppendBulkString(b, strconv.FormatInt(us%1e6, 10)))
}

// ping: a RESP2 client that is subscribed reads messages only, and expects even this in their form.
func (c *call) ping() {
	s, args := c.s, c.args
	switch {
	case len(args) > 2:
		c.reject("ERR wrong number of arguments for 'ping' command")
	case s.nsubs > 0 && s.proto == 2: // in the form of a message, which is what its reader expects
		said := []byte{}
		if len(args) == 2 {
			said = args[1]
		}
		c.answer(redcon.AppendBulk(redcon.AppendBulkString(redcon.AppendArray(nil, 2), "pong"), said))
	case len(args) == 2:
		c.answer(redcon.AppendBulk(nil, args[1]))
	default:
		c.answer([]byte("+PONG\r\n"))
	}
}

// selectDB: only a number is noted: which connection that means is decided by each command, so that
// SELECT costs no round trip.
//
// Each database has a connection of its own, and between two of them there is no order. What was
// sent before may be about the other database too: MOVE, COPY … DB, a script or a transaction that
// selects. So the next commands wait until it has been answered. False: not before that.
func (c *call) selectDB() bool {
	s := c.s
	n, ok := resp.Integer(c.args[1])
	switch {
	case !ok:
		c.reject(notAnInteger)
	case n != int64(int32(n)):
		c.reject("ERR value is out of range, value must between -2147483648 and 2147483647")
	case n < 0 || n >= int64(s.l.table.Databases):
		c.reject("ERR DB index is out of range")
	case int(n) != s.db && s.queue.n > 0:
		return false
	default:
		s.db = int(n)
		c.answer(okReply)
	}
	return true
}

const wrongPass = "WRONGPASS invalid username-password pair or user is disabled."

// auth: every failure is noted in ACL LOG, with the user that was named.
func (c *call) auth() {
	s, args := c.s, c.args
	switch want := s.password(); {
	case len(args) > 3:
		c.reject("ERR syntax error")
	case len(args) == 2 && want == "":
		c.reject("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
	case !s.passes(args[1:]):
		user := []byte(defaultUser)
		if len(args) == 3 {
			user = args[1]
		}
		s.denied(user, "AUTH")
		c.reject(wrongPass)
	default:
		s.modes.authed = true
		c.answer(okReply)
	}
}

// passes checks [user] password: the one user is "default".
//
// In constant time, so that the time of a failure tells nothing of the password.
func (s *session) passes(cred [][]byte) bool {
	pass := cred[len(cred)-1]
	if len(cred) == 2 && string(cred[0]) != "default" {
		return false
	}
	want := s.password()
	return want == "" || constantTimeEqual(pass, want)
}

// hello changes the protocol version only when nothing is in flight: the versions have
// server connections of their own, and a command could overtake another.
func (c *call) hello() bool {
	s, args := c.s, c.args
	proto := s.proto
	if len(args) > 1 {
		v, ok := resp.Integer(args[1])
		if !ok {
			c.reject("ERR Protocol version is not an integer or out of range")
			return true
		}
		if v < 2 || v > 3 {
			c.reject("NOPROTO unsupported protocol version")
			return true
		}
		proto = int(v)
	}
	// All that can be refused by form has been, so that nobody waits to hear of a mistake. The
	// options that follow are read when it runs.
	if proto != s.proto && s.queue.n > 0 {
		return false
	}
	name, named, refused := s.helloOptions(args)
	if refused != "" {
		c.reject(refused)
		return true
	}
	// HELLO needs no password by itself, so it is looked at here and not in admit: AUTH may be one
	// of its options.
	if !s.modes.authed {
		c.reject("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
		return true
	}
	// Only now, when nothing can be refused any more: HELLO takes effect as a whole.
	if named {
		s.who.name = name
	}
	s.setProto(proto)
	s.describeServer(c)
	return true
}

// helloOptions reads what follows the version. AUTH takes effect at once, also
// where a later option is refused. refused is the error to answer; "": none.
func (s *session) helloOptions(args [][]byte) (name string, named bool, refused string) {
	for i := 2; i < len(args); i++ {
		switch opt := strings.ToLower(string(args[i])); {
		case opt == "auth" && i+2 < len(args):
			if !s.passes(args[i+1 : i+3]) {
				s.denied(args[i+1], "HELLO")
				return "", false, wrongPass
			}
			s.modes.authed = true
			i += 2
		case opt == "setname" && i+1 < len(args):
			name, named = string(args[i+1]), true
			if !validClientName(name) {
				return "", false, badClientName
			}
			i++
		default:
			return "", false, "ERR Syntax error in HELLO option '" + string(args[i]) + "'"
		}
	}
	return name, named, ""
}

// describeServer answers HELLO: what clients choose their behaviour by. The version is that
// whose commands are served, and the role that of what takes writes.
func (s *session) describeServer(c *call) {
	out := s.reply()
	out.Map(7)
	for _, kv := range [][2]string{{"server", "redis"}, {"version", redisVersion}} {
		out.Text(kv[0])
		out.Text(kv[1])
	}
	out.Text("proto")
	out.Int(int64(s.proto))
	out.Text("id")
	out.Int(s.who.id)
	for _, kv := range [][2]string{{"mode", s.l.srv.opt.redisMode()}, {"role", "master"}} {
		out.Text(kv[0])
		out.Text(kv[1])
	}
	out.Text("modules")
	out.Array(0)
	c.answer(out.B)
}

// setProto changes the version that the client is spoken to in. The connection that
// watches for it speaks the other one, so what is watched counts as changed.
func (s *session) setProto(proto int) {
	if proto != s.proto && s.watch != nil {
		s.watch.lost = true
	}
	s.proto = proto
}

// reset makes the session what it was when the client connected.
//
// It runs alone because it changes the protocol version, and takes back what commands in
// flight may still need. The messages for which a subscriber has been counted come in front of the
// answer, in the version in which it has subscribed, as with UNSUBSCRIBE.
func (c *call) reset() bool {
	s := c.s
	if s.queue.n > 0 {
		return false
	}
	c.muted = false
	reply := []byte("+RESET\r\n")
	left := s.takeChannels()
	if len(left) == 0 {
		s.resetState()
		c.answer(reply)
		return true
	}
	l := s.l
	r := c.begin()
	s.hold = r
	l.srv.hub.Drop(l, left, func() {
		l.unlisten(s, left)
		if s.life < lifeGone {
			s.resetState()
		}
		r.finish(reply)
	})
	return true
}

// resetState is run alone, with no command in flight, so that nothing of the old state is still in
// use. Connections that the client had to itself go back.
func (s *session) resetState() {
	s.tx = nil
	s.unwatch()
	s.unsubscribeAll()
	s.stopTracking()
	s.stopMonitor()
	s.proto, s.db, s.who.name, s.lastWrite = 2, 0, "", nil
	s.modes.noEvict, s.modes.noTouch = false, false
	s.modes.quiet = quietNot
	s.modes.authed = s.password() == ""
}

// commandAll is COMMAND: the whole table.
func (c *call) commandAll() {
	w := c.s.reply()
	w.Array(len(resp.Commands))
	for _, x := range resp.Commands {
		w.CommandInfo(x)
	}
	c.answer(w.B)
}

func (c *call) commandCount() { c.answer(redcon.AppendInt(nil, int64(len(resp.Commands)))) }

// commandInfo: names that are no command are null in their place, so that the reply has one entry for each.
func (c *call) commandInfo() {
	if len(c.args) == 2 {
		c.commandAll()
		return
	}
	w := c.s.reply()
	w.Array(len(c.args) - 2)
	for _, a := range c.args[2:] {
		if x := findCommand(a); x != nil {
			w.CommandInfo(x)
		} else {
			w.Null()
		}
	}
	c.answer(w.B)
}

// commandDocs is left to a server if there is one: it also has the trees of arguments, by
// which redis-cli gives hints.
func (c *call) commandDocs() {
	if len(c.s.l.table.Serving()) > 0 {
		c.plainly()
		return
	}
	list := resp.Commands
	if len(c.args) > 2 {
		list = nil
		for _, a := range c.args[2:] {
			if x := findCommand(a); x != nil {
				list = append(list, x)
			}
		}
	}
	w := c.s.reply()
	w.Map(len(list))
	for _, x := range list {
		w.Text(x.Name)
		w.CommandDocs(x)
	}
	c.answer(w.B)
}

func (c *call) commandList() {
	names, ok := listCommands(c.args[2:])
	if !ok {
		c.reject("ERR syntax error")
		return
	}
	w := c.s.reply()
	w.Array(len(names))
	for _, n := range names {
		w.Text(n)
	}
	c.answer(w.B)
}

func (c *call) commandGetKeys() { c.answer(resp.AppendGetKeys(nil, c.args[2:])) }

func (c *call) commandKeysAndFlags() {
	w := c.s.reply()
	w.KeysAndFlags(c.args[2:])
	c.answer(w.B)
}

// listCommands is COMMAND LIST [FILTERBY MODULE|ACLCAT|PATTERN x]: commands and
// subcommands. False: wrong syntax.
func listCommands(args [][]byte) (names []string, ok bool) {
	accept := func(*resp.Command) bool { return true }
	if len(args) > 0 {
		if len(args) != 3 || !bytes.EqualFold(args[0], []byte("filterby")) {
			return nil, false
		}
		x := strings.ToLower(string(args[2]))
		switch strings.ToLower(string(args[1])) {
		case "module": // what is declared in conf has no module that we know of
			accept = func(*resp.Command) bool { return false }
		case "aclcat":
			accept = func(c *resp.Command) bool { return c.InCategory(x) }
		case "pattern":
			accept = func(c *resp.Command) bool { return pubsub.Match(x, c.Name) }
		default:
			return nil, false
		}
	}
	for _, top := range resp.Commands {
		for _, c := range append([]*resp.Command{top}, top.Subs...) {
			if accept(c) {
				names = append(names, c.Name)
			}
		}
	}
	return names, true
}

var commandHelp = []string{
	"(no subcommand)", "    Return details about all Redis commands.",
	"COUNT", "    Return the total number of commands in this Redis server.",
	"LIST", "    Return a list of all commands in this Redis server.",
	"LIST FILTERBY (MODULE <module-name>|ACLCAT <cat>|PATTERN <pattern>)", "    Return those commands only.",
	"INFO [<command-name> ...]", "    Return details about multiple Redis commands.",
	"DOCS [<command-name> ...]", "    Return documentation details about multiple Redis commands.",
	"GETKEYSANDFLAGS <full-command>", "    Return the keys and the access flags from a full Redis command.",
	"GETKEYS <full-command>", "    Return the keys from a full Redis command.",
}

// findCommand takes "get" and "client|id".
func findCommand(name []byte) *resp.Command {
	top, sub, has := bytes.Cut(name, []byte("|"))
	c := resp.Lookup(top)
	if c != nil && has {
		c = c.Sub(sub)
	}
	return c
}
