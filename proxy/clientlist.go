package proxy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"keyferry/internal/resp"
	"net"
	"syscall"
)

// defaultUser is the one user that there is.
const defaultUser = "default"

// describe is one line of CLIENT LIST, in Redis's format.
//
// Its fields and their order are Redis's, since there are programs that parse them. Those
// about which there is nothing to tell here are 0.
func (s *session) describe() string {
	cmd := "NULL"
	if s.who.lastCmd != nil {
		cmd = s.who.lastCmd.Name
	}
	fd := 0
	if c, ok := s.conn.(interface{ Fd() int }); ok {
		fd = c.Fd()
	}
	var subs [3]int
	if s.subs != nil {
		for i, set := range s.subs.of {
			subs[i] = len(set)
		}
	}
	multi, multiMem := -1, 0
	if s.tx != nil {
		multi, multiMem = s.tx.n, len(s.tx.frames)
	}
	events := "r"
	if s.pendingOut() > 0 {
		events = "rw"
	}
	return fmt.Sprintf("id=%d addr=%s laddr=%s fd=%d name=%s age=%d idle=%d flags=%s db=%d sub=%d psub=%d ssub=%d multi=%d"+
		" qbuf=%d qbuf-free=%d argv-mem=0 multi-mem=%d rbs=%d rbp=0 obl=%d oll=%d omem=%d tot-mem=%d events=%s cmd=%s user=%s redir=%d resp=%d lib-name=%s lib-ver=%s\n",
		s.who.id, s.who.addr, s.localAddr(), fd, s.who.name, int(s.l.now.Sub(s.who.since).Seconds()), int(s.l.now.Sub(s.who.active).Seconds()), s.flags(),
		s.db, subs[0], subs[1], subs[2], multi, len(s.input.buf)-s.input.pos, cap(s.input.buf)-len(s.input.buf), multiMem, cap(s.out.buf), len(s.out.buf), s.queue.n, s.pendingOut(),
		cap(s.input.buf)+cap(s.out.buf)+s.out.held+multiMem, events, cmd, defaultUser, s.tracking.redir(), s.proto, s.who.libName, s.who.libVer)
}

// localAddr is the address that the client has reached. gnet only knows the one that is
// listened on, which need not be of any interface.
func (s *session) localAddr() string {
	if s.conn == nil {
		return ""
	}
	if c, ok := s.conn.(interface{ Fd() int }); ok {
		sa, err := syscall.Getsockname(c.Fd())
		if err != nil {
			return ""
		}
		switch a := sa.(type) {
		case *syscall.SockaddrInet4:
			return (&net.TCPAddr{IP: a.Addr[:], Port: a.Port}).String()
		case *syscall.SockaddrInet6:
			return (&net.TCPAddr{IP: a.Addr[:], Port: a.Port}).String()
		}
	}
	return s.conn.LocalAddr().String()
}

// flags are those of CLIENT LIST that mean anything here, in Redis's order.
func (s *session) flags() string {
	out := ""
	for _, f := range []struct {
		on   bool
		flag string
	}{
		{s.modes.monitor, "O"}, {s.nsubs > 0, "P"}, {s.tx != nil, "x"}, {s.blocks() || s.isHeld() && s.l.clients.pause != pauseNone, "b"}, {s.tracking != nil, "t"}, {s.tracking != nil && s.tracking.bcast, "B"},
		{s.watch != nil && s.watch.lost, "d"}, {s.life == lifeEnding, "c"}, {s.modes.noEvict, "e"}, {s.modes.noTouch, "T"},
	} {
		if f.on {
			out += f.flag
		}
	}
	if out == "" {
		return "N"
	}
	return out
}

// kind is the client's type in the words of CLIENT LIST TYPE.
func (s *session) kind() string {
	if s.nsubs > 0 {
		return "pubsub"
	}
	return "normal"
}

// clientFilter says which clients CLIENT LIST and KILL mean: those that meet all that is set.
//
// It is made on the client's loop and read on all, so nothing in it changes after that.
type clientFilter struct {
	ids         []int64 // sorted
	kind        string
	addr, laddr string
	maxAge      time.Duration // at least so old
	not         *session
	none        bool
}

// match is asked on the loop of the session, by what is true there now.
func (f *clientFilter) match(s *session) bool {
	switch {
	case f.none, s == f.not:
	case f.ids != nil && !f.has(s.who.id):
	case f.kind != "" && f.kind != s.kind():
	case f.addr != "" && f.addr != s.who.addr:
	case f.laddr != "" && f.laddr != s.localAddr():
	case f.maxAge > 0 && s.l.now.Sub(s.who.since) < f.maxAge:
	default:
		return true
	}
	return false
}

// has: by search in the sorted list: somebody may name as many clients as there are.
func (f *clientFilter) has(id int64) bool {
	_, yes := slices.BinarySearch(f.ids, id)
	return yes
}

// setKind takes a type; of replicas and masters there are none.
func (f *clientFilter) setKind(arg []byte) (why string) {
	switch t := strings.ToLower(string(arg)); t {
	case "normal", "pubsub":
		f.kind = t
	case "master", "replica", "slave":
		f.none = true
	default:
		return "ERR Unknown client type '" + cText(arg) + "'"
	}
	return ""
}

// clientList asks every loop, so it is answered by a goroutine.
func (c *call) clientList() {
	opts := c.args[2:]
	s := c.s
	var f clientFilter
	why := ""
	switch {
	case len(opts) == 0:
	case len(opts) == 2 && strings.EqualFold(string(opts[0]), "type"):
		why = f.setKind(opts[1])
	case len(opts) >= 2 && strings.EqualFold(string(opts[0]), "id"):
		for _, o := range opts[1:] {
			id, ok := resp.Integer(o)
			if !ok {
				why = "ERR Invalid client ID"
			}
			f.ids = append(f.ids, id)
		}
		slices.Sort(f.ids)
	default:
		why = "ERR syntax error"
	}
	if why != "" {
		c.reject(why)
		return
	}
	srv := s.l.srv
	c.later(func(w *resp.Writer) { w.Verbatim("txt", srv.clientLines(srv.life.ctx, f)) })
}

// clientLines: the loops are asked one after the other, so it is no picture of one moment.
func (s *Server) clientLines(ctx context.Context, f clientFilter) string {
	type line struct {
		id   int64
		text string
	}
	var lines []line
	s.each(ctx, func(l *loop) {
		for c := range l.clients.all {
			if f.match(c) {
				lines = append(lines, line{c.who.id, c.describe()})
			}
		}
	})
	slices.SortFunc(lines, func(a, b line) int { return cmp.Compare(a.id, b.id) })
	var b strings.Builder
	for _, x := range lines {
		b.WriteString(x.text)
	}
	return b.String()
}

// clientKill runs both forms of CLIENT KILL: an address, answered with OK, and options,
// answered with the number of clients.
func (c *call) clientKill() {
	s, opts := c.s, c.args[2:]
	var f clientFilter
	old := len(opts) == 1
	if old {
		f.addr, f.none = string(opts[0]), len(opts[0]) == 0
	} else {
		why := ""
		if f, why = s.killFilter(opts); why != "" {
			c.reject(why)
			return
		}
	}
	srv := s.l.srv
	c.laterHeld(func(w *resp.Writer) {
		n := srv.killClients(srv.life.ctx, f, s)
		switch {
		case old && n == 0:
			w.Err("ERR No such client")
		case old:
			w.OK()
		default:
			w.Int(int64(n))
		}
	})
}

// killFilter: options are read from left to right, and the first that is wrong is answered, as by Redis.
// SKIPME is yes by default.
func (s *session) killFilter(opts [][]byte) (f clientFilter, why string) {
	f.not = s
	for ; len(opts) > 0; opts = opts[2:] {
		if len(opts) == 1 { // seen only now: what is wrong before it is said first
			return f, "ERR syntax error"
		}
		arg := string(opts[1])
		switch n, ok := resp.Integer(opts[1]); strings.ToLower(string(opts[0])) {
		case "id":
			if !ok || n < 1 {
				return f, "ERR client-id should be greater than 0"
			}
			f.ids = []int64{n}
		case "type":
			if why := f.setKind(opts[1]); why != "" {
				return f, why
			}
		case "addr": // an empty one is nobody's, and not no condition
			f.addr, f.none = arg, f.none || arg == ""
		case "laddr":
			f.laddr, f.none = arg, f.none || arg == ""
		case "user":
			if arg != defaultUser {
				return f, "ERR No such user '" + cText(opts[1]) + "'"
			}
		case "maxage":
			switch {
			case !ok:
				return f, "ERR maxage is not an integer or out of range"
			case n < 1:
				return f, "ERR maxage should be greater than 0"
			}
			f.maxAge = time.Duration(min(n, maxAgeSeconds)) * time.Second
		case "skipme":
			switch strings.ToLower(arg) {
			case "yes":
				f.not = s
			case "no":
				f.not = nil
			default:
				return f, "ERR syntax error"
			}
		default:
			return f, "ERR syntax error"
		}
	}
	return f, ""
}

// maxAgeSeconds is older than any client, and no overflow.
const maxAgeSeconds = 1 << 32

// killClients closes the clients that f means; self after it has its reply. Not for a
// loop's goroutine.
//
// The client itself is closed behind its reply, others at once.
func (s *Server) killClients(ctx context.Context, f clientFilter, self *session) int {
	n := 0
	s.each(ctx, func(l *loop) {
		for c := range l.clients.all {
			switch {
			case !f.match(c):
				continue
			case c == self:
				c.becomeEnding()
			default:
				c.kill("CLIENT KILL by " + self.who.addr)
			}
			n++
		}
	})
	return n
}
