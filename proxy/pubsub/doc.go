// Package pubsub is the gateway's one subscriber at the servers: for channels, for keyspace events
// and for the news of changed keys that CLIENT TRACKING needs.
//
// Each channel that any client wants is subscribed to once at every group, whatever the number of
// clients, and what comes is handed to the loops that have clients for it.
//
//	group ── feed ──┐             ┌─ Post ─► loop ─ Deliver ─► its subscribers
//	group ── feed ──┼─► Hub ──────┼─ Post ─► loop ─ Deliver ─► its subscribers
//	group ── feed ──┘             └─ Post ─► loop ─ Deliver ─► its subscribers
//
// It subscribes everywhere because messages come from everywhere: from PUBLISH, which goes to one
// group by the channel's name, from scripts, from keyspace notifications. Channels so have
// nothing to do with slots, and no move concerns them.
//
// There are three kinds of state here, by who touches it:
//
//   - the Hub and its feeds, which any goroutine may call. Each has a mutex, never held across
//     I/O; the Hub's is taken before a feed's, and a feed never calls the Hub with its own held.
//   - Listeners and Readers, which are one loop's: who of its clients listens to which channel, and
//     who has read which key. No lock.
//   - Moves, which tells the messages that moves cause from those that clients' commands cause.
//
// The Hub counts how many subscribers a loop has for a channel and does not know them; the loop
// knows them and not those of other loops. What a client is told, and in which order with its
// replies, is the session's, in package proxy.
package pubsub
