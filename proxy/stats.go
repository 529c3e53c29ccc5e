package proxy

import (
	"sync/atomic"

	"keyferry/internal/transport"
)

// counters belong to their loop, which alone changes them.
type counters struct {
	total           uint64
	bytesIn         uint64
	bytesOut        uint64
	errorReplies    uint64
	connections     uint64
	connectionsLost uint64 // to servers, with commands in flight
	lostReplies     uint64 // commands whose outcome the client was not told
	limitCloses     uint64
	evicted         uint64 // … for the limit of all clients together
	parkedEver      uint64
	tryAgain        uint64
	crossSlot       uint64
	atSource        uint64 // commands on moving slots, by where they ran
	atTarget        uint64
}

// published is what other goroutines may read of a loop: written at the end of a turn.
type published struct {
	total, bytesIn, bytesOut, errorReplies, connections atomic.Uint64
	connectionsLost, lostReplies, limitCloses, evicted  atomic.Uint64
	parkedEver, tryAgain, atSource, atTarget            atomic.Uint64
	parked, inFlight                                    atomic.Int64
}

func (l *loop) publish() {
	n, p := &l.n, &l.stats
	p.total.Store(n.total)
	p.bytesIn.Store(n.bytesIn)
	p.bytesOut.Store(n.bytesOut)
	p.errorReplies.Store(n.errorReplies)
	p.connections.Store(n.connections)
	p.connectionsLost.Store(n.connectionsLost)
	p.lostReplies.Store(n.lostReplies)
	p.limitCloses.Store(n.limitCloses)
	p.evicted.Store(n.evicted)
	p.parkedEver.Store(n.parkedEver)
	p.tryAgain.Store(n.tryAgain)
	p.atSource.Store(n.atSource)
	p.atTarget.Store(n.atTarget)
	p.parked.Store(int64(l.parking.Len()))
	inFlight := 0
	for _, pipe := range l.pipes {
		inFlight += pipe.InFlight()
	}
	p.inFlight.Store(int64(inFlight))
}

// Stats is the data plane's state, summed over its loops.
type Stats struct {
	Clients         int64  `json:"clients"`
	Loops           int    `json:"loops"`
	Commands        uint64 `json:"commands"`
	BytesIn         uint64 `json:"bytes_in"`
	BytesOut        uint64 `json:"bytes_out"`
	ErrorReplies    uint64 `json:"error_replies"`
	Connections     uint64 `json:"connections_received"`
	Rejected        uint64 `json:"connections_rejected"`
	ConnectionsLost uint64 `json:"server_connections_lost"`
	LostReplies     uint64 `json:"lost_replies"`
	LimitCloses     uint64 `json:"clients_closed_for_limits"`
	Evicted         uint64 `json:"clients_evicted"`
	Unlingered      uint64 `json:"clients_closed_unlingered"` // before they had all; see transport.Engine
	Parked          int64  `json:"parked"`
	ParkedEver      uint64 `json:"parked_ever"`
	TryAgain        uint64 `json:"tryagain"`
	AtSource        uint64 `json:"moving_at_source"`
	AtTarget        uint64 `json:"moving_at_target"`
	InFlight        int64  `json:"in_flight"`
}

// Stats sums up what the loops have published. Safe from any goroutine.
func (s *Server) Stats() Stats {
	out := Stats{Clients: s.clients.Load(), Rejected: uint64(s.rejected.Load())}
	for _, l := range s.allLoops() {
		p := &l.stats
		out.Loops++
		out.Commands += p.total.Load()
		out.BytesIn += p.bytesIn.Load()
		out.BytesOut += p.bytesOut.Load()
		out.ErrorReplies += p.errorReplies.Load()
		out.Connections += p.connections.Load()
		out.ConnectionsLost += p.connectionsLost.Load()
		out.LostReplies += p.lostReplies.Load()
		out.LimitCloses += p.limitCloses.Load()
		out.Parked += p.parked.Load()
		out.Evicted += p.evicted.Load()
		out.ParkedEver += p.parkedEver.Load()
		out.TryAgain += p.tryAgain.Load()
		out.AtSource += p.atSource.Load()
		out.AtTarget += p.atTarget.Load()
		out.InFlight += p.inFlight.Load()
	}
	if eng, ok := s.eng.Load().(transport.Engine); ok {
		out.Unlingered = eng.Unlingered()
	}
	return out
}

// minus is what was counted since before; what is so many now stays.
func (st Stats) minus(before *Stats) Stats {
	st.Commands -= before.Commands
	st.BytesIn -= before.BytesIn
	st.BytesOut -= before.BytesOut
	st.ErrorReplies -= before.ErrorReplies
	st.Connections -= before.Connections
	st.Rejected -= before.Rejected
	st.ConnectionsLost -= before.ConnectionsLost
	st.LostReplies -= before.LostReplies
	st.LimitCloses -= before.LimitCloses
	st.Evicted -= before.Evicted
	st.Unlingered -= before.Unlingered
	st.ParkedEver -= before.ParkedEver
	st.TryAgain -= before.TryAgain
	st.AtSource -= before.AtSource
	st.AtTarget -= before.AtTarget
	return st
}

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
		l.n.evicted++
		largest.closeFor("largest client while all client buffers are over memory-total")
	}
}
