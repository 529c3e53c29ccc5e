// Package control is the control plane of one gateway: it follows the store, builds routing
// tables, gives them to the data plane and collects its acknowledgements, and changes groups
// and slots.
//
//	store ──► Watch ──► see: newest State ──────────► migrator.Follow: jobs begin
//	                        │ a new epoch?
//	                        ▼
//	                    router.Build ──► publish to all loops ──► acknowledged
//	                        ▲                                        │
//	                        └─ lock tables: migrator.LocksOf         └──► migrator.Routed
//
// What jobs do is none of its business: it asks the migrator for the lock tables of slots
// that move, and tells it what the loops route by.
package control
