package proxy

import (
	"time"

	"go.uber.org/zap"

	"keyferry/internal/upstream"
	"keyferry/proxy/parking"
	"keyferry/proxy/stats"
	"keyferry/router"
)

// servers are the shared connections of a loop: one for each group, database and RESP
// version that its clients use. All commands that need no connection of their own go out on
// these, in the order in which they came.
//
// Who touches it: the loop's goroutine. Dials and fences run elsewhere and come back by post.
//
// Invariants: pipes has a pipe only of a group of the present table (adopt retires the
// others); byGroup is the same by the table's own numbering, filled as pipes are asked for,
// and made anew with each table.
type servers struct {
	pipes   map[pipeKey]*upstream.Pipe
	byGroup [][]*upstream.Pipe // [group index of table][2·db + proto-2]
	dirty   []*upstream.Pipe   // have something to write at the end of the turn
	env     upstream.Env
	peers   peers // what is to be sent to them once more

	losing   *loss                         // set while a dead connection's calls are being failed; see lost
	loadedBy map[*upstream.Pipe]*loadedSet // scripts known to be at their servers
	scripts  map[*upstream.Pipe]time.Time  // the lanes: since when each waits for what it waits for, as far as it is known
	busy     map[string]*busyness          // by group

	// ownerSince is, by slot, the epoch of the table in which its owner changed. A WATCH of an
	// earlier epoch has watched where the key no longer is.
	ownerSince []uint64
}

func newServers() servers {
	return servers{pipes: make(map[pipeKey]*upstream.Pipe), loadedBy: make(map[*upstream.Pipe]*loadedSet),
		scripts: make(map[*upstream.Pipe]time.Time), busy: make(map[string]*busyness)}
}

// pipeKey: by id and not by index, which changes with the table.
type pipeKey struct {
	group string
	db    int
	proto int // RESP version of the clients that it serves
	lane  int // 0; of scripts: 1 or 2, see lanes.go
}

// loss collects the shared holds of the calls that died with one connection: they are
// given back only when the connection is fenced.
//
// Lifetime: from the loss to the end of the fence, which can be long after: a server that
// can't be reached can't be asked to kill a connection. Until then those keys don't move.
type loss struct {
	holds []parking.Holds
}

// pipe is the shared connection to a group of the present table. Clients of either
// protocol version have their own, so that replies pass through as they come.
//
// It is on the path of every command: the look-up by index is what it costs, and the map is
// for the first use after a change of the table. A database has a connection of its own
// because SELECT is state of a connection, and clients of different databases share the
// others.
func (l *loop) pipe(group int16, db, proto int) *upstream.Pipe {
	byDB := l.servers.byGroup[group]
	at := 2*db + proto - 2
	if p := byDB[at]; p != nil {
		return p
	}
	p := l.sharedPipe(group, pipeKey{l.table.Upstream(group).ID, db, proto, 0})
	byDB[at] = p
	return p
}

// sharedPipe is the one of a key, which belongs to a group of the present table.
func (l *loop) sharedPipe(group int16, k pipeKey) *upstream.Pipe {
	p := l.servers.pipes[k]
	if p == nil {
		g := l.table.Upstream(group)
		o := &l.srv.opt
		p = upstream.New(g.ID, upstream.Target{Endpoint: g.Endpoint, DB: k.db, Proto: k.proto}, &l.servers.env, upstream.Limits{
			QueueBytes: o.PipeBytes, ReconnectMin: o.ReconnectMin, ReconnectMax: o.ReconnectMax})
		l.servers.pipes[k] = p
	}
	return p
}

// stays reports that the present table has the group that p leads to. By a new password it
// connects from then on: the connection that stands is authenticated.
//
// A new address is another server: what is in flight at the old one is answered by that, and
// new commands go to a new pipe.
func (l *loop) stays(p *upstream.Pipe) bool {
	i := l.table.UpstreamOf(p.Group)
	if i < 0 {
		return false
	}
	to := l.table.Upstream(i).Endpoint
	if to.Addr != p.Addr {
		return false
	}
	p.Endpoint = to
	return true
}

// lost is called when a server connection has died with calls in flight, before they are
// failed. The server may still execute what it had received: its socket's buffer outlives the
// connection that we see. A key of a moving slot that such a command holds at the source must
// not move before it can no longer be executed there, or a write could be lost behind the
// key's move. So their holds are collected here, by Fail, and given back when the connection
// is known to be dead at the server.
//
//	died ─► lost ─► calls fail, clients get their errors ─► failed()
//	          └► fence: CLIENT KILL from another connection, again until it worked ─► holds released
//
// Failing one call can lead to writes that show another connection dead, so losses nest: outer
// is restored by what is returned, when the calls of this one have been failed.
func (l *loop) lost(p *upstream.Pipe, name string) (failed func()) {
	x, outer := &loss{}, l.servers.losing
	l.servers.losing = x
	l.rec.N[stats.ConnectionsLost]++
	if isPeerID(p.Group) { // it holds no lock of ours, and the peer looks after its own servers
		l.srv.log.Warn("connection to another gateway lost with commands in flight", zap.String("gateway", p.Group), zap.String("addr", p.Addr), zap.Int("in_flight", p.InFlight()))
		p.Fenced()
		return func() { l.servers.losing = outer }
	}
	l.srv.log.Warn("server connection lost with commands in flight; fencing it",
		zap.String("group", p.Group), zap.String("addr", p.Addr), zap.String("connection", name), zap.Int("in_flight", p.InFlight()))
	l.srv.fence(l, p, name, func() {
		for _, h := range x.holds {
			h.Release()
		}
		p.Fenced()
		l.arm()
	})
	return func() { l.servers.losing = outer }
}

// adopt makes t the loop's table. From here on every index of a group is one of t, so byGroup
// is made anew before anything runs that could send; and pipes are retired last: what fails by
// that is answered, which may resume a client whose next commands have to go by t. A retired
// pipe still takes the replies to what it was sent.
func (l *loop) adopt(t *router.Table) {
	old := l.table
	l.table = t
	var gone []*upstream.Pipe
	for k, p := range l.servers.pipes {
		if !l.stays(p) {
			delete(l.servers.pipes, k)
			delete(l.servers.loadedBy, p)
			delete(l.servers.scripts, p)
			gone = append(gone, p)
		}
	}
	l.servers.byGroup = make([][]*upstream.Pipe, t.Upstreams())
	for i := range l.servers.byGroup {
		l.servers.byGroup[i] = make([]*upstream.Pipe, 2*t.Databases)
	}
	l.noteOwners(old, t)
	l.settleSessions(old, t)
	// Their clients' next commands, which a failed reply may let go on, find the new table in
	// force.
	for _, p := range gone { // what fails by that may lead to more, which goes by t
		if isPeerID(p.Group) {
			p.Abandon() // it is no part of the cluster any more, and may never answer
		} else {
			p.Retire()
		}
	}
	l.retireDedicated()
	l.unblockMisplaced()
	if l.sendAgain() {
		l.turns.wantTick.Store(true)
	}
}

// noteOwners keeps ownerSince true.
//
// It compares ids, not indexes, which mean something within one table only. A slot that nobody
// owned, or owns now, counts as unchanged: nobody can have watched a key there.
func (l *loop) noteOwners(old, t *router.Table) {
	if old == nil || len(old.Slots) != len(t.Slots) {
		l.servers.ownerSince = make([]uint64, len(t.Slots))
		return
	}
	for i := range t.Slots {
		a, b := old.Slots[i].Owner, t.Slots[i].Owner
		if a >= 0 && b >= 0 && (old.Groups[a].ID != t.Groups[b].ID || byPeer(old, i) != byPeer(t, i)) {
			l.servers.ownerSince[i] = t.Epoch
		}
	}
}

// dropSilent closes a connection on which nothing has come for too long while commands are in
// flight.
//
// A server that hangs is noticed in no other way: TCP acknowledges what it never reads.
// Closing fails the calls, and the clients hear of it instead of waiting for ever.
func (l *loop) dropSilent(p *upstream.Pipe, limit time.Duration) {
	silent := p.Silent(l.now)
	if _, forScripts := l.servers.scripts[p]; forScripts && p.InFlight() > 0 && l.runsLong(p) {
		return
	}
	if silent > limit {
		l.srv.log.Warn("server silent, connection dropped", zap.String("group", p.Group),
			zap.String("addr", p.Addr), zap.Duration("silent_for", limit))
		p.Close()
	}
}
