// Package observe looks at the running gateway for those who show it: the dashboard, the
// JSON API and /metrics. They answer from what was sampled, so that no silent server and
// no busy loop ever holds up a page.
//
//	loops ─── Sample, twice a second ───┐
//	servers ─ INFO, a goroutine each ───┼─► Snapshot ─► readers, History, metrics.Value
//	migrator ─ State, Jobs ─────────────┘
package observe
