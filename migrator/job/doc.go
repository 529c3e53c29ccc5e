// Package job is the machine of one migration job. It is pure: it has no clock, no lock and
// no I/O, and every value that goes in or comes out is a copy.
//
//	queued ► preflight ► preparing ► bulk ⇄ tail ⇄ verifying ► done
//	                         │        └────┬────┘
//	                         │   reverting ┴ turned round ► reverted
//	                         └─ cancelled, when no key has moved
//
//	beside these, and back to where it was: backoff, paused, failed
//
//	step.go     Step: which transition an event leads to
//	become.go   one function for each transition, which sets every field that it owns
//	event.go    what can happen to a job
//	attempt.go  failed attempts and what is remembered of them
//	limits.go   an operator's ceilings
//	proof.go    what has to be proven before the source gives a key up
//	slice.go    a job that works and rests alternately
//
// The runner turns what happens into an Event, stores the job that Step returns, and only
// then acts by the new phase. testdata holds transcripts: events, and the job after each.
package job
