package proxy

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
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
// The servers have confirmed before a client is told that it has a channel. The Hub counts it from when
// it asks, and until it asks for the end; it listens for as long and a little longer, until what it was
// counted for has come. So it gets what it was counted for, between its two answers.
type subscriptions struct {
	of    [3]map[string]struct{}  // by kindIndex
	joins []*join                 // in the order in which they were sent: messages come behind the answers
	asked map[pubsub.Key]struct{} // of joins: the hub has been told, and the client does not listen yet
}

// join is a SUBSCRIBE whose answer is due when the servers have confirmed it, and all before it have
// been answered: each answer has the number of channels by then.
type join struct {
	r     *request
	kind  pubsub.Kind
	asked []string
	fresh []pubsub.Key // of asked, what the client did not have
	ready bool
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

func publishes(kind pubsub.Kind) handler {
	return func(c *call) bool { return c.publish(kind, c.args) }
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
// answer misses nothing. What the client sends next waits so long, unless it is another SUBSCRIBE: that
// holds from when it was sent, and a PUBLISH which comes meanwhile must not overtake it.
func (c *call) subscribe(kind pubsub.Kind, names [][]byte) {
	s := c.s
	l := s.l
	if s.subs == nil {
		s.subs = &subscriptions{}
	}
	x := s.subs
	j := &join{kind: kind}
	for _, n := range names {
		k := pubsub.Key{Kind: kind, Name: string(n)}
		j.asked = append(j.asked, k.Name)
		_, listens := l.readers.channels.Of(k)[s]
		if _, asked := x.asked[k]; !listens && !asked { // nor by a SUBSCRIBE that is not answered yet
			x.ask(k)
			j.fresh = append(j.fresh, k)
		}
	}
	// What the client has already needs no server; its count is told again, as Redis does.
	if len(j.fresh) == 0 && len(x.joins) == 0 {
		c.answer(s.subscribed(kind, j.asked))
		return
	}
	j.r = c.begin()
	// What the client sends next may be a PUBLISH to itself.
	s.hold = j.r
	x.joins = append(x.joins, j)
	if len(j.fresh) == 0 {
		j.ready = true // behind those before it
		return
	}
	// The hub calls back on this loop, later: the client may have gone by then. It listens from the first
	// call, which is behind the messages for which it is not counted.
	l.srv.hub.Want(l, j.fresh, func() { x.listen(s, j) }, func() {
		j.ready = true
		x.answerJoins(s)
	})
}

func (x *subscriptions) ask(k pubsub.Key) {
	if x.asked == nil {
		x.asked = make(map[pubsub.Key]struct{})
	}
	x.asked[k] = struct{}{}
}

// listen: messages for which the client has been counted come from here on, and no earlier ones do, which are
// for other clients of its loop.
func (x *subscriptions) listen(s *session, j *join) {
	for _, k := range j.fresh {
		delete(x.asked, k)
		if s.life < lifeGone {
			s.l.readers.channels.Add(k, s)
		}
	}
}

// subscribes reports that the request is a SUBSCRIBE.
func (r *request) subscribes() bool { return r.cmd != nil && r.cmd.Traits&resp.Subscribes != 0 }

// answerJoins answers in the order in which they were sent those that nothing keeps any more. Servers may
// have confirmed a later one first.
func (x *subscriptions) answerJoins(s *session) {
	for len(x.joins) > 0 && x.joins[0].ready {
		j := x.joins[0]
		x.joins = x.joins[1:]
		if s.life == lifeGone {
			j.r.finish(nil)
			continue
		}
		j.r.finish(s.subscribed(j.kind, j.asked))
	}
}

// subscribed enters channels that the hub has and gives the replies.
func (s *session) subscribed(kind pubsub.Kind, names []string) []byte {
	at := kindIndex(kind)
	if s.subs.of[at] == nil {
		s.subs.of[at] = make(map[string]struct{})
	}
	out := s.reply()
	for _, n := range names {
		s.subs.of[at][n] = struct{}{}
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

// unsubscribe needs no answer from servers: the hub is told at once, counts the client no more, and ends
// the subscription at the servers in its own time. What the client has been counted for is on its way
// to this loop, and the answer comes behind it.
func (c *call) unsubscribe(kind pubsub.Kind, names [][]byte) {
	s := c.s
	l := s.l
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
	if len(left) == 0 {
		c.answer(out.B)
		return
	}
	r := c.begin()
	s.hold = r // a SUBSCRIBE that came now would be undone by the end of this
	l.srv.hub.Drop(l, left, func() {
		l.unlisten(s, left)
		r.finish(out.B)
	})
}

// leaveChannel ends a subscription on the session; true: there was one, and the hub has to be
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
	return true
}

// unlisten: the last thing of a subscription. The session may have gone by then.
func (l *loop) unlisten(s *session, keys []pubsub.Key) {
	for _, k := range keys {
		l.readers.channels.Remove(k, s)
	}
}

// unsubscribeAll: for teardown. What the client was counted for and has not been written yet is lost
// with its connection, as at a server.
func (s *session) unsubscribeAll() {
	if left := s.takeChannels(); len(left) > 0 {
		s.l.unlisten(s, left)
		s.l.srv.hub.Drop(s.l, left, nil)
	}
}

// takeChannels takes all channels from the session, for whoever tells the hub: in one word, since a
// client can have very many. It hears them until unlisten.
func (s *session) takeChannels() []pubsub.Key {
	if s.subs == nil {
		return nil
	}
	var left []pubsub.Key
	for _, j := range s.subs.joins {
		left = append(left, j.fresh...)
	}
	for i, set := range s.subs.of {
		for n := range set {
			left = append(left, pubsub.Key{Kind: kinds[i], Name: n})
		}
	}
	s.subs, s.nsubs = nil, 0
	return left
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
				s.hear(m.Frame)
				continue
			}
			if array == nil {
				array = append([]byte{'*'}, m.Frame[1:]...)
			}
			s.hear(array)
		}
	}
}

// hear: while it subscribes to something, its messages come behind the answer to that.
func (s *session) hear(msg []byte) {
	if s.subs != nil && len(s.subs.joins) > 0 {
		s.pushBehind(msg)
		return
	}
	s.push(msg)
}

// publish sends a message by the hub, when all that its client has sent before has been answered, but
// for other messages, which are in order there. What the client sends behind it waits (call.serve).
func (c *call) publish(kind pubsub.Kind, args [][]byte) bool {
	s := c.s
	l := s.l
	if s.queue.n > s.saying || l.srv.hub.Pending() > l.opt.PipeBytes {
		return false
	}
	r := c.begin()
	s.saying++
	p := &pubsub.Publication{Key: pubsub.Key{Kind: kind, Name: string(args[1])}, Frame: resp.AppendRequest(nil, args...), From: strconv.AppendInt(nil, s.who.id, 10)}
	p.Done = func(reply []byte, err error) {
		l.post(func() {
			s.saying--
			r.published(reply, err)
		})
	}
	payload := bytes.Clone(args[2])
	l.say(func() { l.srv.hub.Publish(p, payload) })
	return true
}

// published ends a PUBLISH. By now its messages are in the mail of the loops that have listeners, this
// one's among them; and mail is read in order, so its client hears its own message first.
func (r *request) published(reply []byte, err error) {
	switch {
	case err == nil:
		r.finish(reply)
	case errors.Is(err, pubsub.ErrUnknown):
		r.Fail(upstream.ErrLost, true)
	default:
		r.Fail(upstream.ErrDown, false)
	}
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
