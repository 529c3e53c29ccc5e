// Package preflight looks at both ends of a job before anything changes, and says what it
// finds: what the job can't begin with, and what somebody should know. DRYRUN runs the same
// checks for a plan.
//
//	check.go     the list of checks; reachable, roles, rights
//	data.go      a trial from end to end, payloads, memory, policies, clients, keys in the way
//	wayback.go   whether keys could come back
//	events.go    keyspace events
//	estimate.go  how much a plan moves, and how long that takes
//
// A Check belongs to one goroutine, runs once, and leaves nothing behind at the servers.
package preflight
