package pubsub

import (
	"bytes"
	"slices"
)

// Overheard is a message that a client publishes by a transaction, and so by another connection than
// the feed of its group. The server counts the gateway, once for each channel and pattern by which it
// listens there; the clients in its place are counted when they are handed the message.
//
//	Overhear ─► EXEC at the server ─► messages on the feed, reply ─► Heard ─► Overlook
//
// Somebody else's message of the same words, at the same time, may be taken for it, which is as good as
// with a Publication.
type Overheard struct {
	Key     Key
	Payload []byte

	by      []Key // channels and patterns by which it has been heard; the feed's mu protects it
	clients int   // who were sent it; the Hub's mu protects it
}

// Overhear has the feed of a group listen for messages that are about to be published there.
func (h *Hub) Overhear(group string, list []*Overheard) {
	h.eachFeedOf(group, func(f *feed) { f.overheard = append(f.overheard, list...) })
}

// Overlook ends that. The numbers that of gives are final then: for each message how many receivers,
// of those that the server has counted, were the gateway, and how many clients it was sent to.
func (h *Hub) Overlook(group string, list []*Overheard, of func(i, gateway, clients int)) {
	h.eachFeedOf(group, func(f *feed) {
		f.overheard = slices.DeleteFunc(f.overheard, func(o *Overheard) bool { return slices.Contains(list, o) })
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, o := range list {
		of(i, len(o.by), o.clients)
	}
}

// eachFeedOf runs do for the feed of a group, if there is one, with the mutexes of both held.
func (h *Hub) eachFeedOf(group string, do func(*feed)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for g, f := range h.feeds {
		if g.ID == group {
			f.mu.Lock()
			do(f)
			f.mu.Unlock()
		}
	}
}

// overheardOf finds the first of those that are listened for that a message may be. Each is heard once
// by each channel and pattern.
func (f *feed) overheardOf(by Key, channel, payload []byte) *Overheard {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.overheard {
		if (by.Kind == Sharded) == (o.Key.Kind == Sharded) && string(channel) == o.Key.Name && bytes.Equal(payload, o.Payload) && !slices.Contains(o.by, by) {
			o.by = append(o.by, by)
			return o
		}
	}
	return nil
}
