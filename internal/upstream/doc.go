// Package upstream holds the connections from a data-plane loop to the servers behind
// the gateway.
//
// A Pipe is one pipelined connection of one loop to one (group, database). It lives on
// its loop: every method is called there, and nothing in it is locked. Calls go out in
// the order of Send and are answered in that order:
//
//	Send ──► out ── Flush, once a turn ──► socket ──► server
//	  └────► in flight ◄── Data: one reply frame each ◄── socket
//
// A connection that dies answers every call in flight with an error, exactly once, and
// hands its name to the owner so that it can be fenced: until that is done the server
// may still execute what it had received.
package upstream
