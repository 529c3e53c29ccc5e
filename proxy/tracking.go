package proxy

import (
	"bytes"
	"slices"
	"strings"

	"keyferry/internal/resp"
)

// tracking is CLIENT TRACKING of one client. The servers tell the hub of every key that
// changes (a broadcasting connection for each group, only while any client tracks), and
// the gateway itself remembers who has read what. A key that moves is unlinked at its
// source, which is news of it too.
//
// A read is remembered when it is sent, and news is written behind the replies of the
// commands in flight, so a client never gets the news of a change before the old value.
//
// Who touches it: the loop of its session. The hub posts news to the loops that have trackers
// (deliver), one post for what one read brought.
//
// Who has read what is in the loop's readers (pubsub.Readers). A key is forgotten there when
// it is told of, once, as in Redis: who wants to hear of the next change reads it again.
//
// With REDIRECT the news is somebody else's: the reader's loop, which knows that it is to be told, hands
// it to the loop of whom it is for.
//
//	feed ─► loop of the reader ─► tellInvalid ─► [post] ─► tellFor, of the other client
//	                                                      └─ gone: redirectBroken, of the reader
//
// NOLOOP can't be kept: a server tells the gateway that a key has changed, and not who has changed it,
// and what two clients did to it within one turn of the server is one piece of news.
type tracking struct {
	bcast    bool
	prefixes [][]byte // with bcast: none overlaps another
	optIn    bool
	optOut   bool
	noLoop   bool
	caching  bool // CLIENT CACHING was said for the next command

	redirect int64    // who gets the news instead, by id; 0: the client itself
	to       *session // … if it is there; its loop may be another
	broken   bool     // it has gone, and news was lost by that
}

// trackedMax bounds the keys that one loop remembers readers of, as
// tracking-table-max-keys does.
const trackedMax = 1 << 20

// clientTracking: the first time it answers when every server's broadcasts are on, so that no change is missed
// that comes behind the OK. Said again it adds prefixes and changes options, and what was read
// before stays.
func (c *call) clientTracking() {
	s := c.s
	t, why := parseTracking(c.args[2:], s.tracking)
	if why != "" {
		c.reject(why)
		return
	}
	if t == nil {
		s.stopTracking()
		c.answer(okReply)
		return
	}
	r := c.begin()
	s.hold = r
	if t.redirect == 0 {
		s.track(t, r)
		return
	}
	srv, l := s.l.srv, s.l
	srv.life.wg.Go(func() {
		to := srv.sessionOf(t.redirect)
		l.post(func() {
			switch t.to = to; {
			case s.life == lifeGone:
				r.finish(nil)
			case to == nil:
				r.finish(resp.AppendErr(nil, "ERR The client ID you want redirect to does not exist"))
			default:
				s.track(t, r)
			}
		})
	})
}

// track puts in force what was asked for, and ends the request by that.
func (s *session) track(t *tracking, r *request) {
	l := s.l
	if t.redirect != 0 {
		l.srv.clients.redirects.Add(1)
	}
	if old := s.tracking; old != nil {
		t.prefixes = append(old.prefixes, t.prefixes...)
		t.caching = old.caching
		s.becomeTracking(t)
		r.finish(okReply)
		return
	}
	// From here on reads are remembered, before any server tells of changes: one too many does no
	// harm.
	l.readers.keys.Track(s)
	s.tracking = t
	l.srv.hub.Track(l, 1, func() { r.finish(okReply) })
}

// becomeTracking replaces what is in force; nil ends it.
func (s *session) becomeTracking(t *tracking) {
	if old := s.tracking; old != nil && old.redirect != 0 {
		s.l.srv.clients.redirects.Add(-1)
	}
	s.tracking = t
}

// sessionOf finds a client by its id, on whatever loop it is; nil: there is none. Only its loop may use
// it. Off the loops only.
func (s *Server) sessionOf(id int64) *session {
	for _, found := range ask(s.life.ctx, s, func(l *loop) *session {
		for x := range l.clients.all {
			if x.who.id == id {
				return x
			}
		}
		return nil
	}) {
		if found != nil {
			return found
		}
	}
	return nil
}

// parseTracking reads ON|OFF and the options, for a client that has old; nil: off.
//
// The order of the checks is Redis's, since a client with two mistakes gets the text of one.
func parseTracking(args [][]byte, old *tracking) (t *tracking, why string) {
	t = &tracking{}
	for i := 1; i < len(args); i++ {
		switch strings.ToLower(string(args[i])) {
		case "redirect":
			if i++; i == len(args) {
				return nil, "ERR syntax error"
			}
			id, ok := resp.Integer(args[i])
			switch {
			case t.redirect != 0:
				return nil, "ERR A client can only redirect to a single other client"
			case !ok:
				return nil, "ERR value is not an integer or out of range"
			case id == 0: // no client has it
				return nil, "ERR The client ID you want redirect to does not exist"
			}
			t.redirect = id
		case "bcast":
			t.bcast = true
		case "optin":
			t.optIn = true
		case "optout":
			t.optOut = true
		case "noloop":
			t.noLoop = true
		case "prefix":
			if i++; i == len(args) {
				return nil, "ERR syntax error"
			}
			t.prefixes = append(t.prefixes, bytes.Clone(args[i]))
		default:
			return nil, "ERR syntax error"
		}
	}
	switch strings.ToLower(string(args[0])) {
	case "on":
	case "off":
		return nil, ""
	default:
		return nil, "ERR syntax error"
	}
	if old == nil {
		old = &tracking{bcast: t.bcast}
	}
	switch {
	case !t.bcast && len(t.prefixes) > 0:
		return nil, "ERR PREFIX option requires BCAST mode to be enabled"
	case old.bcast != t.bcast:
		return nil, "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode."
	case t.bcast && (t.optIn || t.optOut):
		return nil, "ERR OPTIN and OPTOUT are not compatible with BCAST"
	case t.optIn && t.optOut:
		return nil, "ERR You can't specify both OPTIN mode and OPTOUT mode"
	case t.optIn && old.optOut, t.optOut && old.optIn:
		return nil, "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode."
	}
	if why := overlap(t.prefixes, old.prefixes); why != "" {
		return nil, why
	}
	if t.bcast && len(t.prefixes) == 0 && !old.matches(nil) {
		t.prefixes = [][]byte{{}} // of every key
	}
	return t, ""
}

// overlap says which of the prefixes, if any, a key could have together with another one.
func overlap(prefixes, old [][]byte) (why string) {
	for i, p := range prefixes {
		for j, q := range slices.Concat(old, prefixes[i+1:]) {
			if !bytes.HasPrefix(p, q) && !bytes.HasPrefix(q, p) {
				continue
			}
			kind := "another provided"
			if j < len(old) {
				kind = "an existing"
			}
			return "ERR Prefix '" + string(p) + "' overlaps with " + kind + " prefix '" + string(q) + "'. Prefixes for a single client must not overlap."
		}
	}
	return ""
}

// stopTracking: the hub ends the broadcasts at the servers with the last client that tracks.
func (s *session) stopTracking() {
	if s.tracking == nil {
		return
	}
	s.becomeTracking(nil)
	l := s.l
	l.readers.keys.Untrack(s)
	l.srv.hub.Track(l, -1, nil)
}

// clientCaching is CLIENT CACHING: about the next command.
func (c *call) clientCaching() {
	s, arg := c.s, c.args[2]
	t := s.tracking
	yes := strings.EqualFold(string(arg), "yes")
	switch {
	case t == nil || !t.optIn && !t.optOut:
		c.reject("ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled")
	case !yes && !strings.EqualFold(string(arg), "no"):
		c.reject("ERR syntax error")
	case yes && !t.optIn:
		c.reject("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
	case !yes && !t.optOut:
		c.reject("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
	default:
		t.caching = true
		c.answer(okReply)
	}
}

// trackCommand remembers what a tracking client is about to read.
func (s *session) trackCommand(cmd *resp.Command, args [][]byte, keys []int) {
	t := s.tracking
	if t.wants(cmd) {
		for _, k := range keys {
			s.remember(string(args[k]))
		}
	}
}

// endCaching ends what CLIENT CACHING said when a command has been run: it is about the next
// one, whatever that is, or the next transaction. cmd is nil for one that there is not.
//
// CLIENT itself is no next command, or CLIENT CACHING would end what it has just said.
func (s *session) endCaching(cmd *resp.Command) {
	if s.tx == nil && (cmd == nil || cmd.Parent != clientCommand) {
		s.tracking.caching = false
	}
}

// wants reports whether what the command reads is to be remembered. CLIENT CACHING in front
// of MULTI holds for the whole transaction.
func (t *tracking) wants(cmd *resp.Command) bool {
	switch {
	case t.bcast, cmd.Flags&resp.Readonly == 0 && cmd.Serve != resp.Script:
		return false
	case t.optIn:
		return t.caching
	case t.optOut:
		return !t.caching
	}
	return true
}

// remember makes the client a reader of a key. Where there is no room, the readers of some other
// key are told that it has changed.
//
// When the table is full a reader of some other key is told that it has changed, which is
// never wrong: it only reads it again.
func (s *session) remember(name string) {
	for {
		other, full := s.l.readers.keys.Remember(name, s)
		if !full {
			return
		}
		s.l.invalidate([][]byte{[]byte(other)}, false)
	}
}

// invalidate tells those who have read the keys, or all who track.
//
// all is said when a connection by which a server tells of changes was away: what changed
// meanwhile nobody knows. The sets are changed before anybody is told, since that writes, and
// can end a session.
func (l *loop) invalidate(keys [][]byte, all bool) {
	if all {
		l.readers.keys.Forget()
		for s := range l.readers.keys.All() {
			s.tellInvalid(nil)
		}
		return
	}
	for _, k := range keys {
		for s := range l.readers.keys.Changed(string(k)) {
			s.tellInvalid([][]byte{k})
		}
	}
	for s := range l.readers.keys.All() {
		if !s.tracking.bcast {
			continue
		}
		var mine [][]byte
		for _, k := range keys {
			if s.tracking.matches(k) {
				mine = append(mine, k)
			}
		}
		if len(mine) > 0 {
			s.tellInvalid(mine)
		}
	}
}

// An empty prefix matches all.
func (t *tracking) matches(key []byte) bool {
	for _, p := range t.prefixes {
		if bytes.HasPrefix(key, p) {
			return true
		}
	}
	return false
}

// tellInvalid pushes one invalidation; nil keys mean all. RESP2 has no way to say it, but to another
// client (REDIRECT).
//
// Behind the replies of the commands in flight (pushBehind): one of them may be a read of this
// key, of the value before. Of what goes to another connection nobody can say that, in Redis
// neither: its clients see to it.
func (s *session) tellInvalid(keys [][]byte) {
	if t := s.tracking; t.redirect != 0 {
		if t.to.l == s.l {
			t.to.tellFor(s, keys)
			return
		}
		t.to.l.post(func() { t.to.tellFor(s, keys) })
		return
	}
	if s.proto < 3 {
		return
	}
	out := s.reply()
	out.Push(2)
	out.Text("invalidate")
	appendInvalid(out, keys)
	s.pushBehind(out.B)
}

func appendInvalid(out *resp.Writer, keys [][]byte) {
	if keys == nil {
		out.Null()
		return
	}
	out.Array(len(keys))
	for _, k := range keys {
		out.Bulk(k)
	}
}

// tellFor is told what another client, on whatever loop, has asked to be sent here. In RESP2 it is a
// message, and only for who has subscribed to anything. When this client has gone the other one is
// told so, once for each news that it misses.
func (s *session) tellFor(reader *session, keys [][]byte) {
	if s.life == lifeGone {
		reader.l.post(reader.redirectBroken)
		return
	}
	out := s.reply()
	switch {
	case s.proto == 3:
		out.Push(2)
		out.Text("invalidate")
	case s.nsubs > 0:
		out.Array(3)
		out.Text("message")
		out.Text("__redis__:invalidate")
	default:
		return
	}
	appendInvalid(out, keys)
	s.push(out.B)
}

// redirectBroken: the client whose news has nowhere to go keeps stale copies, if it does not hear of that.
func (s *session) redirectBroken() {
	t := s.tracking
	if s.life == lifeGone || t == nil || t.redirect == 0 {
		return
	}
	t.broken = true
	if s.proto == 3 {
		out := s.reply()
		out.Push(2)
		out.Text("tracking-redir-broken")
		out.Int(t.redirect)
		s.push(out.B)
	}
}

// redir is what CLIENT GETREDIR says: -1 of who does not track, 0 of who gets the news itself.
func (t *tracking) redir() int64 {
	if t == nil {
		return -1
	}
	return t.redirect
}

// trackingInfo is CLIENT TRACKINGINFO.
func (c *call) trackingInfo() {
	s := c.s
	t := s.tracking
	flags := []string{"off"}
	if t != nil {
		flags = []string{"on"}
		for _, f := range []struct {
			on   bool
			name string
		}{{t.bcast, "bcast"}, {t.optIn, "optin"}, {t.optOut, "optout"}, {t.caching && t.optIn, "caching-yes"}, {t.caching && t.optOut, "caching-no"}, {t.noLoop, "noloop"}, {t.broken, "broken_redirect"}} {
			if f.on {
				flags = append(flags, f.name)
			}
		}
	}
	out := s.reply()
	out.Map(3)
	out.Text("flags")
	out.Set(len(flags))
	for _, f := range flags {
		out.Text(f)
	}
	out.Text("redirect")
	out.Int(t.redir())
	out.Text("prefixes")
	if t == nil {
		out.Array(0)
	} else {
		out.Array(len(t.prefixes))
		for _, p := range slices.SortedFunc(slices.Values(t.prefixes), bytes.Compare) {
			out.Bulk(p)
		}
	}
	c.answer(out.B)
}
