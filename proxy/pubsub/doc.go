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
// group by who publishes, from scripts, from keyspace notifications. Channels so have
// nothing to do with slots, and no move concerns them.
//
// A feed is also the way out of PUBLISH, and of the question whether all has been heard. The server
// answers what comes by one connection in its order, so
//
//   - a message is behind the subscriptions that were asked for before it;
//
//   - messages of one client are in order, whatever their channels: they go out at one group;
//
//   - how many of the receivers that the server counts are the gateway itself is known exactly: by
//     how many channels and patterns it listened at that place in the connection's order;
//
//   - when a PING that was sent behind the reply to a command has been answered, all that the command
//     has led that server to say has been read.
//
// Between groups there is no such order. It is made by waiting: see package proxy, speech.go.
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
