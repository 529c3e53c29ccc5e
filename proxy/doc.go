// Package proxy is the data plane: it answers Redis clients on event loops.
//
//	client bytes ─► session.process ─► resp ─► call ─► admit ─► handlers[cmd.Index]
//	                                                              │
//	      the gateway answers by itself ◄─────────────────────────┤
//	                                    keyed ─► router.Route ◄───┤
//	                                                │             └─► every group, scripts, channels, …
//	      Split ─► gather ◄─────────────────────────┤
//	      Serve: stable slot ─► upstream.Pipe ◄─────┤
//	      Resolve: moving slot ─► slotlock ─► source | target | parked
//	                                      │
//	client bytes ◄─ session queue (in order) ◄─ reply frames ◄─ Pipe.Data
//
// A client connection and the server connections that serve it live on one loop: on the path
// of a stable slot there is no goroutine switch, no lock and no allocation. Other goroutines
// reach a loop by message only (loop.post). What a loop turn writes to one socket is gathered
// and written once, at the end of the turn.
//
// Commands of one client on one key execute in the order sent. On a stable slot the pipe is a
// FIFO; on a moving one a command parked for a key holds back every later command of this loop
// on that key, and on no other.
//
// # Where to begin
//
//	call.go, admit.go, dispatch.go   a command from its bytes to its handler
//	handlers.go                      which handler: the whole table
//	request.go, operation.go         what outlives the call: states, who frees what
//	input.go, session.go, output.go  a client: what it sends, what it is, what it is sent
//	loop.go, servers.go              a loop: its turn, its shared connections, a new table
//	moving.go, offer.go              slots in motion, by proxy/parking
//	block.go, takefirst.go           clients that wait for data
//
// # Rules that hold everywhere
//
//   - A write may end the connection that it goes to, before it returns. Whoever writes to a
//     client looks at session.life afterwards; whoever sends to a server takes its request for
//     freed.
//
//   - Nothing of a call is kept: not its arguments, not its frame, not the call. What goes on
//     later has copies.
//
//   - A request is freed once. requestState says by whom.
//
//   - Replies leave in the order of the commands. Only the first request of a session's queue
//     writes.
//
//   - A table is adopted at one moment, by the loop itself. Indexes of groups are of the
//     present table: what outlives a call keeps ids or numbers.
//
//   - A hold of a key in motion is given back when the server can no longer execute the
//     command: when it has been answered, or its connection is fenced.
//
//   - What may have to run alone asks for an empty queue before it does anything, and is given
//     again.
//
//   - No lock is held across I/O, and none is taken on the path of a stable slot.
//
//   - What a client may make us keep has a bound, and reaching it says which setting it was.
//
// # Goroutines
//
// Loops are the transport's. Besides there are the server's ticker, one for each dial, fence
// and reply that is made off the loops (call.async), one that measures while somebody asks
// (hops), and those of proxy/pubsub. All end with the server. None of them touches a session
// or a request but by a function that it posts.
package proxy
