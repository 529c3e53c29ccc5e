package proxy

import (
	"context"
	"crypto/subtle"
	"strings"

	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
)

// CLIENT is about connections to this gateway. The servers see the gateway's own connections,
// which many clients share, so nothing here is asked of them.

const badClientName = "ERR Client names cannot contain spaces, newlines or special characters."

// validClientName is Redis's rule: printable ASCII without space. CLIENT LIST has one line a
// client, of words: a name with a space or a line feed could forge fields and clients.
func validClientName(name string) bool {
	for i := range len(name) {
		if name[i] < '!' || name[i] > '~' {
			return false
		}
	}
	return true
}

// constantTimeEqual: its time depends on the lengths, and on nothing that the two have in common.
func constantTimeEqual(a []byte, b string) bool {
	return subtle.ConstantTimeCompare(a, []byte(b)) == 1
}

func (c *call) clientID() { c.answer(redcon.AppendInt(nil, c.s.who.id)) }

// clientSetName: the name stays here. The servers know their connections by the gateway's names for
// them, which fencing relies on.
func (c *call) clientSetName() {
	name := string(c.args[2])
	if !validClientName(name) {
		c.reject(badClientName)
		return
	}
	c.s.who.name = name
	c.answer(okReply)
}

func (c *call) clientGetName() {
	out := c.s.reply()
	if name := c.s.who.name; name == "" {
		out.Null()
	} else {
		out.Text(name)
	}
	c.answer(out.B)
}

// clientInfo is the client's own line of CLIENT LIST. Its loop has all of it, so no other loop is
// asked.
func (c *call) clientInfo() {
	w := c.s.reply()
	w.Verbatim("txt", c.s.describe())
	c.answer(w.B)
}

// clientUnpause holds the client, whose next command must not meet a loop that has not heard of it.
func (c *call) clientUnpause() {
	srv := c.s.l.srv
	c.laterHeld(func(w *resp.Writer) {
		srv.unpause(srv.life.ctx)
		w.OK()
	})
}

// clientNoEvict protects the client from evict, which closes the largest clients when all together
// take too much.
func (c *call) clientNoEvict() { c.onOff(&c.s.modes.noEvict) }

// clientNoTouch keeps it for CLIENT INFO; the servers' LRU sees this client's commands all
// the same, because their connections are shared.
func (c *call) clientNoTouch() { c.onOff(&c.s.modes.noTouch) }

func (c *call) clientGetRedir() { c.answer(redcon.AppendInt(nil, c.s.tracking.redir())) }

var clientHelp = []string{
	"CACHING (YES|NO)", "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
	"GETREDIR", "    Return the client ID we are redirecting to when tracking is enabled.",
	"GETNAME", "    Return the name of the current connection.",
	"ID", "    Return the ID of the current connection.",
	"INFO", "    Return information about the current client connection.",
	"KILL <ip:port>", "    Kill connection made from <ip:port>.",
	"KILL <option> <value> [<option> <value> [...]]", "    Kill connections. Options are:",
	"    * ADDR (<ip:port>|<unixsocket>:0)", "      Kill connections made from the specified address",
	"    * LADDR (<ip:port>|<unixsocket>:0)", "      Kill connections made to specified local address",
	"    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)", "      Kill connections by type.",
	"    * USER <username>", "      Kill connections authenticated by <username>.",
	"    * SKIPME (YES|NO)", "      Skip killing current connection (default: yes).",
	"    * ID <client-id>", "      Kill connections by client id.",
	"    * MAXAGE <maxage>", "      Kill connections older than the specified age.",
	"LIST [options ...]", "    Return information about client connections. Options:",
	"    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)", "      Return clients of specified type.",
	"    * ID <client-id> [<client-id> ...]", "      Return clients of specified IDs only.",
	"UNPAUSE", "    Stop the current client pause, resuming traffic.",
	"PAUSE <timeout> [WRITE|ALL]", "    Suspend all, or just write, clients for <timeout> milliseconds.",
	"REPLY (ON|OFF|SKIP)", "    Control the replies sent to the current connection.",
	"SETNAME <name>", "    Assign the name <name> to the current connection.",
	"SETINFO <option> <value>", "    Set client meta attr: LIB-NAME or LIB-VER.",
	"UNBLOCK <clientid> [TIMEOUT|ERROR]", "    Unblock the specified blocked client.",
	"TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]", "         [OPTIN] [OPTOUT] [NOLOOP]", "    Control server assisted client side caching.",
	"TRACKINGINFO", "    Report tracking status for the current connection.",
	"NO-EVICT (ON|OFF)", "    Protect current client connection from eviction.",
	"NO-TOUCH (ON|OFF)", "    Accepted; server connections are shared, so it has no effect.",
}

// appendHelp: the form of Redis's addReplyHelp, which redis-cli shows as it comes.
func appendHelp(b []byte, name string, lines []string) []byte {
	b = redcon.AppendArray(b, len(lines)+3)
	b = redcon.AppendString(b, name+" <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
	for _, line := range lines {
		b = redcon.AppendString(b, line)
	}
	b = redcon.AppendString(b, "HELP")
	return redcon.AppendString(b, "    Prints this help.")
}

// clientSetInfo: libraries say at their start who they are, and don't expect to be refused: names are checked
// as Redis does.
func (c *call) clientSetInfo() {
	s, attr, value := c.s, string(c.args[2]), string(c.args[3])
	switch strings.ToLower(attr) {
	case "lib-name":
		if !validClientName(value) {
			c.reject("ERR lib-name cannot contain spaces, newlines or special characters.")
			return
		}
		s.who.libName = value
	case "lib-ver":
		if !validClientName(value) {
			c.reject("ERR lib-ver cannot contain spaces, newlines or special characters.")
			return
		}
		s.who.libVer = value
	default:
		c.reject("ERR Unrecognized option '" + attr + "'")
		return
	}
	c.answer(okReply)
}

func (c *call) onOff(flag *bool) {
	switch strings.ToLower(string(c.args[2])) {
	case "on":
		*flag = true
	case "off":
		*flag = false
	default:
		c.reject("ERR syntax error")
		return
	}
	c.answer(okReply)
}

// Parked counts the commands that wait for moving keys, by key. For the admin side and
// for tests.
//
// One loop after the other; the numbers are of slightly different times.
func (s *Server) Parked(ctx context.Context) map[string]int {
	out := make(map[string]int)
	for _, l := range s.allLoops() {
		_ = l.call(ctx, func() {
			for k, n := range l.parking.Queues() {
				out[k.Name] += n
			}
		})
	}
	return out
}
