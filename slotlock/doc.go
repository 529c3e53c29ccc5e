// Package slotlock is the per-key lock table of slots in motion.
//
// One Table belongs to one migration job and decides, for each key of the job's slots,
// whether a command runs at the source or at the target, or waits because that key (and
// no other) is being moved at this moment:
//
//	client command ── Admit ──┬─ Source  held shared until Release ── answered at the source
//	                          ├─ Target                            ── answered at the target
//	                          └─ Wait    Wake ◄──────────────┐
//	                                                         │
//	mover ── TryLock / Take ── locked ── DUMP, RESTORE, UNLINK ── Commit (lives at the target)
//	                                                           └─ Abort  (stays at the source)
//
// Invariants, checked by the explorer in test/sim:
//   - a key is never locked while a command on it is in flight at the source;
//   - Source is answered only for keys that were never committed;
//   - a key that was committed is never again served at the source.
package slotlock
