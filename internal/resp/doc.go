// Package resp frames the Redis protocol in both directions and knows its
// commands. It is pure: no socket, goroutine or clock.
//
//	client bytes ──> RequestScanner ──> n, Args ──> command table ──> keys
//	server bytes ──> ReplyScanner   ──> n        (passed on as they are)
//
// Both scanners are incremental, and both do work in proportion to the bytes
// of headers and lines only: the body of a bulk string is skipped by
// arithmetic, never looked at, however many pieces it arrives in. They differ
// in who keeps the bytes. A request must be whole before it can be routed, so
// RequestScanner works over a buffer that the caller lets grow; a reply is
// only passed on, so ReplyScanner consumes what it is given and keeps nothing
// but its place.
//
// Requests are read exactly as Redis 7.0 reads them (processInlineBuffer and
// processMultibulkBuffer in its networking.c, string2ll in util.c and
// sdssplitargs in sds.c), oddities included: a frame that Redis would cut
// elsewhere than we do would let one client's bytes be taken for another's.
// The tests hold each of them against a real redis-server.
package resp
