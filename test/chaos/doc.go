// Package chaos tests the gateway between real redis-servers while everything fails that
// can: processes are killed and frozen, links are cut, held back and slowed, replies are
// lost behind executed commands, memory runs out, and operators change their minds.
//
//	clients ─► link ─► gateway ─┬► link ─► g1
//	    │                  ▲    ├► link ─► g2
//	 histories          operator└► link ─► g3
//
// A round has two phases. In the first, clients record what they did and saw while the
// nemesis and the operator do as the seed says. Then the faults end, every job must end,
// and the histories are checked: each key by porcupine as one linearizable object, queues
// and streams element by element, counters by their sums.
package chaos
