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
type tracking struct {
	bcast    bool
	prefixes [][]byte // with bcast: none overlaps another
	optIn    bool
	optOut   bool
	noLoop   bool
	caching  bool // CLIENT CACHING was said for the next command
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
	if old := s.tracking; old != nil {
		t.prefixes = append(old.prefixes, t.prefixes...)
		t.caching = old.caching
		s.tracking = t
		c.answer(okReply)
		return
	}
	l := s.l
	r := c.begin()
	s.hold = r
	// From here on reads are remembered, before any server tells of changes: one too many does no
	// harm.
	l.readers.keys.Track(s)
	s.tracking = t
	l.srv.hub.Track(l, 1, func() { r.finish(okReply) })
}

// parseTracking reads ON|OFF and the options, for a client that has old; nil: off.
//
// The order of the checks is Redis's, since a client with two mistakes gets the text of one.
func parseTracking(args [][]byte, old *tracking) (t *tracking, why string) {
	t = &tracking{}
	for i := 1; i < len(args); i++ {
		switch strings.ToLower(string(args[i])) {
		case "redirect":
			return nil, "ERR REDIRECT is not supported through the gateway: invalidations are sent on the tracking connection itself, to RESP3 clients (HELLO 3)"
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
	s.tracking = nil
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

// tellInvalid pushes one invalidation; nil keys mean all. RESP2 has no way to say it.
//
// Behind the replies of the commands in flight (pushBehind): one of them may be a read of this
// key, of the value before.
func (s *session) tellInvalid(keys [][]byte) {
	if s.proto < 3 {
		return
	}
	out := s.reply()
	out.Push(2)
	out.Text("invalidate")
	if keys == nil {
		out.Null()
	} else {
		out.Array(len(keys))
		for _, k := range keys {
			out.Bulk(k)
		}
	}
	s.pushBehind(out.B)
}

// trackingInfo is CLIENT TRACKINGINFO.
func (c *call) trackingInfo() {
	s := c.s
	t := s.tracking
	flags := []string{"off"}
	redirect := int64(-1)
	if t != nil {
		flags, redirect = []string{"on"}, 0
		for _, f := range []struct {
			on   bool
			name string
		}{{t.bcast, "bcast"}, {t.optIn, "optin"}, {t.optOut, "optout"}, {t.caching && t.optIn, "caching-yes"}, {t.caching && t.optOut, "caching-no"}, {t.noLoop, "noloop"}} {
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
	out.Int(redirect)
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
