package pubsub

import (
	"context"
	"slices"
	"strings"
)

// Listens is what anybody listens to. A loop asks for it with each command that could be heard, so it
// is one word.
type Listens uint32

const (
	// ListensToMessages: to what PUBLISH and scripts say.
	ListensToMessages Listens = 1 << iota
	// ListensToEvents: to keyspace events, which any write can cause.
	ListensToEvents
	// ListensToChanges: some client tracks.
	ListensToChanges
)

// Listens is what is listened to now.
func (h *Hub) Listens() Listens { return Listens(h.listens.Load()) }

// eventPrefix is how the channels of keyspace events begin.
const eventPrefix = "__key"

// hears is what may come by a channel or a pattern. A pattern of which nothing is fixed hears both.
func (k Key) hears() Listens {
	fixed := k.Name
	if k.Kind == Pattern {
		if i := strings.IndexAny(fixed, `*?[\`); i >= 0 {
			fixed = fixed[:i]
		}
	}
	switch {
	case k.Kind != Sharded && strings.HasPrefix(fixed, eventPrefix):
		return ListensToEvents
	case k.Kind == Pattern && strings.HasPrefix(eventPrefix, fixed):
		return ListensToEvents | ListensToMessages
	}
	return ListensToMessages
}

// note counts a channel that begins or ends. mu is held.
func (h *Hub) note(k Key, n int) {
	hears := k.hears()
	if hears&ListensToEvents != 0 {
		h.of.events += n
	}
	if hears&ListensToMessages != 0 {
		h.of.messages += n
	}
	h.publishListens()
}

// publishListens is said with each change, under mu: who has been told that its subscription holds
// finds it here, and so does every command that is answered later.
func (h *Hub) publishListens() {
	var x Listens
	if h.of.messages > 0 {
		x |= ListensToMessages
	}
	if h.of.events > 0 {
		x |= ListensToEvents
	}
	if len(h.tracking) > 0 {
		x |= ListensToChanges
	}
	h.listens.Store(uint32(x))
}

// Heard is how a reply is put behind what its command has caused. The server has said that before it
// has sent the reply, by another connection, which may be read later. A PING that goes out on the feed
// now is answered behind it.
//
// Heard calls then on the loop when all that a group's server has said until now is with the loops;
// false: there is nothing to wait for.
func (h *Hub) Heard(l Loop, group string, then func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for g, f := range h.feeds {
		if g.ID == group {
			return f.heard(func() { l.Post(then) })
		}
	}
	return false
}

// AwaitHeard returns when all that the servers of some groups have said until now is with the loops, or
// after a second, or when ctx ends. Not for a loop's goroutine.
func (h *Hub) AwaitHeard(ctx context.Context, groups ...string) {
	ctx, cancel := context.WithTimeout(ctx, syncedBound)
	defer cancel()
	heard := make(chan struct{}, len(groups))
	left := 0
	h.mu.Lock()
	for g, f := range h.feeds {
		if slices.Contains(groups, g.ID) && f.heard(func() { heard <- struct{}{} }) {
			left++
		}
	}
	h.mu.Unlock()
	for range left {
		select {
		case <-heard:
		case <-ctx.Done():
			return
		}
	}
}

// Synced calls then on the loop when the servers have confirmed what is wanted now; false: they have.
func (h *Hub) Synced(l Loop, then func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.feeds {
		if !f.synced() {
			h.whenSynced(l, then)
			return true
		}
	}
	return false
}

// Pending is how many bytes wait to be sent to servers.
func (h *Hub) Pending() int { return int(h.pending.Load()) }
