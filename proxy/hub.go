package proxy

import (
	"context"
	"slices"
	"sync"
	"time"

	"keyferry/router"
)

// hub is the gateway's one subscriber at the servers: each channel that any client wants
// is subscribed to once at every group, whatever the number of clients, and what comes is
// handed to the loops that have clients for it.
//
//	group ── feed ──┐                ┌── loop ── sessions
//	group ── feed ──┼── hub.receive ─┼── loop ── sessions
//	group ── feed ──┘                └── loop ── sessions
//
// It subscribes everywhere because messages come from everywhere: from PUBLISH, which
// goes to one group by the channel's name, from scripts, from keyspace notifications.
// Channels so have nothing to do with slots, and no move concerns them.
type hub struct {
	srv *Server

	mu       sync.Mutex // protects all below; never held across I/O
	feeds    map[router.Group]*feed
	channels map[channelKey]*channel
	patterns map[string]*channel // those of channels that are patterns
	tracking map[*loop]int       // sessions that track, by loop
	groups   []router.Group
}

// channelKind tells the three name spaces apart.
type channelKind byte

const (
	exact   channelKind = 's' // SUBSCRIBE
	pattern channelKind = 'p' // PSUBSCRIBE
	sharded channelKind = 'S' // SSUBSCRIBE
)

func (k channelKind) verb(on bool) string {
	name := map[channelKind]string{exact: "SUBSCRIBE", pattern: "PSUBSCRIBE", sharded: "SSUBSCRIBE"}[k]
	if on {
		return name
	}
	return name[:len(name)-9] + "UN" + "SUBSCRIBE"
}

type channelKey struct {
	kind channelKind
	name string
}

// channel is what the hub knows of one: how many sessions of which loops want it.
type channel struct {
	loops map[*loop]int
	total int
}

func newHub(s *Server) *hub {
	return &hub{srv: s, feeds: make(map[router.Group]*feed), channels: make(map[channelKey]*channel),
		patterns: make(map[string]*channel), tracking: make(map[*loop]int)}
}

// setGroups follows the table. It returns when what is subscribed is so at new groups too,
// or after a second.
func (h *hub) setGroups(groups []router.Group) {
	h.mu.Lock()
	h.groups = groups
	started := h.adjust()
	h.mu.Unlock()
	for _, f := range started {
		f.awaitSynced(time.Second)
	}
}

// adjust starts and stops feeds so that there is one for each group while anything is
// wanted. mu is held. It returns those that are new.
func (h *hub) adjust() (started []*feed) {
	wanted := make(map[router.Group]bool)
	if len(h.channels) > 0 || len(h.tracking) > 0 {
		for _, g := range h.groups {
			wanted[g] = true
			if h.feeds[g] == nil && h.srv.ctx.Err() == nil {
				f := newFeed(h, g)
				h.feeds[g] = f
				started = append(started, f)
				h.srv.wg.Go(f.run)
			}
		}
	}
	for k, f := range h.feeds {
		if !wanted[k] {
			delete(h.feeds, k)
			f.stop()
		}
	}
	return started
}

// want adds one session of a loop to channels, and calls ready on the loop when every
// server that can be reached has confirmed.
func (h *hub) want(l *loop, keys []channelKey, ready func()) {
	h.mu.Lock()
	for _, k := range keys {
		c := h.channels[k]
		if c == nil {
			c = &channel{loops: make(map[*loop]int)}
			h.channels[k] = c
			if k.kind == pattern {
				h.patterns[k.name] = c
			}
			for _, f := range h.feeds {
				f.subscribe(k, true)
			}
		}
		c.loops[l]++
		c.total++
	}
	h.adjust()
	h.whenSynced(l, ready)
	h.mu.Unlock()
}

// whenSynced calls ready on the loop when the feeds have done what they were told. mu is held.
func (h *hub) whenSynced(l *loop, ready func()) {
	feeds := make([]*feed, 0, len(h.feeds))
	for _, f := range h.feeds {
		if !f.synced() {
			feeds = append(feeds, f)
		}
	}
	if len(feeds) == 0 {
		l.post(ready)
		return
	}
	h.srv.wg.Go(func() {
		for _, f := range feeds {
			f.awaitSynced(time.Second)
		}
		l.post(ready)
	})
}

// drop takes one session of a loop from channels.
func (h *hub) drop(l *loop, keys []channelKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range keys {
		c := h.channels[k]
		if c == nil {
			continue
		}
		c.total--
		if c.loops[l]--; c.loops[l] == 0 {
			delete(c.loops, l)
		}
		if c.total == 0 {
			delete(h.channels, k)
			if k.kind == pattern {
				delete(h.patterns, k.name)
			}
			for _, f := range h.feeds {
				f.subscribe(k, false)
			}
		}
	}
	h.adjust()
}

// track tells how many more sessions of a loop want invalidations; ready as in want.
func (h *hub) track(l *loop, more int, ready func()) {
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
	}
	h.adjust()
	if ready != nil {
		h.whenSynced(l, ready)
	}
}

// audience is how many clients of this gateway a message on a channel reaches, and how
// many of the receivers that a server counts are the gateway itself.
func (h *hub) audience(k channelKey) (clients, own int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.channels[k]; c != nil {
		clients, own = c.total, 1
	}
	if k.kind == exact {
		for p, c := range h.patterns {
			if globMatch(p, k.name) {
				clients += c.total
				own++
			}
		}
	}
	return clients, own
}

// message is one thing that a server has told the hub. frame is the RESP3 push.
type message struct {
	key   channelKey
	frame []byte
	// keys are set instead for an invalidation; nil with all: everything.
	keys [][]byte
	all  bool
}

// receive hands what one read brought to the loops, in order, one post each.
func (h *hub) receive(list []message) {
	byLoop := make(map[*loop][]message)
	h.mu.Lock()
	for _, m := range list {
		if m.keys != nil || m.all {
			for l := range h.tracking {
				byLoop[l] = append(byLoop[l], m)
			}
			continue
		}
		if c := h.channels[m.key]; c != nil {
			for l := range c.loops {
				byLoop[l] = append(byLoop[l], m)
			}
		}
	}
	h.mu.Unlock()
	for l, list := range byLoop {
		l.post(func() { l.deliver(list) })
	}
}

// wantedNow is everything that a feed which connects has to ask for.
func (h *hub) wantedNow() (keys []channelKey, track bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k := range h.channels {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b channelKey) int { return int(a.kind) - int(b.kind) })
	return keys, len(h.tracking) > 0
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// counts are the channels, patterns and sharded channels that any client wants.
func (h *hub) counts() (channels, patterns, sharded int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k := range h.channels {
		switch k.kind {
		case exact:
			channels++
		case pattern:
			patterns++
		default:
			sharded++
		}
	}
	return channels, patterns, sharded
}
