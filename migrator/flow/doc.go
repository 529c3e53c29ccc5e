// Package flow says how much of a job may be under way, how fast, and when it rests. It is
// pure: it has no clock, no timer and no I/O, and nothing here ever blocks. Whoever asks
// says what time it is; what has to be waited for is handed back as a channel.
//
//	Governor   keys and bytes in flight, by the health of both ends and the target's memory
//	pace       keys a second, by how long clients wait
//	BatchSize  keys a batch, by how long locks are held
//	ScanSize   names a page of SCAN, by how long the source takes for one
//	Places     batches of all jobs at one server
//	Gate       none at all while somebody wants that nothing moves
//	Slicer     when a job that works and rests alternately is due to rest
//
// Each job has a Governor, a BatchSize and a Slicer of its own, which live as long as its
// mover; Places and the Gate are shared by all jobs of a gateway. All of them may be used by
// several goroutines at once.
package flow
