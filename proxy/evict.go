package proxy

import "keyferry/proxy/stats"

// evict closes the client with the largest buffers while all together are over the
// loop's share of MemoryTotal.
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
	for s := range l.sessions {
		n := cap(s.in) + s.pendingOut()
		if s.tx != nil {
			n += cap(s.tx.frames)
		}
		total += n
		if n > most && !s.noEvict {
			largest, most = s, n
		}
	}
	l.memory = total
	if total > limit && largest != nil {
		l.rec.N[stats.Evicted]++
		largest.closeFor("largest client while all client buffers are over memory-total")
	}
}
