package proxy

import "keyferry/proxy/stats"

// evict closes the client with the largest buffers while all together are over the
// loop's share of MemoryTotal.
//
// Each loop has its share, by the number of loops, because to count over all would need a
// lock. One client goes at a time: the next tick sees what that has given.
func (l *loop) evict() {
	limit := l.opt.MemoryTotal
	if n := l.opt.Loops; n > 1 {
		limit /= n
	}
	if limit <= 0 {
		return
	}
	total, most := 0, 0
	var largest *session
	for s := range l.clients.all {
		n := cap(s.input.buf) + s.pendingOut()
		if s.tx != nil {
			n += cap(s.tx.frames)
		}
		total += n
		if n > most && !s.modes.noEvict {
			largest, most = s, n
		}
	}
	l.clients.memory = total
	if total > limit && largest != nil {
		l.rec.N[stats.Evicted]++
		largest.closeFor("largest client while all client buffers are over memory-total")
	}
}
