// Package stats is what the data plane measures of itself: counters, the time that commands
// take, the slow log, latency spikes, hot keys and slots, big values.
//
// Each event loop has one Recorder. Only the loop's goroutine writes to it and reads it, so
// that counting takes no lock and shares no cache line with another loop. Others learn of it
// in two ways:
//
//	loop ─ counts, times, samples ─► Recorder ─ end of a turn ─► Board ◄─ any goroutine, at any time
//	                                    │
//	        a message to the loop ──────┴─ a copy, or what is merged from it ─► the one who asked
//
// The Board holds the counters alone: a few words, which the loop stores atomically at the end
// of each turn. All else is asked for by a message, costs the loop some ten µs, and is merged by
// the goroutine that asks. A loop that is stuck so delays who asks it, and nobody else.
//
// The package reads no clock for a command. Its times are those of the loop's clock, in ns since
// the server's start, which the loop reads once for each event: a command begins and ends with
// the event in which its bytes came, so that what is answered within one event takes no time.
package stats
