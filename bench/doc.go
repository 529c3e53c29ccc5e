// Package bench measures and judges a Redis endpoint from outside: it speaks
// RESP2 over TCP and knows nothing of what is behind the address.
//
//   - Load saturates an endpoint, or loads it at a fixed rate, and reports
//     throughput and latency.
//   - Oracle reads and writes while it keeps a model of what every key must
//     hold, and so finds every acknowledged write that was lost, every old value
//     and every deleted element that came back.
//   - Compare runs the same load in turn against several endpoints (a server, a
//     proxy, another proxy) and sets throughput, latency and CPU side by side.
package bench
