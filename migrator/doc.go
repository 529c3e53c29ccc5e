// Package migrator moves slots from group to group, one key at a time.
//
// Two pure machines decide and everything else does I/O for them:
//
//	package keymove  MoveStep.Next   one key: read, restore, (persist,) unlink; unknown outcomes are fenced
//	package job      Step            one job: queued … bulk, tail, verifying … done
//
// and package flow says how much may be under way, and how fast.
//
//	control ─► Manager ── one runner a job ── Step ── persisted ── then acted on
//	                           │
//	                           ├─ pass: SCAN the source, batches of keys to the workers
//	                           └─ resolver: keys that clients have touched, and keys left in doubt
//
// The rule that everything rests on: in a moving slot, if a key exists at the target, the
// target's copy is the key. RESTORE without REPLACE is the commit.
package migrator
