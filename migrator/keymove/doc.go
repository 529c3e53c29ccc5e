// Package keymove moves keys that are locked, from a Source to a Target, and never loses one.
//
//	movestep.go   MoveStep.Next: the whole protocol of one key, pure; unknown outcomes are fenced
//	key.go        a key under its lock, and its payload: the copy that travels
//	ends.go       Source and Target: what a worker needs of a connection
//	wire.go       the two over one RESP connection each
//	worker.go     a worker and the rounds in which it takes its keys further
//	round.go      what a round asks and hears
//	durable.go    Persist: WAIT and WAITAOF
//	compare.go    VERIFY: both copies are compared before the source gives its own up
//
// The rule that everything rests on: in a moving slot, if a key exists at the target, the
// target's copy is the key. RESTORE without REPLACE is the commit.
//
// What a round looks like on the wire, for keys a (restored last round), b (read last round) and
// c (new). Both ends work at the same time, and each answers once:
//
//	worker            source                      target
//	  │ RESTORE b ──────────────────────────────────►│
//	  │ UNLINK a, expiry, DUMP c ─►│                  │
//	  │◄─ 1, never, payload of c ──┤                  │
//	  │◄──────────────────────────────────── OK of b ─┤
//	  a is settled; b is to be persisted and unlinked; c is to be restored
//
// A worker whose connection breaks knows of no command on it whether it was executed. For
// reads that does not matter; RESTORE and UNLINK are followed by a fence: the connection is
// killed at its server by name, and only then is the server asked what it has.
//
// A Worker belongs to one goroutine, and so do the keys that it is given until it returns
// them. What workers of one job share is in Env, which is not written once they run.
package keymove
