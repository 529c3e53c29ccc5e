package proxy

import (
	"context"
	"crypto/subtle"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/redcon"
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

func (s *session) client(sub string, args [][]byte) bool {
	switch sub {
	case "id":
		s.answer(redcon.AppendInt(nil, s.id))
	case "setname":
		if !validClientName(string(args[2])) {
			s.reject(badClientName)
			return true
		}
		s.name = string(args[2])
		s.answer(okReply)
	case "getname":
		if s.name == "" {
			s.answer([]byte("$-1\r\n"))
			return true
		}
		s.answer(redcon.AppendBulkString(nil, s.name))
	case "setinfo":
		s.setInfo(string(args[2]), string(args[3]))
	case "info":
		s.answer(redcon.AppendBulkString(nil, s.describe()))
	case "list":
		s.listClients(args[2:])
	case "no-evict":
		s.onOff(args[2], &s.noEvict)
	case "no-touch":
		// Kept for CLIENT INFO; the servers' LRU sees this client's commands all the same,
		// because their connections are shared.
		s.onOff(args[2], &s.noTouch)
	case "help":
		s.answer(appendHelp(nil, "CLIENT", clientHelp))
	case "tracking":
		return s.clientTracking(args)
	case "trackinginfo":
		s.trackingInfo()
	case "caching":
		s.clientCaching(args[2])
	case "getredir":
		redirect := int64(-1)
		if s.tracking != nil {
			redirect = 0
		}
		s.answer(redcon.AppendInt(nil, redirect))
	case "unblock":
		s.clientUnblock(args)
	default:
		s.reject(refusalOf(s.lastCmd))
	}
	return true
}

var clientHelp = []string{
	"GETNAME", "    Return the name of the current connection.",
	"ID", "    Return the ID of the current connection.",
	"INFO", "    Return information about the current client connection.",
	"LIST [options ...]", "    Return information about client connections. Options:",
	"    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)", "      Return clients of specified type.",
	"    * ID <client-id> [<client-id> ...]", "      Return clients of specified IDs only.",
	"NO-EVICT (ON|OFF)", "    Protect current client connection from eviction.",
	"NO-TOUCH (ON|OFF)", "    Accepted; server connections are shared, so it has no effect.",
	"SETINFO <option> <value>", "    Set client meta attr: LIB-NAME or LIB-VER.",
	"SETNAME <name>", "    Assign the name <name> to the current connection.",
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

func (s *session) setInfo(attr, value string) {
	switch strings.ToLower(attr) {
	case "lib-name":
		if !validClientName(value) {
			s.reject("ERR lib-name cannot contain spaces, newlines or special characters.")
			return
		}
		s.libName = value
	case "lib-ver":
		if !validClientName(value) {
			s.reject("ERR lib-ver cannot contain spaces, newlines or special characters.")
			return
		}
		s.libVer = value
	default:
		s.reject("ERR Unrecognized option '" + attr + "'")
		return
	}
	s.answer(okReply)
}

func (s *session) onOff(arg []byte, flag *bool) {
	switch strings.ToLower(string(arg)) {
	case "on":
		*flag = true
	case "off":
		*flag = false
	default:
		s.reject("ERR syntax error")
		return
	}
	s.answer(okReply)
}

// describe is one line of CLIENT LIST, in Redis's format.
func (s *session) describe() string {
	flags := "N"
	if s.noEvict {
		flags = "e"
	}
	if s.noTouch {
		flags = strings.TrimPrefix(flags+"T", "N")
	}
	cmd := "NULL"
	if s.lastCmd != nil {
		cmd = s.lastCmd.Name
	}
	laddr := ""
	if s.conn != nil {
		laddr = s.conn.LocalAddr().String()
	}
	return fmt.Sprintf("id=%d addr=%s laddr=%s fd=0 name=%s age=%d idle=%d flags=%s db=%d sub=0 psub=0 ssub=0 multi=-1 qbuf=%d qbuf-free=%d argv-mem=0 multi-mem=0 rbs=%d rbp=0 obl=%d oll=%d omem=%d tot-mem=%d events=r cmd=%s user=default redir=-1 resp=2 lib-name=%s lib-ver=%s\n",
		s.id, s.addr, laddr, s.name, int(s.l.now.Sub(s.since).Seconds()), int(s.l.now.Sub(s.active).Seconds()), flags, s.db,
		len(s.in)-s.pos, cap(s.in)-len(s.in), cap(s.out), len(s.out), s.queue.n, s.pendingOut(), cap(s.in)+cap(s.out)+s.held, cmd, s.libName, s.libVer)
}

// listClients asks every loop, so it is answered by a goroutine.
func (s *session) listClients(opts [][]byte) {
	var ids []int64
	none := false
	switch {
	case len(opts) == 0:
	case len(opts) == 2 && strings.EqualFold(string(opts[0]), "type"):
		switch t := strings.ToLower(string(opts[1])); t {
		case "normal":
		case "master", "replica", "slave", "pubsub":
			none = true
		default:
			s.reject("ERR Unknown client type '" + string(opts[1]) + "'")
			return
		}
	case len(opts) >= 2 && strings.EqualFold(string(opts[0]), "id"):
		for _, o := range opts[1:] {
			id, err := strconv.ParseInt(string(o), 10, 64)
			if err != nil || id <= 0 {
				s.reject("ERR Invalid client ID")
				return
			}
			ids = append(ids, id)
		}
	default:
		s.reject("ERR syntax error")
		return
	}
	srv := s.l.srv
	s.async(func() []byte {
		type line struct {
			id   int64
			text string
		}
		var lines []line
		for _, l := range srv.allLoops() {
			_ = l.call(srv.ctx, func() {
				for c := range l.sessions {
					if !none && (ids == nil || slices.Contains(ids, c.id)) {
						lines = append(lines, line{c.id, c.describe()})
					}
				}
			})
		}
		slices.SortFunc(lines, func(a, b line) int { return int(a.id - b.id) })
		var b strings.Builder
		for _, x := range lines {
			b.WriteString(x.text)
		}
		return redcon.AppendBulkString(nil, b.String())
	})
}

// async queues a reply that f makes off the loop; f may block for a short while.
func (s *session) async(f func() []byte) *request {
	l := s.l
	r := l.begin(s, s.lastCmd)
	l.srv.wg.Go(func() {
		reply := f()
		l.post(func() { r.finish(reply) })
	})
	return r
}

// Parked counts the commands that wait for moving keys, by key. For the admin side and
// for tests.
func (s *Server) Parked(ctx context.Context) map[string]int {
	out := make(map[string]int)
	for _, l := range s.allLoops() {
		_ = l.call(ctx, func() {
			for k, q := range l.parked {
				out[k.Name] += len(q.list)
			}
		})
	}
	return out
}
