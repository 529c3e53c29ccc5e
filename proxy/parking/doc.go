// Package parking decides, for one event loop, which commands on slots in motion wait for
// which keys, in what order, and until when.
//
//	command on a moving slot
//	  │ Enter
//	  ├─ nobody in front, all keys decided ──────────────────► Request.Run: source or target
//	  └─ parked, in the queue of each of its keys
//	       ├─ Woken, SlotChanged, or the one in front has gone:
//	       │    first in all of its queues, all keys decided ─► Request.Run
//	       ├─ Expire: the deadline has passed ────────────────► Request.Expired
//	       └─ Withdraw: the client has gone
//
// A Lot has no clock, does no I/O and starts no goroutine. Time comes in as a value; what is
// decided goes out through Request. So the explorer in test/sim runs this code as it is.
//
// Invariants, which the explorer and the property test check:
//   - Commands of one loop on one key run in the order in which they came, also when a table
//     comes into force that ends the key's job.
//   - A command runs once, or it expires, or it is withdrawn: exactly one of these.
//   - A command runs at the source only while all of its keys (or its slot) are held, and at
//     the target only when all of its keys live there.
//   - A command that waits holds nothing.
//   - While a command waits, the lock table knows the loop as a waiter of one of its keys, or
//     the command waits behind one for which that is so.
package parking
