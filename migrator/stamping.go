package migrator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/failpoint"
	"keyferry/internal/topology"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
)

// stampMode is what may be done about a stamp that is not the one wanted.
type stampMode uint8

const (
	stampRead  stampMode = iota // nothing
	stampWrite                  // it is written, if the server is the cluster's or nobody's, and the group's
	stampClaim                  // … also if the store does not have the group yet
	stampTake                   // it is written whatever it says
	stampDrop                   // it is removed, if it is the group's
)

// stampTries bounds how often a stamp is written after somebody else was faster: each time that is a gateway
// with as new an epoch.
const stampTries = 10

// stamp reads a group's stamp, compares it with the store, and writes it as mode says. The error is that of
// the server or of the store; what the stamp says is no error.
//
//	WATCH ─► GET ─► store.Load ─► Judge ─► MULTI SET EXEC
//
// So it is not lowered by a gateway that lags behind, and not written over one that came meanwhile.
func (m *Manager) stamp(ctx context.Context, g topology.Group, mode stampMode) (s groupStamp, err error) {
	s.endpoint = g.Endpoint
	err = m.visit(ctx, g, func(ctx context.Context, l *link.Link) error {
		for try := 0; ; try++ {
			err := m.stampOnce(ctx, l, g, mode, &s)
			if !errors.Is(err, redis.TxFailedErr) || try == stampTries {
				return err
			}
		}
	})
	if err != nil {
		s.err, s.written = err.Error(), false
		s.checked = s.checked || joberr.Refused(err) && !forNow(err)
	}
	return s, err
}

// forNow reports that a server refuses to be asked for as long as it is busy, and not for good, as where the
// gateway's user has no right to the key: what such a server has will never be known.
func forNow(err error) bool {
	for _, word := range []string{"LOADING ", "BUSY ", "MASTERDOWN "} {
		if strings.Contains(err.Error(), word) {
			return true
		}
	}
	return false
}

func (m *Manager) stampOnce(ctx context.Context, l *link.Link, g topology.Group, mode stampMode, s *groupStamp) error {
	if mode != stampRead {
		if err := l.Conn.Do(ctx, "WATCH", topology.StampKey).Err(); err != nil {
			return err
		}
	}
	found, strays, err := readStamp(ctx, l)
	if err != nil {
		return err
	}
	st, err := m.store.Load(ctx) // after it was read: a gateway may lag behind the store
	if err != nil {
		return err
	}
	s.checked, s.stamp, s.verdict = true, found, topology.StampFits
	if found != (topology.Stamp{}) {
		s.verdict = st.Judge(found, g)
	}
	want := st.StampOf(g.ID, m.control.Gateway())
	_, stored := st.Group(g.ID)
	as := want
	as.Gateway = found.Gateway
	switch {
	case mode == stampRead, mode == stampWrite && !stored, mode != stampTake && s.verdict != topology.StampFits:
		return nil
	case mode == stampDrop:
		if found.Group != g.ID {
			return nil
		}
		_, err = l.Conn.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Del(ctx, topology.StampKey).Err() })
		return err
	case found == as && len(strays) == 0:
		s.written = true
		return nil
	}
	failpoint.Hit("stamp.before")
	if _, err := l.Conn.TxPipelined(ctx, func(p redis.Pipeliner) error { return putStamp(ctx, p, want, strays) }); err != nil {
		return err
	}
	failpoint.Hit("stamp.after")
	s.stamp, s.verdict, s.written = want, topology.StampFits, true
	return nil
}

// putStamp writes a stamp, and removes it where SWAPDB has put it.
func putStamp(ctx context.Context, p redis.Pipeliner, s topology.Stamp, strays []int) error {
	for _, db := range strays {
		p.Select(ctx, db)
		p.Del(ctx, topology.StampKey)
	}
	if len(strays) > 0 {
		p.Select(ctx, 0)
	}
	return p.Set(ctx, topology.StampKey, s.String(), 0).Err()
}

// readStamp reads what a server has; zero: none that says anything. It is in database 0, unless that was
// swapped for another: strays are those that have it instead.
func readStamp(ctx context.Context, l *link.Link) (s topology.Stamp, strays []int, err error) {
	s, there, err := readStampIn(ctx, l)
	if err != nil || there {
		return s, nil, err
	}
	if err := l.Refresh(ctx); err != nil { // which databases there are now, and not before it was swapped
		return s, nil, err
	}
	for _, db := range slices.Sorted(maps.Keys(l.Info.Keyspace)) {
		if db == 0 {
			continue
		}
		if err := l.Use(ctx, db); err != nil {
			return s, nil, err
		}
		x, there, err := readStampIn(ctx, l)
		if err != nil {
			return s, nil, err
		}
		if there {
			strays = append(strays, db)
		}
		if x.Epoch >= s.Epoch {
			s = x
		}
	}
	return s, strays, l.Use(ctx, 0)
}

// readStampIn reads that of the selected database. What can't be read as a stamp says nothing: it is written
// over.
func readStampIn(ctx context.Context, l *link.Link) (s topology.Stamp, there bool, err error) {
	text, err := l.Conn.Get(ctx, topology.StampKey).Result()
	if err != nil {
		return s, !errors.Is(err, redis.Nil) && link.NoMark(err) == nil, link.NoMark(err)
	}
	s, _ = topology.ReadStamp(text)
	return s, true, nil
}

// Claim implements control.Migrator: a server becomes that of a group of this cluster, if it is nobody's
// or take is set. One that takes no writes now is stamped when it does.
func (m *Manager) Claim(ctx context.Context, g topology.Group, take bool) error {
	if why := m.stamps.olderStore(); why != "" {
		return errors.New(why)
	}
	mode := stampClaim
	if take {
		mode = stampTake
	}
	s, err := m.stamp(ctx, g, mode)
	if err == nil || s.checked {
		err = m.refuseStamp(g, s, take)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", g.Addr, err)
	}
	m.stamps.note(g.ID, s)
	m.settle()
	return nil
}

// Disclaim implements control.Migrator: the server is nobody's any more. One that does not answer keeps
// its stamp.
func (m *Manager) Disclaim(ctx context.Context, g topology.Group) { _, _ = m.stamp(ctx, g, stampDrop) }

// CheckOwner implements control.Migrator.
func (m *Manager) CheckOwner(ctx context.Context, g topology.Group) error {
	why := ""
	err := m.visit(ctx, g, func(ctx context.Context, l *link.Link) (err error) {
		why, err = m.checkStamp(ctx, l, g)
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", g.Addr, err)
	case why != "":
		return fmt.Errorf("%s: %s", g.Addr, why)
	}
	return nil
}

// refuseStamp says why a server must not be a group's.
func (m *Manager) refuseStamp(g topology.Group, s groupStamp, take bool) error {
	st := m.control.State()
	switch {
	case take:
	case s.verdict == topology.StampForeign:
		return fmt.Errorf("it belongs to another cluster, %s: two clusters that share a server write to keys that the other one moves. "+
			"Remove the group there first (GROUP DEL). Or take it over (PROXY GROUP ADD or GROUP SET, with TAKEOVER): gateways of that cluster then refuse writes", ofStamp(s.stamp))
	case s.verdict == topology.StampNewer:
		return fmt.Errorf("it shows epoch %d of this cluster, which the store (epoch %d) has not had: the store is not the newest one. "+
			"Put the newest topology.db back; or, if there is none, take the server all the same (PROXY GROUP ADD or GROUP SET, with TAKEOVER)", s.stamp.Epoch, st.Epoch)
	case s.verdict == topology.StampOther:
		return fmt.Errorf("it has the keys of group %s, as its stamp says. TAKEOVER (of PROXY GROUP ADD and GROUP SET) takes it all the same", s.stamp.Group)
	}
	return nil
}

// checkStamp says why a server's stamp does not let the group have it; "": nothing is against it.
func (m *Manager) checkStamp(ctx context.Context, l *link.Link, g topology.Group) (why string, err error) {
	found, _, err := readStamp(ctx, l)
	if joberr.Refused(err) {
		return "", nil // we may not ask
	}
	if err != nil || found == (topology.Stamp{}) {
		return "", err
	}
	st, err := m.store.Load(ctx)
	if err != nil {
		return "", err
	}
	if err := m.refuseStamp(g, groupStamp{stamp: found, verdict: st.Judge(found, g)}, false); err != nil {
		why = err.Error()
	}
	return why, nil
}

// StoreStatus is whether the store is the newest one, by what servers show.
type StoreStatus struct {
	Cluster string       `json:"cluster"`
	Epoch   uint64       `json:"epoch"`
	Changed uint64       `json:"changed_epoch"` // in which groups or slots last changed, which is what stamps show
	Writes  string       `json:"writes"`        // "served" or "refused"
	Reason  string       `json:"reason,omitempty"`
	Groups  []StampState `json:"groups"`
}

// StampState is what a group's server shows.
type StampState struct {
	Group   string `json:"group"`
	State   string `json:"state"` // "own", "newer", "of another cluster", "of another group", "not checked"
	Cluster string `json:"cluster,omitempty"`
	Gateway string `json:"gateway,omitempty"`
	Epoch   uint64 `json:"epoch"`
	Error   string `json:"error,omitempty"`
}

var stampStates = map[topology.StampVerdict]string{topology.StampFits: "own", topology.StampNewer: "newer", topology.StampForeign: "of another cluster", topology.StampOther: "of another group"}

// StoreStatus says what is known of the stamps.
func (m *Manager) StoreStatus() StoreStatus {
	st := m.control.State()
	out := StoreStatus{Cluster: st.ClusterID, Epoch: st.Epoch, Changed: st.StampOf("", "").Epoch, Writes: "served", Reason: m.Refusal(), Groups: []StampState{}}
	if out.Reason != "" {
		out.Writes = "refused"
	}
	for _, g := range st.Groups {
		s := m.stamps.of(g.ID)
		x := StampState{Group: g.ID, State: "not checked", Cluster: s.stamp.Cluster, Gateway: s.stamp.Gateway, Epoch: s.stamp.Epoch, Error: s.err}
		if s.checked {
			x.State = stampStates[s.verdict]
		}
		out.Groups = append(out.Groups, x)
	}
	return out
}

// AcceptStore makes the store the newest one, whatever the servers that answer show, and stamps these. Keys
// that are where the slots have moved since, and not where this store has them, stay hidden.
func (m *Manager) AcceptStore(ctx context.Context) (string, error) {
	if m.Refusal() == "" {
		return "", errors.New("writes are served: no server shows anything that speaks against the store")
	}
	st := m.control.State()
	shown := uint64(0)
	for _, g := range st.Groups {
		if s, err := m.stamp(ctx, g, stampRead); err == nil {
			m.stamps.note(g.ID, s)
		}
		if s := m.stamps.of(g.ID).stamp; s.Cluster == st.ClusterID {
			shown = max(shown, s.Epoch)
		}
	}
	st, err := topology.Update(ctx, m.store, func(s *topology.State) error { s.Accept(shown); return nil })
	if err != nil {
		return "", err
	}
	var not []string
	for _, g := range st.Groups {
		s, err := m.stamp(ctx, g, stampTake)
		if err != nil {
			not = append(not, g.ID)
			s.checked = false // it is asked again as soon as it answers
		}
		m.stamps.note(g.ID, s)
	}
	m.stamps.follow(st) // if the State has not come round yet
	m.settle()
	text := fmt.Sprintf("OK, the store goes on with epoch %d. Look for keys of slots that had moved with PROXY SLOT CHECK", st.Epoch)
	if len(not) > 0 {
		text += "; not stamped, since they did not answer or refused it: " + strings.Join(not, ", ")
	}
	return text, nil
}

// olderStore says why the store is not the newest; "": nothing is known.
func (b *stampBook) olderStore() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.older
}

// forget is about what was held against the store before it was accepted. mu is held.
func (b *stampBook) forget() {
	b.older = ""
	for id, s := range b.groups {
		if s.verdict != topology.StampFits {
			s.checked, s.verdict, s.stamp = false, topology.StampFits, topology.Stamp{}
			b.groups[id] = s
		}
	}
}
