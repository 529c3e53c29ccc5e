package proxy

import (
	"context"
	"crypto/subtle"
	"strings"

	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
)

const badClientName = "ERR Client names cannot contain spaces, newlines or special characters."

// validClientName is Redis's rule: printable ASCII without space.
func validClientName(name string) bool {
	for i := range len(name) {
		if name[i] < '!' || name[i] > '~' {
			return false
		}
	}
	return true
}

func constantTimeEqual(a []byte, b string) bool {
	return subtle.ConstantTimeCompare(a, []byte(b)) == 1
}

func (c *call) client(sub string, args [][]byte) bool {
	s := c.s
	switch sub {
	case "id":
		c.answer(redcon.AppendInt(nil, s.id))
	case "setname":
		if !validClientName(string(args[2])) {
			c.reject(badClientName)
			return true
		}
		s.name = string(args[2])
		c.answer(okReply)
	case "getname":
		if s.name == "" {
			c.answer([]byte("$-1\r\n"))
			return true
		}
		c.answer(redcon.AppendBulkString(nil, s.name))
	case "setinfo":
		c.setInfo(string(args[2]), string(args[3]))
	case "info":
		w := s.reply()
		w.Verbatim("txt", s.describe())
		c.answer(w.B)
	case "list":
		c.listClients(args[2:])
	case "kill":
		c.clientKill(args[2:])
	case "pause":
		c.clientPause(args)
	case "unpause":
		srv := s.l.srv
		c.laterHeld(func(w *resp.Writer) {
			srv.unpause(srv.ctx)
			w.OK()
		})
	case "reply":
		c.clientReply(args[2])
	case "no-evict":
		c.onOff(args[2], &s.noEvict)
	case "no-touch":
		// Kept for CLIENT INFO; the servers' LRU sees this client's commands all the same,
		// because their connections are shared.
		c.onOff(args[2], &s.noTouch)
	case "help":
		c.answer(appendHelp(nil, "CLIENT", clientHelp))
	case "tracking":
		return c.clientTracking(args)
	case "trackinginfo":
		c.trackingInfo()
	case "caching":
		c.clientCaching(args[2])
	case "getredir":
		redirect := int64(-1)
		if s.tracking != nil {
			redirect = 0
		}
		c.answer(redcon.AppendInt(nil, redirect))
	case "unblock":
		c.clientUnblock(args)
	default:
		c.reject(refusalOf(c.cmd))
	}
	return true
}

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
	"TRACKING (ON|OFF) [BCAST] [PREFIX <prefix> [...]]", "         [OPTIN] [OPTOUT] [NOLOOP]", "    Control server assisted client side caching.",
	"TRACKINGINFO", "    Report tracking status for the current connection.",
	"NO-EVICT (ON|OFF)", "    Protect current client connection from eviction.",
	"NO-TOUCH (ON|OFF)", "    Accepted; server connections are shared, so it has no effect.",
}

func appendHelp(b []byte, name string, lines []string) []byte {
	b = redcon.AppendArray(b, len(lines)+3)
	b = redcon.AppendString(b, name+" <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
	for _, line := range lines {
		b = redcon.AppendString(b, line)
	}
	b = redcon.AppendString(b, "HELP")
	return redcon.AppendString(b, "    Prints this help.")
}

func (c *call) setInfo(attr, value string) {
	s := c.s
	switch strings.ToLower(attr) {
	case "lib-name":
		if !validClientName(value) {
			c.reject("ERR lib-name cannot contain spaces, newlines or special characters.")
			return
		}
		s.libName = value
	case "lib-ver":
		if !validClientName(value) {
			c.reject("ERR lib-ver cannot contain spaces, newlines or special characters.")
			return
		}
		s.libVer = value
	default:
		c.reject("ERR Unrecognized option '" + attr + "'")
		return
	}
	c.answer(okReply)
}

func (c *call) onOff(arg []byte, flag *bool) {
	switch strings.ToLower(string(arg)) {
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
