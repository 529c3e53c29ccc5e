package proxy

import (
	"slices"
	"strings"

	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
)

// subscriptions are a client's channels.
type subscriptions struct {
	of [3]map[string]struct{} // by kindIndex
}

var kinds = [3]channelKind{exact, pattern, sharded}

func kindIndex(k channelKind) int { return slices.Index(kinds[:], k) }

func subscribes(kind channelKind) func(*call) {
	return func(c *call) { c.subscribe(kind, c.args[1:]) }
}

func unsubscribes(kind channelKind) func(*call) {
	return func(c *call) { c.unsubscribe(kind, c.args[1:]) }
}

func publishes(kind channelKind) func(*call) {
	return func(c *call) { c.publish(kind, c.args) }
}

// counts answers PUBSUB NUMSUB: what the servers say, with the gateway's clients in the
// place of the gateway.
func counts(kind channelKind) func(*call) {
	return func(c *call) {
		hub, names := c.s.l.srv.hub, cloneArgs(c.args[2:])
		c.fan(c.s.l.everyGroup(), resp.AppendRequest(nil, c.args...), false, func(parts [][]byte) []byte { return hub.numSub(kind, names, parts) })
	}
}

var pubsubHelp = []string{
	"CHANNELS [<pattern>]", "    Return the currently active channels matching a <pattern> (default: '*').",
	"NUMPAT", "    Return number of subscriptions to patterns.",
	"NUMSUB [<channel> ...]", "    Return the number of subscribers for the specified channels, excluding", "    pattern subscriptions(default: no channels).",
	"SHARDCHANNELS [<pattern>]", "    Return the currently active shard level channels matching a <pattern> (default: '*').",
	"SHARDNUMSUB [<shardchannel> ...]", "    Return the number of subscribers for the specified shard level channel(s)",
}

// subscribe answers when the servers have confirmed, so that a client which has its
// answer misses nothing. What the client sends next waits so long.
func (c *call) subscribe(kind channelKind, names [][]byte) {
	s := c.s
	l := s.l
	if s.subs == nil {
		s.subs = &subscriptions{}
	}
	set := s.subs.of[kindIndex(kind)]
	var fresh []channelKey
	asked := make([]string, len(names))
	seen := make(map[string]struct{})
	for i, n := range names {
		asked[i] = string(n)
		_, have := set[asked[i]]
		if _, twice := seen[asked[i]]; !have && !twice {
			seen[asked[i]] = struct{}{}
			fresh = append(fresh, channelKey{kind, asked[i]})
		}
	}
	if len(fresh) == 0 {
		c.answer(s.subscribed(kind, asked))
		return
	}
	r := c.begin()
	s.hold = r
	l.srv.hub.want(l, fresh, func() {
		if s.life == lifeGone {
			l.srv.hub.drop(l, fresh)
			r.finish(nil)
			return
		}
		r.finish(s.subscribed(kind, asked))
	})
}

// subscribed enters channels that the hub has and gives the replies.
func (s *session) subscribed(kind channelKind, names []string) []byte {
	l := s.l
	at := kindIndex(kind)
	if s.subs == nil { // unsubscribed from all meanwhile
		s.subs = &subscriptions{}
	}
	if s.subs.of[at] == nil {
		s.subs.of[at] = make(map[string]struct{})
	}
	out := s.reply()
	for _, n := range names {
		k := channelKey{kind, n}
		s.subs.of[at][n] = struct{}{}
		if l.readers.ofChannels[k] == nil {
			l.readers.ofChannels[k] = make(map[*session]struct{})
		}
		l.readers.ofChannels[k][s] = struct{}{}
		s.confirm(out, strings.ToLower(kind.verb(true)), kind, &n)
	}
	s.countSubs()
	return out.B
}

// confirm appends one reply of (UN)SUBSCRIBE, with the number of channels left.
func (s *session) confirm(out *resp.Writer, verb string, kind channelKind, name *string) {
	s.countSubs()
	n := s.nsubs
	if s.subs != nil {
		if shards := len(s.subs.of[kindIndex(sharded)]); kind == sharded {
			n = shards
		} else {
			n -= shards
		}
	}
	out.Push(3)
	out.Text(verb)
	if name == nil {
		out.Null()
	} else {
		out.Text(*name)
	}
	out.Int(int64(n))
}

func (s *session) countSubs() {
	s.nsubs = 0
	if s.subs != nil {
		for _, set := range s.subs.of {
			s.nsubs += len(set)
		}
	}
}

func (c *call) unsubscribe(kind channelKind, names [][]byte) {
	s := c.s
	var list []string
	for _, n := range names {
		list = append(list, string(n))
	}
	if len(names) == 0 && s.subs != nil {
		for n := range s.subs.of[kindIndex(kind)] {
			list = append(list, n)
		}
		slices.Sort(list)
	}
	out := s.reply()
	verb := strings.ToLower(kind.verb(false))
	var left []channelKey
	for _, n := range list {
		if k := (channelKey{kind, n}); s.leaveChannel(k) {
			left = append(left, k)
		}
		s.confirm(out, verb, kind, &n)
	}
	if len(list) == 0 {
		s.confirm(out, verb, kind, nil)
	}
	s.l.srv.hub.drop(s.l, left)
	c.answer(out.B)
}

// leaveChannel ends a subscription on the loop; true: there was one, and the hub has to be
// told.
func (s *session) leaveChannel(k channelKey) bool {
	if s.subs == nil {
		return false
	}
	set := s.subs.of[kindIndex(k.kind)]
	if _, have := set[k.name]; !have {
		return false
	}
	delete(set, k.name)
	l := s.l
	if delete(l.readers.ofChannels[k], s); len(l.readers.ofChannels[k]) == 0 {
		delete(l.readers.ofChannels, k)
	}
	return true
}

func (s *session) unsubscribeAll() {
	if s.subs == nil {
		return
	}
	var left []channelKey
	for i, set := range s.subs.of {
		for n := range set {
			k := channelKey{kinds[i], n}
			s.leaveChannel(k)
			left = append(left, k)
		}
	}
	s.l.srv.hub.drop(s.l, left)
	s.subs, s.nsubs = nil, 0
}

// deliver gives what the hub has received to this loop's clients.
func (l *loop) deliver(list []message) {
	for _, m := range list {
		if m.keys != nil || m.all {
			l.invalidate(m.keys, m.all)
			continue
		}
		var array []byte // of RESP2; the frame itself is read by other loops too
		for s := range l.readers.ofChannels[m.key] {
			if s.proto == 3 {
				s.push(m.frame)
				continue
			}
			if array == nil {
				array = append([]byte{'*'}, m.frame[1:]...)
			}
			s.push(array)
		}
	}
}

// publish sends a message to one group, always the same for a channel. The servers count
// the gateway as one receiver; the client is told how many clients that are.
func (c *call) publish(kind channelKind, args [][]byte) {
	s := c.s
	l := s.l
	group := l.channelGroup(args[1])
	if group < 0 {
		c.reject("CLUSTERDOWN there is no group")
		return
	}
	r := c.begin()
	r.op = &publishing{key: channelKey{kind, string(args[1])}}
	r.sendTo(l, group, resp.AppendRequest(nil, args...))
}

// channelGroup is where messages on a channel are published: by rendezvous hashing, so
// that a group which comes or goes changes the place of few channels.
func (l *loop) channelGroup(name []byte) int16 {
	best, most := int16(-1), uint64(0)
	for i := range l.table.Groups {
		h := uint64(14695981039346656037) // FNV-1a
		for _, part := range [2][]byte{[]byte(l.table.Groups[i].ID), name} {
			for _, c := range part {
				h = (h ^ uint64(c)) * 1099511628211
			}
			h = (h ^ 0xff) * 1099511628211
		}
		h ^= h >> 32
		if h *= 0x9e3779b97f4a7c15; best < 0 || h > most {
			best, most = int16(i), h
		}
	}
	return best
}

type publishing struct {
	plain
	key channelKey
}

func (x *publishing) reply(r *request, b []byte, last bool) bool {
	n, ok := resp.ParseInt(b)
	if !last || !ok {
		return true
	}
	clients, own := r.s.l.srv.hub.audience(x.key)
	r.finish(redcon.AppendInt(nil, max(n-int64(own), 0)+int64(clients)))
	return false
}

// numSub joins the replies of PUBSUB NUMSUB, at each of which the gateway counts as one.
func (h *hub) numSub(kind channelKind, names [][]byte, parts [][]byte) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := redcon.AppendArray(nil, 2*len(names))
	for i, name := range names {
		total := int64(0)
		c := h.channels[channelKey{kind, string(name)}]
		for _, p := range parts {
			fields, ok := resp.SplitAggregate(p)
			if !ok || len(fields) != 2*len(names) {
				return badPart()
			}
			n, _ := resp.ParseInt(fields[2*i+1])
			if c != nil && n > 0 {
				n--
			}
			total += n
		}
		if c != nil {
			total += int64(c.total)
		}
		out = redcon.AppendInt(redcon.AppendBulk(out, name), total)
	}
	return out
}

// unionOf joins arrays of names.
func unionOf(parts [][]byte) []byte {
	seen := make(map[string]bool)
	var body []byte
	for _, p := range parts {
		names, ok := resp.SplitAggregate(p)
		if !ok {
			return badPart()
		}
		for _, n := range names {
			if !seen[string(n)] {
				seen[string(n)] = true
				body = append(body, n...)
			}
		}
	}
	return append(redcon.AppendArray(nil, len(seen)), body...)
}

func maxOf(parts [][]byte) []byte {
	most := int64(0)
	for _, p := range parts {
		n, ok := resp.ParseInt(p)
		if !ok {
			return badPart()
		}
		most = max(most, n)
	}
	return redcon.AppendInt(nil, most)
}
