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
// A Worker belongs to one goroutine, and so do the keys that it is given until it returns
// them. What workers of one job share is in Env, which is not written once they run.
package keymove
