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
// A client connection and the server connections that serve it live on one loop: on the
// path of a stable slot there is no goroutine switch, no lock and no allocation. Other
// goroutines reach a loop by message only (loop.post). What a loop turn writes to one
// socket is gathered and written once, at the end of the turn.
//
// Commands of one client on one key execute in the order sent. On a stable slot the pipe
// is a FIFO; on a moving one a command parked for a key holds back every later command
// of this loop on that key, and on no other.
package proxy
