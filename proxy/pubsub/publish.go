package pubsub

import (
	"bytes"
	"errors"
	"slices"

	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
	"keyferry/router"
)

// Publication is one PUBLISH or SPUBLISH of a client. It goes out on a feed, the connection by which
// the gateway hears of it.
//
//	Publish ─► feed ─► server ─► messages, reply, in either order ─► PONG ─► Done
//
// Who counts: the server has counted the gateway as one receiver for each channel and pattern by
// which it listens. These are taken off, and clients are counted when their messages are handed to
// the loops, under the same lock: so who is counted is sent the message, and nobody else.
type Publication struct {
	Key   Key
	Frame []byte // the command
	From  []byte // who publishes: the same client always publishes at the same group, if that is there
	// Done gets the reply, when all messages are with the loops; or an error. It is called on
	// any goroutine, once.
	Done func(reply []byte, err error)

	payload []byte
	groups  []router.Group // not yet tried
	own     int            // receivers that are the gateway, of which …
	heard   int            // … have been heard
	clients int
	reply   []byte
}

// Errors that Done is given.
var (
	// ErrUnknown is given when a connection was lost: the message may have been published or not.
	ErrUnknown = errors.New("connection lost")
	// ErrAway is given when no group could be reached. Nothing was published.
	ErrAway = errors.New("not reachable")
)

// Publish sends a message to one group, which is that of its client as long as it is there; else to
// the next one, if certainly nothing has been published.
func (h *Hub) Publish(p *Publication, payload []byte) {
	p.payload = payload
	h.mu.Lock()
	h.used()
	p.groups = slices.Clone(h.groups)
	if first := GroupOf(p.groups, p.From); first > 0 {
		p.groups = slices.Concat(p.groups[first:], p.groups[:first])
	}
	h.mu.Unlock()
	h.publish(p)
}

// publish tries the groups that are left. No lock is held.
func (h *Hub) publish(p *Publication) {
	if !h.publishNext(p) {
		p.Done(nil, ErrAway)
	}
}

// publishNext: a feed that makes its first connection takes what is published meanwhile, since that may
// be what somebody has just subscribed to. One that has lost its connection, or could not make one,
// takes nothing: another group can be asked, and nobody would hear of it sooner.
func (h *Hub) publishNext(p *Publication) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(p.groups) > 0 {
		f := h.feeds[p.groups[0]]
		p.groups = p.groups[1:]
		if f == nil {
			continue
		}
		f.mu.Lock()
		taken := f.state != feedDown
		if f.state == feedUp {
			f.publish(p, h.ears(p.Key))
		} else if taken {
			f.early = append(f.early, p)
		}
		f.mu.Unlock()
		if taken {
			return true
		}
	}
	return false
}

// publish queues a publication on a feed that is up. own is by how many channels and patterns the
// gateway listens at this place in the connection's order. mu is held.
func (f *feed) publish(p *Publication, own int) {
	p.own = own
	f.command(ask{what: askedPublish, pub: p}, p.Frame)
	f.unmarked = true
}

// ears is by how many channels and patterns a message is heard. mu is held.
func (h *Hub) ears(k Key) (n int) {
	if h.channels[k] != nil {
		n++
	}
	if k.Kind == Exact {
		for p := range h.patterns {
			if Match(p, k.Name) {
				n++
			}
		}
	}
	return n
}

// publicationOf finds the publication that a message is of, if it is one of this feed's. Servers
// before 7.2 send a client its own message in front of the reply to its PUBLISH, later ones behind it:
//
//	7.0   message 1, reply 1, message 2, reply 2, PONG     the first of asks
//	7.2   reply 1, message 1, reply 2, message 2, PONG     the last that was answered
//
// Somebody else's message of the same words may be taken for it, which is as good: both come by the
// same channel, and are delivered to the same clients.
func (f *feed) publicationOf(kind Kind, channel, payload []byte) *Publication {
	var p *Publication
	if n := len(f.answered); n > 0 {
		p = f.answered[n-1]
	}
	if p == nil || !p.is(kind, channel, payload) {
		f.mu.Lock()
		if p = nil; len(f.asks) > 0 {
			p = f.asks[0].pub
		}
		f.mu.Unlock()
		if p == nil || !p.is(kind, channel, payload) {
			return nil
		}
	}
	p.heard++
	return p
}

// is reports that a message may be of the publication: it has not been heard by all channels and
// patterns yet by which it is to be.
func (p *Publication) is(kind Kind, channel, payload []byte) bool {
	return p.heard < p.own && (kind == Sharded) == (p.Key.Kind == Sharded) && string(channel) == p.Key.Name && bytes.Equal(payload, p.payload)
}

// finish: the reply is an error, or how many receivers the server has counted.
func (p *Publication) finish() {
	n, ok := resp.ParseInt(p.reply)
	if !ok {
		p.Done(p.reply, nil)
		return
	}
	p.Done(redcon.AppendInt(nil, max(n-int64(p.own), 0)+int64(p.clients)), nil)
}
