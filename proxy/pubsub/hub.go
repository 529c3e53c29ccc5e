package pubsub

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/resp"
	"keyferry/router"
)

// Loop is what the Hub knows of an event loop. Values are compared: a loop has one for its life.
type Loop interface {
	// Post runs f on the loop, soon, in the order of the calls. Any goroutine may call it; it
	// never blocks. After the loop has stopped f is dropped.
	Post(f func())
	// Deliver gives what has come to the loop's subscribers. It is called on the loop. The
	// messages are shared with other loops, which read them at the same time.
	Deliver(list []Message)
}

// Config is what a Hub needs.
type Config struct {
	// Dial connects to a group, as a client that speaks RESP3. It returns in bounded time.
	Dial         func(ctx context.Context, g router.Group) (net.Conn, error)
	ReconnectMin time.Duration // pause before a feed connects again, doubled up to …
	ReconnectMax time.Duration
	// OfMove says whether a message from a group is not for clients, since a move has caused it.
	// Feeds call it, with no lock held.
	OfMove func(group string, channel, payload []byte) bool
	Linger time.Duration // feeds stay connected so long after they were of use
	Log    *zap.Logger
}

// Hub knows what all clients together want, and has a feed for each group while that is anything.
// Any goroutine may call its methods; none blocks on a server but SetGroups.
//
// Invariants, while mu is free: a channel is in channels exactly if its total is above 0, which is
// the sum over its loops; it is in patterns too exactly if it is one; there is a feed for each
// of groups if channels or tracking has an entry or linger is set, and none otherwise; and listens
// says what channels and tracking have.
type Hub struct {
	c    Config
	ctx  context.Context // ends with the server: no feed starts then, and those that run end
	wait sync.WaitGroup  // feeds, and those who wait for them on behalf of a loop

	listens atomic.Uint32 // what is listened to; loops look at it without a lock
	pending atomic.Int64  // bytes that wait to be sent by feeds

	mu       sync.Mutex // protects all below; never held across I/O
	feeds    map[router.Group]*feed
	channels map[Key]*channel
	patterns map[string]*channel            // those of channels that are patterns
	tracking map[Loop]int                   // sessions that track, by loop
	of       struct{ events, messages int } // how many of channels may hear keyspace events, and others
	linger   *time.Timer                    // that ends feeds which are of no more use; nil: there are none
	groups   []router.Group                 // of the newest table
}

// Kind tells the three name spaces of channels apart.
type Kind byte

// The kinds.
const (
	Exact   Kind = 's' // SUBSCRIBE
	Pattern Kind = 'p' // PSUBSCRIBE
	Sharded Kind = 'S' // SSUBSCRIBE
)

// Verb is the command that begins a subscription, or ends it.
func (k Kind) Verb(on bool) string {
	prefix := ""
	switch k {
	case Pattern:
		prefix = "P"
	case Sharded:
		prefix = "S"
	}
	if on {
		return prefix + "SUBSCRIBE"
	}
	return prefix + "UNSUBSCRIBE"
}

// Key is one channel or pattern.
type Key struct {
	Kind Kind
	Name string
}

// channel is what the hub knows of one: how many sessions of which loops want it.
type channel struct {
	loops map[Loop]int
	total int
}

// NewHub makes a Hub for the groups of the first table. It connects to none before a client wants
// something. It ends with ctx; Wait returns when nothing of it is left.
func NewHub(ctx context.Context, c Config, groups []router.Group) *Hub {
	return &Hub{c: c, ctx: ctx, feeds: make(map[router.Group]*feed), channels: make(map[Key]*channel),
		patterns: make(map[string]*channel), tracking: make(map[Loop]int), groups: groups}
}

// Wait returns when all goroutines of the Hub have ended. ctx must have ended.
func (h *Hub) Wait() { h.wait.Wait() }

// SetGroups follows the table. It returns when what is subscribed is so at new groups too,
// or after a second: so who is called before the loops route by the table does not publish where
// nobody listens yet.
func (h *Hub) SetGroups(groups []router.Group) {
	h.mu.Lock()
	h.groups = groups
	started := h.adjust()
	h.mu.Unlock()
	for _, f := range started {
		f.awaitSynced(syncedBound)
	}
}

// syncedBound is how long the confirmation of a server is waited for. One that takes longer is as
// good as away: its messages may be missed, and clients that subscribe go on.
const syncedBound = time.Second

// adjust starts and stops feeds so that there is one for each group while anything is
// wanted. mu is held. It returns those that are new.
func (h *Hub) adjust() (started []*feed) {
	wanted := make(map[router.Group]bool)
	if h.isWanted() {
		h.used()
	}
	if h.linger != nil {
		for _, g := range h.groups {
			wanted[g] = true
			if h.feeds[g] == nil && h.ctx.Err() == nil {
				f := newFeed(h, g)
				h.feeds[g] = f
				started = append(started, f)
				h.wait.Go(f.run)
			}
		}
	}
	for k, f := range h.feeds {
		if !wanted[k] {
			delete(h.feeds, k)
			f.retire()
		}
	}
	return started
}

// isWanted reports that somebody listens or tracks. mu is held.
func (h *Hub) isWanted() bool { return len(h.channels)+len(h.tracking) > 0 }

// used keeps the feeds for some time, or makes them. It is not before the servers have heard that
// nobody listens any more that they may end: a server counts a connection until it has. mu is held.
func (h *Hub) used() {
	if h.linger != nil {
		h.linger.Reset(h.c.Linger)
		return
	}
	h.linger = time.AfterFunc(h.c.Linger, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.isWanted() {
			h.linger.Reset(h.c.Linger)
			return
		}
		h.linger = nil
		h.adjust()
	})
	h.adjust()
}

// Want adds one session of a loop to channels, and calls ready on the loop when every
// server that can be reached has confirmed. From now on it is counted: what is delivered behind the call
// of listen is for it, also before ready is called, and nothing in front of that.
func (h *Hub) Want(l Loop, keys []Key, listen, ready func()) {
	h.mu.Lock()
	for _, k := range keys {
		c := h.channels[k]
		if c == nil {
			c = &channel{loops: make(map[Loop]int)}
			h.channels[k] = c
			if k.Kind == Pattern {
				h.patterns[k.Name] = c
			}
			h.note(k, 1)
			for _, f := range h.feeds {
				f.subscribe(k, true)
			}
		}
		c.loops[l]++
		c.total++
	}
	l.Post(listen)
	h.adjust()
	h.whenSynced(l, ready)
	h.mu.Unlock()
}

// whenSynced calls ready on the loop when the feeds have done what they were told. mu is held.
func (h *Hub) whenSynced(l Loop, ready func()) {
	feeds := make([]*feed, 0, len(h.feeds))
	for _, f := range h.feeds {
		if !f.synced() {
			feeds = append(feeds, f)
		}
	}
	if len(feeds) == 0 {
		l.Post(ready)
		return
	}
	h.wait.Go(func() {
		for _, f := range feeds {
			f.awaitSynced(syncedBound)
		}
		l.Post(ready)
	})
}

// Drop takes one session of a loop from channels, and calls left, if it is not nil, on the loop behind
// all messages for which it was counted.
func (h *Hub) Drop(l Loop, keys []Key, left func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range keys {
		if c := h.channels[k]; c != nil {
			h.dropOne(l, k, c)
		}
	}
	h.adjust()
	if left != nil {
		l.Post(left)
	}
}

// dropOne: the subscription ends at the servers behind all publications that count on it, which are in
// front of it on the feed. mu is held.
func (h *Hub) dropOne(l Loop, k Key, c *channel) {
	c.total--
	if c.loops[l]--; c.loops[l] == 0 {
		delete(c.loops, l)
	}
	if c.total > 0 {
		return
	}
	delete(h.channels, k)
	if k.Kind == Pattern {
		delete(h.patterns, k.Name)
	}
	h.note(k, -1)
	for _, f := range h.feeds {
		f.subscribe(k, false)
	}
}

// Track tells how many more sessions of a loop want invalidations; ready as in Want, or nil.
func (h *Hub) Track(l Loop, more int, ready func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := len(h.tracking) > 0
	if h.tracking[l] += more; h.tracking[l] <= 0 {
		delete(h.tracking, l)
	}
	if after := len(h.tracking) > 0; after != before {
		for _, f := range h.feeds {
			f.track(after)
		}
		h.publishListens()
	}
	h.adjust()
	if ready != nil {
		h.whenSynced(l, ready)
	}
}

// Message is one thing that a server has told the hub. It is never changed: several loops read it.
type Message struct {
	Key   Key
	Frame []byte // the RESP3 push, as it came
	// Keys are set instead for an invalidation; nil with All: everything.
	Keys [][]byte
	All  bool

	of   *Publication // of one of this gateway's clients, or nil
	over *Overheard   // of a transaction of one, or nil
}

// Invalidates reports that the message is news of changed keys, and not one of a channel.
func (m *Message) Invalidates() bool { return m.Keys != nil || m.All }

// receive hands what one read of a feed brought to the loops, one post each. A loop so gets what
// one group sends in the order in which it was sent: feeds read one after the other, and posts
// keep their order. Between groups the order is that in which feeds have read, the same for all loops:
// so posts are made under the lock, since they wait for nothing. What one client has caused is in its
// order by that, as long as it waits for each to be heard (Heard, Publish).
func (h *Hub) receive(list []Message) {
	byLoop := make(map[Loop][]Message)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range list {
		if m.Invalidates() {
			for l := range h.tracking {
				byLoop[l] = append(byLoop[l], m)
			}
			continue
		}
		if c := h.channels[m.Key]; c != nil {
			for l := range c.loops {
				byLoop[l] = append(byLoop[l], m)
			}
			if m.of != nil {
				m.of.clients += c.total
			}
			if m.over != nil {
				m.over.clients += c.total
			}
		}
	}
	for l, list := range byLoop {
		l.Post(func() { l.Deliver(list) })
	}
}

// wantedNow is everything that a feed which connects has to ask for. mu is held.
func (h *Hub) wantedNow() (keys []Key, track bool) {
	for k := range h.channels {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b Key) int { return int(a.Kind) - int(b.Kind) })
	return keys, len(h.tracking) > 0
}

// Counts are the channels, patterns and sharded channels that any client wants.
func (h *Hub) Counts() (channels, patterns, sharded int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k := range h.channels {
		switch k.Kind {
		case Exact:
			channels++
		case Pattern:
			patterns++
		default:
			sharded++
		}
	}
	return channels, patterns, sharded
}

// Subscribers joins the replies of the groups to PUBSUB NUMSUB, which is how many clients listen to
// each of names. At every group the gateway itself counts as one, in the place of all its
// clients. False: a part is no such reply.
func (h *Hub) Subscribers(kind Kind, names [][]byte, parts [][]byte) ([]int64, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	totals := make([]int64, len(names))
	for _, p := range parts {
		fields, ok := resp.SplitAggregate(p)
		if !ok || len(fields) != 2*len(names) {
			return nil, false
		}
		for i := range names {
			n, _ := resp.ParseInt(fields[2*i+1])
			if h.channels[Key{kind, string(names[i])}] != nil && n > 0 {
				n-- // the gateway
			}
			totals[i] += n
		}
	}
	for i := range names {
		if c := h.channels[Key{kind, string(names[i])}]; c != nil {
			totals[i] += int64(c.total)
		}
	}
	return totals, true
}

// GroupOf is the index of the group where who has a name publishes, always the same for a name; -1 if
// there is no group. It is found by rendezvous hashing, so that a group which comes or goes changes it
// for few names.
func GroupOf(groups []router.Group, name []byte) int16 {
	best, most := int16(-1), uint64(0)
	for i := range groups {
		h := uint64(14695981039346656037) // FNV-1a
		for _, part := range [2][]byte{[]byte(groups[i].ID), name} {
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
