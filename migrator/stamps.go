package migrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/topology"
	"keyferry/migrator/job"
	"keyferry/migrator/joberr"
)

// The primary of each group has a stamp: a key of the gateway's own that says which cluster the server
// belongs to, and up to which epoch. It lasts, is replicated and is restored with the server's keys.
//
//	GROUP ADD, GROUP SET ─► claim ──────► SET, unless it is another cluster's
//	a job's mover ────────► stampEnds ──► SET with the epoch of its move, before it touches a key
//	each second ──────────► keepStamps ─► SET where the epoch is an older one; now and then, and after
//	                                      FLUSHALL, where the stamp has gone
//	a start ──────────────► CheckStamps ► an epoch that the store has not had, or another cluster?
//	                                      ─► no writes are served until an operator has decided
//
// A server that shows an older epoch than the store has is what a failover or an older dump leaves, and
// is given the newest. A stamp is never lowered: while writes are refused none is written.

const (
	stampLook  = time.Second      // bounds the look at one server at a start
	stampTick  = time.Second      // from one round to the next
	stampEvery = 30 * time.Second // … in which every group is looked at
	stampBatch = 64               // groups of a round that only lack the newest epoch
	stampLines = 16               // servers that are asked at once
)

// stampBook is what the Manager knows of the stamps of its groups.
type stampBook struct {
	bell chan struct{} // capacity 1: stamps may have gone, look now

	mu       sync.Mutex // protects what follows; not held while a server is asked
	begun    bool       // all have been looked at once: from now on they may be written
	groups   map[string]groupStamp
	older    string        // why the store is not the newest; it lasts until ACCEPT, at whichever gateway
	accepted uint64        // topology.Topology.Accepted, when it was last seen
	refusal  string        // why no writes are served; "": they are
	lifted   chan struct{} // closed when refusal ends; nil without one
}

// groupStamp is what is known of one group's.
type groupStamp struct {
	endpoint topology.Endpoint // of which
	checked  bool              // it has been read, so verdict and stamp say something
	verdict  topology.StampVerdict
	stamp    topology.Stamp // zero: there was none
	written  bool           // it is the newest that was to be written
	err      string         // why the server was not asked, or did not take the stamp; "": neither
}

func newStampBook(st topology.State) *stampBook {
	b := &stampBook{bell: make(chan struct{}, 1), groups: make(map[string]groupStamp)}
	b.follow(st)
	return b
}

// follow keeps the book to the groups that there are. A server at another address is one that nobody has
// looked at.
func (b *stampBook) follow(st topology.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range st.Groups {
		if have, ok := b.groups[g.ID]; !ok || have.endpoint.Addr != g.Addr {
			b.groups[g.ID] = groupStamp{endpoint: g.Endpoint}
		}
	}
	if st.Accepted > b.accepted {
		b.accepted = st.Accepted
		b.forget()
	}
	maps.DeleteFunc(b.groups, func(id string, _ groupStamp) bool { _, ok := st.Group(id); return !ok })
}

// note takes over what was found at a group. It tells whether that is news.
func (b *stampBook) note(id string, s groupStamp) (before groupStamp) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before = b.groups[id]
	if s.err != "" && !s.checked { // it did not answer: what it had said before stands
		s.checked, s.verdict, s.stamp = before.checked, before.verdict, before.stamp
	}
	b.groups[id] = s
	return before
}

func (b *stampBook) of(id string) groupStamp {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.groups[id]
}

// Refusal says why no writes are served; "": they are.
func (m *Manager) Refusal() string {
	m.stamps.mu.Lock()
	defer m.stamps.mu.Unlock()
	return m.stamps.refusal
}

// SetRefuse gives the Manager the data plane's way to refuse writes, with the reason for clients; "" has
// it serve them. Call it before CheckStamps.
func (m *Manager) SetRefuse(refuse func(why string)) { m.plane.refuse = refuse }

// CheckStamps looks at every group before clients are served. One that does not answer soon is looked at
// when it does.
func (m *Manager) CheckStamps(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stampLook)
	defer cancel()
	m.lookAtStamps(ctx, m.control.State().Groups)
}

// Flushed hears that the keys of the gateway's own may have gone or be elsewhere: FLUSHALL, SWAPDB.
func (m *Manager) Flushed() {
	select {
	case m.stamps.bell <- struct{}{}:
	default:
	}
}

// keepStamps looks and writes until ctx ends.
func (m *Manager) keepStamps(ctx context.Context) {
	tick := time.NewTicker(stampTick)
	defer tick.Stop()
	last := time.Time{}
	for ctx.Err() == nil {
		all := time.Since(last) >= m.cfg.stampEvery()
		if all {
			last = time.Now()
		}
		m.lookAtStamps(ctx, m.stamps.due(m.control.State(), all))
		select {
		case <-tick.C:
		case <-m.stamps.bell:
			last = time.Time{}
		case <-ctx.Done():
		}
	}
}

func (b *stampBook) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begun = true
}

// writable reports that stamps may be written now.
func (b *stampBook) writable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.begun && b.refusal == ""
}

// due are the groups to look at: all of them; or those that nobody has looked at yet, and some of those
// that have an older epoch, the oldest first.
func (b *stampBook) due(st topology.State, all bool) []topology.Group {
	if all {
		return st.Groups
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	newest := st.StampOf("", "").Epoch
	var unseen, behind []topology.Group
	for _, g := range st.Groups {
		switch s := b.groups[g.ID]; {
		case !s.checked:
			unseen = append(unseen, g)
		case b.refusal == "" && s.verdict == topology.StampFits && s.err == "" && s.stamp.Epoch < newest:
			behind = append(behind, g)
		}
	}
	slices.SortStableFunc(behind, func(x, y topology.Group) int {
		return cmp.Compare(b.groups[x.ID].stamp.Epoch, b.groups[y.ID].stamp.Epoch)
	})
	return append(unseen, behind[:min(len(behind), stampBatch)]...)
}

// lookAtStamps brings the stamps of groups up to date, or finds that they must not be.
func (m *Manager) lookAtStamps(ctx context.Context, groups []topology.Group) {
	if len(groups) == 0 {
		m.settle()
		return
	}
	var wg sync.WaitGroup
	lines := make(chan struct{}, stampLines)
	for _, g := range groups {
		lines <- struct{}{}
		wg.Go(func() {
			defer func() { <-lines }()
			_ = m.lookAtStamp(ctx, g)
		})
	}
	wg.Wait()
	m.settle()
}

// lookAtStamp is one of these.
func (m *Manager) lookAtStamp(ctx context.Context, g topology.Group) error {
	mode := stampWrite
	if !m.stamps.writable() {
		mode = stampRead
	}
	s, err := m.stamp(ctx, g, mode)
	before := m.stamps.note(g.ID, s)
	if s.err != "" && s.err != before.err && joberr.Refused(err) {
		m.log.Warn("the group's server does not take the cluster's stamp; it is tried again, and clients are served: a store that is put back from a copy is not known as one by this server",
			zap.String("group", g.ID), zap.String("addr", g.Addr), zap.String("key", topology.StampKey), zap.Error(err))
	}
	return err
}

// settle decides whether writes are served, by what is known of all groups, and tells the data plane and
// the movers.
func (m *Manager) settle() {
	st := m.control.State()
	b := m.stamps
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.refusal
	b.decide(st)
	switch {
	case b.refusal == was:
		return
	case was == "":
		b.lifted = make(chan struct{})
		m.gate.Shut() // who is inside finishes its batch
		m.log.Error("no writes are served, and no keys are moved: "+b.refusal, zap.String("cluster", st.ClusterID), zap.Uint64("epoch", st.Epoch))
	case b.refusal == "":
		close(b.lifted)
		b.lifted = nil
		m.gate.Reopen()
		m.log.Info("writes are served again")
	}
	if m.plane.refuse != nil {
		m.plane.refuse(b.refusal)
	}
}

// decide sets refusal. mu is held.
func (b *stampBook) decide(st topology.State) {
	foreign := ""
	for _, g := range st.Groups {
		s := b.groups[g.ID]
		switch {
		case !s.checked || s.verdict == topology.StampFits:
		case s.verdict == topology.StampNewer && b.older == "":
			b.older = olderText(st, g.ID, s.stamp)
		case s.verdict == topology.StampNewer || foreign != "" || !inUse(st, g.ID):
		case s.verdict == topology.StampForeign:
			foreign = foreignText(g.ID, s.stamp)
		default:
			foreign = fmt.Sprintf("the server of group %s (%s) has the keys of group %s, as its stamp says: correct the address (PROXY GROUP SET); or, if it is the right server, PROXY GROUP SET %s TAKEOVER", g.ID, g.Addr, s.stamp.Group, g.ID)
		}
	}
	b.refusal = cmp.Or(b.older, foreign)
}

// inUse reports that clients' commands go to a group.
func inUse(st topology.State, id string) bool {
	return len(st.SlotsOf(id)) > 0 || slices.ContainsFunc(st.Moves, func(m topology.Move) bool {
		return m.To == 0 && (m.Source == id || m.Target == id)
	})
}

const acceptText = "PROXY STORE ACCEPT"

// olderText says what is wrong about the store, and what to do.
func olderText(st topology.State, group string, s topology.Stamp) string {
	shows := fmt.Sprintf("shows epoch %d", s.Epoch)
	if s.Epoch <= st.Epoch {
		shows = fmt.Sprintf("shows an epoch %d that the store has not had", s.Epoch)
	}
	return fmt.Sprintf("the store (epoch %d) is not the newest one: the server of group %s %s. Slots may have moved since, and keys of these would be written to the wrong server. "+
		"Stop the gateway and put the newest topology.db back; or, if there is none, %s goes on with this one", st.Epoch, group, shows, acceptText)
}

// foreignText is olderText for a server of another cluster.
func foreignText(group string, s topology.Stamp) string {
	return fmt.Sprintf("the server of group %s belongs to another cluster, %s. Two clusters that share a server write to keys that the other one moves. "+
		"Remove the group from one of them; or %s takes the server for this one", group, ofStamp(s), acceptText)
}

// ofStamp names who wrote a stamp.
func ofStamp(s topology.Stamp) string {
	return fmt.Sprintf("%s (there it is group %s, stamped by gateway %s in epoch %d)", s.Cluster, s.Group, s.Gateway, s.Epoch)
}

// awaitAccepted waits while writes are refused.
func (m *Manager) awaitAccepted(ctx context.Context) error {
	for {
		m.stamps.mu.Lock()
		lifted := m.stamps.lifted
		m.stamps.mu.Unlock()
		if lifted == nil {
			return ctx.Err()
		}
		select {
		case <-lifted:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// actAccepted is act, but not while writes are refused: what it would go by may be of another time.
func (r *runner) actAccepted(ctx context.Context) *job.Event {
	if r.m.awaitAccepted(ctx) != nil {
		return nil
	}
	return r.act(ctx)
}

// stampEnds comes before a mover touches a key. From then on a copy of the store from before must not be
// taken for the newest, so at one end at least the stamp has to be there: a server that is full or can't
// write its disk takes none, and can be drained all the same.
func (m *Manager) stampEnds(ctx context.Context, source, target topology.Group) error {
	if err := m.awaitAccepted(ctx); err != nil {
		return err
	}
	origins := []string{joberr.Source, joberr.Target}
	var refused error
	for i, g := range []topology.Group{source, target} {
		err := m.lookAtStamp(ctx, g)
		m.settle()
		switch {
		case m.stamps.of(g.ID).verdict != topology.StampFits:
			return joberr.At(origins[i], fmt.Errorf("the server's stamp is not the cluster's: %s", cmp.Or(m.Refusal(), "see PROXY STORE STATUS")))
		case err == nil && !m.stamps.of(g.ID).written: // writes are refused since a moment ago
			return joberr.At(joberr.Gateway, errors.New("the server is not stamped yet"))
		case err == nil:
		case !joberr.Refused(err) || refused != nil:
			return joberr.At(origins[i], fmt.Errorf("stamping the server: %w", err))
		default:
			refused = err
		}
	}
	return nil
}

// AdmitConn is asked by the Dialer before clients' commands go over a new connection: what is not known of a
// server since the start is found out first.
func (m *Manager) AdmitConn(ctx context.Context, to topology.Endpoint) error {
	g, unseen := m.stamps.unseen(to)
	if !unseen {
		return nil
	}
	if err := m.lookAtStamp(ctx, g); err != nil && !m.stamps.of(g.ID).checked {
		if strings.Contains(err.Error(), "BUSY ") {
			return nil // clients are told by the server, which executes nothing of theirs
		}
		return err
	}
	was := m.Refusal()
	m.settle()
	if why := m.Refusal(); why != was {
		return fmt.Errorf("no writes are served: %s", why) // and none of those that wait for this connection
	}
	return nil
}

// unseen finds the group of an endpoint, if nobody has read its stamp.
func (b *stampBook) unseen(to topology.Endpoint) (topology.Group, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, s := range b.groups {
		if !s.checked && s.endpoint.Addr == to.Addr {
			return topology.Group{ID: id, Endpoint: to}, true
		}
	}
	return topology.Group{}, false
}
