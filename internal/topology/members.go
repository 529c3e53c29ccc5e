package topology

import (
	"context"
	"slices"
	"time"
)

// Members is how the gateways of one cluster know of each other, beside the State: who is alive, and
// how far each has come. A store that only one process can open has none. All methods may be
// called from any goroutine; after Close of the store they return ErrClosed.
//
// Nothing here decides who may act: that a gateway is part of the cluster is said by the State
// (Topology.Admitted), which every gateway reads. A registration that ends is a reason for others
// to take the gateway out of it, and no more.
type Members interface {
	// Register says that this gateway is alive, for ttl from now and then for as long as the
	// process goes on renewing that. It replaces a registration of the same name. lost is
	// closed when the registration has ended, or may have, since it could not be renewed in
	// time; then the gateway may be taken for dead.
	Register(ctx context.Context, g Gateway, ttl time.Duration) (lost <-chan struct{}, err error)
	// Unregister ends the registration at once, with what was acknowledged.
	Unregister(ctx context.Context) error
	// Acknowledge says how far the registered gateway has come. It lasts as long as the
	// registration, and replaces what was said before.
	Acknowledge(ctx context.Context, a Ack) error
	// Registered lists the gateways that are registered. It sees every Register that returned
	// before it was called, and no registration whose end anybody has been told of.
	Registered(ctx context.Context) ([]Registered, error)
	// WatchMembers delivers the gateways that are registered, at once and then after each
	// change. A slow reader misses lists in between but never the newest. The channel is
	// closed when ctx ends or the store is closed.
	WatchMembers(ctx context.Context) <-chan []Registered
}

// Registered is a gateway that is alive, as far as the store knows.
type Registered struct {
	Gateway
	Ack Ack
}

// Ack is how far a gateway has come with what is stored: all that begins there goes by the epoch, or a
// later one. Of the epochs in Undrained, some commands are still under way that were sent by the
// routes before them.
type Ack struct {
	Epoch     uint64   `json:"epoch"`
	Undrained []Epochs `json:"undrained,omitempty"`
}

// Epochs are those from First to Last: a gateway may come by several at once.
type Epochs struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Covers reports that what an epoch has changed is so everywhere in the gateway: everything goes by it,
// and what was sent by the routes before it has been answered. Other epochs don't matter, so that a
// server which does not answer holds up its own job and no other.
func (a Ack) Covers(epoch uint64) bool {
	return a.Epoch >= epoch && !slices.ContainsFunc(a.Undrained, func(u Epochs) bool { return u.First <= epoch && epoch <= u.Last })
}
