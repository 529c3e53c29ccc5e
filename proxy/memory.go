package proxy

import (
	"fmt"
	"strings"

	"keyferry/internal/resp"
	"keyferry/proxy/stats"
)

// MEMORY is about the gateway; USAGE is asked of the key's server.
//
// All of it is answered off the loop: the collector's figures take a look at every processor,
// the clients' take a message to every loop, and the keys' a question to every server.

func (c *call) memoryDoctor() {
	srv := c.s.l.srv
	c.later(func(w *resp.Writer) { w.Verbatim("txt", srv.memoryDoctor()) })
}

func (c *call) memoryStats() {
	srv := c.s.l.srv
	c.later(func(w *resp.Writer) { srv.memoryStats(w) })
}

// memoryMalloc gives the figures of Go's allocator, in words: there is no jemalloc here whose
// text a tool could read.
func (c *call) memoryMalloc() {
	c.later(func(w *resp.Writer) { w.Verbatim("txt", stats.MallocStats()) })
}

// memoryPurge: off the loop: to give memory back takes milliseconds, and stops nobody there.
func (c *call) memoryPurge() {
	c.later(func(w *resp.Writer) {
		stats.ReleaseMemory()
		w.OK()
	})
}

var memoryHelp = []string{
	"DOCTOR", "    Return memory problems reports.",
	"MALLOC-STATS", "    Return internal statistics report from the memory allocator.",
	"PURGE", "    Attempt to purge dirty pages for reclamation by the allocator.",
	"STATS", "    Return information about the memory usage of the server.",
	"USAGE <key> [SAMPLES <count>]", "    Return memory in bytes used by <key> and its value. Nested values are", "    sampled up to <count> times (default: 5, 0 means sample all).",
}

// memoryDoctor names only what an operator can do something about: clients that don't read, a machine
// that is too small, memory that a peak has left behind.
func (s *Server) memoryDoctor() string {
	m, limit := stats.MemoryNow(), int64(s.settings.live.Load().MemoryTotal)
	clients := int64(s.census(s.life.ctx).memory)
	var found []string
	if limit > 0 && clients > limit/2 {
		found = append(found, fmt.Sprintf("The buffers of clients take %s, and at %s (maxmemory-clients) the largest client is closed. CLIENT LIST shows by omem who does not read its replies, and by qbuf who waits to be served.",
			stats.Human(clients), stats.Human(limit)))
	}
	// Machine is 0 where the system does not tell how much it has.
	if m.Machine > 0 && m.RSS > m.Machine*8/10 {
		found = append(found, fmt.Sprintf("This gateway takes %s of the machine's %s. If the machine runs short of memory, lower maxmemory-clients and proto-max-bulk-len.", stats.Human(m.RSS), stats.Human(m.Machine)))
	}
	// A small gateway always has more than it uses: the runtime and its stacks.
	if m.RSS > 64<<20 && m.RSS > 3*m.Used {
		found = append(found, fmt.Sprintf("Only %s of %s are in use: a peak has passed. MEMORY PURGE gives the rest back at once; by itself it takes some minutes.", stats.Human(m.Used), stats.Human(m.RSS)))
	}
	if len(found) == 0 {
		return "Hi Sam, I can't find any memory issue in this gateway. The data is in the servers; ask each of them about it.\n"
	}
	return "Sam, I detected a few issues in this gateway's memory:\n\n * " + strings.Join(found, "\n * ") + "\n"
}

// memoryStats: the fields that monitoring tools read, with what they mean here; keys are counted at the
// servers.
func (s *Server) memoryStats(w *resp.Writer) {
	m, c, d := stats.MemoryNow(), s.census(s.life.ctx), s.askServers(s.life.ctx)
	// The ticker notes the peak too, but not at this moment: no figure may be above its peak.
	s.stats.rates.NotePeak(m.Used)
	peak, keys := s.stats.rates.Peak(), int64(0)
	for _, db := range d.dbs {
		keys += db.keys
	}
	w.Map(11)
	for _, x := range []struct {
		name string
		n    int64
	}{{"peak.allocated", peak}, {"total.allocated", m.Used}, {"replication.backlog", 0}, {"clients.slaves", 0}, {"clients.normal", int64(c.memory)},
		{"cluster.links", 0}, {"aof.buffer", 0}, {"keys.count", keys}, {"fragmentation.bytes", m.RSS - m.Used}} {
		w.Text(x.name)
		w.Int(x.n)
	}
	w.Text("peak.percentage")
	w.Double(100 * float64(m.Used) / float64(max(peak, 1)))
	w.Text("fragmentation")
	w.Double(float64(m.RSS) / float64(max(m.Used, 1)))
}
