// Package upstream is the gateway's one door to the servers behind it, and reads what they
// say of themselves: INFO (Info) and CLIENT LIST (Client).
//
// A Dialer makes every connection, and names it. What is then made of it depends on who
// talks: a loop has a Pipe; a goroutine that sends batches and waits has a Conn; control
// commands go by a go-redis client; and who listens to what a server tells by itself reads
// the plain connection. Fence kills connections at their server, by name.
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
