package proxy

import (
	"bytes"
	"slices"
	"strings"

	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
	"keyferry/internal/upstream"
	"keyferry/proxy/pubsub"
)

// subscriptions are a client's channels. Only its loop touches them. nil in a session that has
// never subscribed, which is most of them.
//
//	session.subs       what the client has been told it has
//	loop.readers       the same, by channel: who gets a message
//	pubsub.Hub         which loops have any client of a channel
//	servers            which channels the gateway has, at every group
//
// The servers have confirmed before a client is told that it has a channel, and the client has
// left it before they hear of that. So who has been told gets every message from then on.
type subscriptions struct {
	of [3]map[string]struct{} // by kindIndex
}

// kinds are the kinds of channels, by their index in subscriptions.
var kinds = [3]pubsub.Kind{pubsub.Exact, pubsub.Pattern, pubsub.Sharded}

// kindIndex is the place of a kind in subscriptions.of.
func kindIndex(k pubsub.Kind) int { return slices.Index(kinds[:], k) }

// subscribes, unsubscribes and publishes make handlers: the kind of channel is the only thing in
// which SUBSCRIBE, PSUBSCRIBE and SSUBSCRIBE differ.
func subscribes(kind pubsub.Kind) func(*call) {
	return func(c *call) { c.subscribe(kind, c.args[1:]) }
}

func unsubscribes(kind pubsub.Kind) func(*call) {
	return func(c *call) { c.unsubscribe(kind, c.args[1:]) }
}

func publishes(kind pubsub.Kind) func(*call) {
	return func(c *call) { c.publish(kind, c.args) }
}

// counts answers PUBSUB NUMSUB: what the servers say, with the gateway's clients in the
// place of the gateway.
func counts(kind pubsub.Kind) func(*call) {
	return func(c *call) {
		srv, names := c.s.l.srv, cloneArgs(c.args[2:])
		c.fan(c.s.l.everyGroup(), resp.AppendRequest(nil, c.args...), false, func(parts [][]byte) []byte { return srv.numSub(kind, names, parts) })
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
func (c *call) subscribe(kind pubsub.Kind, names [][]byte) {
	s := c.s
	l := s.l
	if s.subs == nil {
		s.subs = &subscriptions{}
	}
	set := s.subs.of[kindIndex(kind)]
	var fresh []pubsub.Key
	asked := make([]string, len(names))
	seen := make(map[string]struct{})
	for i, n := range names {
		asked[i] = string(n)
		_, have := set[asked[i]]
		if _, twice := seen[asked[i]]; !have && !twice {
			seen[asked[i]] = struct{}{}
			fresh = append(fresh, pubsub.Key{Kind: kind, Name: asked[i]})
		}
	}
	// What the client has already needs no server; its count is told again, as Redis does.
	if len(fresh) == 0 {
		c.answer(s.subscribed(kind, asked))
		return
	}
	r := c.begin()
	// What the client sends next may be a PUBLISH to itself.
	s.hold = r
	// The hub calls back on this loop, later: the client may have gone by then, and nobody
	// else would tell the hub that the channels are not wanted any more.
	l.srv.hub.Want(l, fresh, func() {
		if s.life == lifeGone {
			l.srv.hub.Drop(l, fresh)
			r.finish(nil)
			return
		}
		r.finish(s.subscribed(kind, asked))
	})
}

// subscribed enters channels that the hub has and gives the replies.
func (s *session) subscribed(kind pubsub.Kind, names []string) []byte {
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
		k := pubsub.Key{Kind: kind, Name: n}
		s.subs.of[at][n] = struct{}{}
		l.readers.channels.Add(k, s)
		s.confirm(out, strings.ToLower(kind.Verb(true)), kind, &n)
	}
	s.countSubs()
	return out.B
}

// confirm appends one reply of (UN)SUBSCRIBE, with the number of channels left.
func (s *session) confirm(out *resp.Writer, verb string, kind pubsub.Kind, name *string) {
	s.countSubs()
	n := s.nsubs
	if s.subs != nil {
		if shards := len(s.subs.of[kindIndex(pubsub.Sharded)]); kind == pubsub.Sharded {
			n = shards
		} else {
			n -= shards
		}
	}
	// Each channel has a reply of its own, so that a client can tell which of them it has.
	out.Push(3)
	out.Text(verb)
	if name == nil {
		out.Null()
	} else {
		out.Text(*name)
	}
	out.Int(int64(n))
}

// countSubs: nsubs is kept because every command of a RESP2 client asks whether there are any.
func (s *session) countSubs() {
	s.nsubs = 0
	if s.subs != nil {
		for _, set := range s.subs.of {
			s.nsubs += len(set)
		}
	}
}

// unsubscribe needs no answer from servers: from here on nothing is delivered. The hub is told when the
// last client of a channel has gone, and ends the subscription at the servers in its own time.
func (c *call) unsubscribe(kind pubsub.Kind, names [][]byte) {
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
	verb := strings.ToLower(kind.Verb(false))
	var left []pubsub.Key
	for _, n := range list {
		if k := (pubsub.Key{Kind: kind, Name: n}); s.leaveChannel(k) {
			left = append(left, k)
		}
		s.confirm(out, verb, kind, &n)
	}
	// Redis answers UNSUBSCRIBE of nothing once, without a name: a client waits for a reply.
	if len(list) == 0 {
		s.confirm(out, verb, kind, nil)
	}
	s.l.srv.hub.Drop(s.l, left)
	c.answer(out.B)
}

// leaveChannel ends a subscription on the loop; true: there was one, and the hub has to be
// told.
func (s *session) leaveChannel(k pubsub.Key) bool {
	if s.subs == nil {
		return false
	}
	// Named twice in one UNSUBSCRIBE, it is left once: the hub counts what it is told.
	set := s.subs.of[kindIndex(k.Kind)]
	if _, have := set[k.Name]; !have {
		return false
	}
	delete(set, k.Name)
	s.l.readers.channels.Remove(k, s)
	return true
}

// unsubscribeAll: for RESET and teardown. One word to the hub for all channels: a client can have very many.
func (s *session) unsubscribeAll() {
	if s.subs == nil {
		return
	}
	var left []pubsub.Key
	for i, set := range s.subs.of {
		for n := range set {
			k := pubsub.Key{Kind: kinds[i], Name: n}
			s.leaveChannel(k)
			left = append(left, k)
		}
	}
	s.l.srv.hub.Drop(s.l, left)
	s.subs, s.nsubs = nil, 0
}

// Post implements pubsub.Loop.
func (l *loop) Post(f func()) { l.post(f) }

// Deliver implements pubsub.Loop: it gives what the hub has received to this loop's clients.
func (l *loop) Deliver(list []pubsub.Message) {
	for i := range list {
		m := &list[i]
		if m.Invalidates() {
			l.invalidate(m.Keys, m.All)
			continue
		}
		// The hub hears RESP3, in which a message is a push; RESP2 has arrays, which differ in the
		// first byte only.
		var array []byte // of RESP2; the frame itself is read by other loops too
		for s := range l.readers.channels.Of(m.Key) {
			if s.proto == 3 {
				s.push(m.Frame)
				continue
			}
			if array == nil {
				array = append([]byte{'*'}, m.Frame[1:]...)
			}
			s.push(array)
		}
	}
}

// publish sends a message to one group, always the same for a channel as long as that is there:
// the hub listens to all. The servers count the gateway as one receiver; the client is told how
// many clients that are.
func (c *call) publish(kind pubsub.Kind, args [][]byte) {
	s := c.s
	l := s.l
	group := pubsub.GroupOf(l.table.Groups, args[1])
	if group < 0 {
		c.reject("CLUSTERDOWN there is no group")
		return
	}
	frame, key := resp.AppendRequest(nil, args...), pubsub.Key{Kind: kind, Name: string(args[1])}
	r := c.begin()
	if l.pipe(group, s.db, s.proto).State() != upstream.Up {
		s.hold = r // what the client publishes next comes behind this, wherever it goes
		x := &republishing{r: r, key: key, frame: frame}
		for i := range l.table.Groups {
			x.groups = append(x.groups, l.table.Groups[(int(group)+i)%len(l.table.Groups)].Number)
		}
		x.next()
		return
	}
	r.op = &publishing{key: key}
	r.sendTo(l, group, frame)
}

// republishing is a PUBLISH whose group is perhaps away: it goes to the next one if certainly nothing
// has been published. Each attempt is a request of its own in a gather of one.
//
// Who touches it: the loop of its session. It lives as long as r waits for one of the attempts.
//
// Invariant: at most one attempt is under way, and none follows one whose outcome is not known, so
// that no subscriber gets the message twice.
//
// The gather frees each attempt, and r is finished once: by the gather, with what answered gives
// it, or by next, when no group is left.
type republishing struct {
	r      *request
	key    pubsub.Key
	frame  []byte
	groups []int // numbers of those to be tried, since the table may change meanwhile
	bad    []byte
}

// next asks the next group that is still part of the cluster. An attempt can fail from within the
// send, and then the one after it is made from here too: no deeper than there are groups.
func (x *republishing) next() {
	s := x.r.s
	l := s.l
	for len(x.groups) > 0 {
		group := l.groupNumber(x.groups[0])
		if x.groups = x.groups[1:]; group < 0 {
			continue
		}
		part := l.newRequest(s, x.r.cmd)
		part.g = &gather{r: x.r, tolerant: true, left: 1, parts: []*request{part}, join: func(parts [][]byte) []byte { return x.answered(part.fate, parts[0]) }}
		part.transmit(l.pipe(group, s.db, s.proto), block{frame: x.frame})
		return
	}
	x.r.finish(x.bad)
}

// answered: the first group's error is the one that is told, if none can be had.
func (x *republishing) answered(f fate, b []byte) []byte {
	if f == fateNothing {
		if x.bad == nil {
			x.bad = bytes.Clone(b)
		}
		x.next()
		return nil
	}
	if n, ok := resp.ParseInt(b); ok {
		return x.r.audience(x.key, n)
	}
	return bytes.Clone(b)
}

// audience is the reply to PUBLISH: the clients of the gateway, and those that the server has counted
// besides the gateway. They are looked at when the server has answered, so that it is near to what
// that has seen.
func (r *request) audience(key pubsub.Key, counted int64) []byte {
	clients, own := r.s.l.srv.hub.Audience(key)
	return redcon.AppendInt(nil, max(counted-int64(own), 0)+int64(clients))
}

// publishing: the server counts the gateway as one receiver, whatever the number of its clients, and the
// client is told how many of the gateway's clients there are instead.
type publishing struct {
	plain
	key pubsub.Key
}

func (x *publishing) reply(r *request, b []byte, last bool) bool {
	n, ok := resp.ParseInt(b)
	if !last || !ok {
		return true
	}
	r.finish(r.audience(x.key, n))
	return false
}

// numSub is the reply to PUBSUB NUMSUB: for each channel the sum over all groups, in which the
// gateway itself is one subscriber at each, and its clients stand for it.
func (s *Server) numSub(kind pubsub.Kind, names [][]byte, parts [][]byte) []byte {
	totals, ok := s.hub.Subscribers(kind, names, parts)
	if !ok {
		return badPart()
	}
	out := redcon.AppendArray(nil, 2*len(names))
	for i, name := range names {
		out = redcon.AppendInt(redcon.AppendBulk(out, name), totals[i])
	}
	return out
}

// unionOf joins arrays of names: a channel that is heard at several groups is one channel. The
// order is that in which they were met, as the order of a Redis is that of its table.
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

// maxOf: each group is subscribed to the same patterns, so the largest count is that of all.
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
