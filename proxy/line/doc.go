// Package line keeps who waits for which key, in the order in which they came: first come, first
// served, whatever happens to the key meanwhile. It knows no socket, clock or goroutine.
//
//	Enter ─► Standing ── Next says Place ─► Placing ── Settled ─► Settled ── Leave
//	            ▲                              │                     │
//	            └──── Stands ◄── Next says Recall ◄──── Recall ◄─────┘
//
// A client that waits at a server stands there in the server's own queue, whose order is that in
// which the server has read the commands. So they are placed one after the other: the next one
// when the server is known to have read the one before. When a client has to be called off,
// since its key will be elsewhere, all that came after it are called off before it, the last first,
// and all are placed again in their order. Clients that wait for a key in the gateway itself are in the same
// lines, and are never placed.
//
//	Waiting ── Wake ─► Next says Ask ─► asks ── Leave
//	   ▲                                  │
//	   └─────────── Waits ◄── nothing ────┘
//
// Of these one asks at a time, the first: else the second could be given what has come since the first has
// looked. Nobody behind them is placed, since a server would serve him before they can ask.
//
// All this is between clients that take the same type of value. A key has one type at a time, and somebody who waits for
// a list is for a sorted set of the same name as if he were not there.
//
// A server that is asked to let a client wait looks at the key first. If that has another type by then, the client is
// put off (Defer): it keeps its place in the line, is in nobody's way, and comes back to it (Retry), for which those
// behind it are called off once more.
//
// Who writes to a key is held up (Hold) as long as the wrong client could be given what it
// writes: while somebody who has gone still waits at a server, and while a line is being formed
// anew.
//
// Invariants, checked by the explorer in explore_test.go:
//   - those of a key who are at a server are there in the order in which they came;
//   - nobody is given anything before somebody who came earlier for the same key, nor when it
//     has gone, by a write that was held up when it had to be;
//   - when nothing is under way, everybody has been placed and nobody is held up.
package line
