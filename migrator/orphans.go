package migrator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/topology"
	"keyferry/migrator/joberr"
	"keyferry/migrator/keymove"
	"keyferry/migrator/link"
	"keyferry/migrator/preflight"
	"keyferry/router"
)

// An orphan is a key that sits in a group that does not own its slot: nobody can read it
// through a gateway. Servers that came back from an old dump have such, and so have those
// that somebody wrote to past the gateway. Keys of slots that move are not looked at.

// Fix is what is done about orphans.
type Fix uint8

const (
	FixNothing Fix = iota
	FixTwins       // those that the owner has as well are removed: the owner's is the key
	FixDrop        // … and the others too
	FixAdopt       // … and the others are brought to the owner, if it has none by then
)

// Orphans is what one group holds of others.
type Orphans struct {
	Group   string `json:"group"`
	Scanned int64  `json:"keys_scanned"`
	Twins   int64  `json:"twins"` // the owner has a key of that name as well
	Alone   int64  `json:"alone"` // the owner has none
	Removed int64  `json:"removed"`
	Adopted int64  `json:"adopted"`
	// Unserved keys are in databases that no gateway with these settings reaches: they are counted,
	// and neither looked at nor mended.
	Unserved     int64    `json:"keys_unserved"`
	UnservedText string   `json:"unserved,omitempty"` // which
	Sample       []string `json:"sample,omitempty"`   // "db/key in slot n, owner g"
}

const orphansShown = 20

// orphan is one of them.
type orphan struct {
	name  string
	slot  int
	owner string
	twin  bool
}

// FindOrphans looks through every group, or through those that are named, for keys of the
// given slots (nil: all) that sit in the wrong one, and does about them what fix says.
//
// What FIX does is decided key by key, when it is done, and never by what was found at first:
//
//	found by SCAN ─► movers are held ─► owner by what is stored now ─► still an orphan? ─► mended
func (m *Manager) FindOrphans(ctx context.Context, groups []string, slots []topology.Range, fix Fix) ([]Orphans, error) {
	if why := m.Refusal(); why != "" && fix != FixNothing {
		return nil, fmt.Errorf("no keys are mended now: %s", why)
	}
	st := m.control.State()
	if slots == nil {
		slots = []topology.Range{{First: 0, Last: st.SlotCount - 1}}
	}
	set := topology.NewSlotSet(slots)
	links := make(map[string]*link.Link)
	defer func() {
		for _, l := range links {
			m.hangUp(l)
		}
	}()
	for _, g := range st.Groups {
		l, err := m.dialChanger(ctx, g)
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", g.ID, err)
		}
		links[g.ID] = l
	}
	if err := differentPrimaries(links); err != nil {
		return nil, err
	}
	var out []Orphans
	for _, g := range st.Groups {
		if len(groups) > 0 && !slices.Contains(groups, g.ID) {
			continue
		}
		s := &orphanSearch{m: m, links: links, slots: set, fix: fix, found: Orphans{Group: g.ID}}
		if err := s.run(ctx, links[g.ID]); err != nil {
			err = fmt.Errorf("group %s: %w", g.ID, err)
			if fix != FixNothing && !joberr.Refused(err) {
				err = errors.Join(err, m.fenceAfter(links))
			}
			return nil, err
		}
		info := links[g.ID].Info
		s.found.Unserved, s.found.UnservedText = info.UnservedKeys(m.databases), info.Unserved(m.databases)
		out = append(out, s.found)
	}
	return out, nil
}

// differentPrimaries checks that no server is reached as two groups, whose every key would be
// an orphan of the other and a twin of itself, and that none is a replica.
func differentPrimaries(links map[string]*link.Link) error {
	by := make(map[string]*link.Link)
	for _, id := range slices.Sorted(maps.Keys(links)) {
		l := links[id]
		if l.Info.Role != "master" {
			return fmt.Errorf("group %s is a %s: a group's address must be its primary", preflight.Where(l.Group), l.Info.Role)
		}
		if other := by[l.Info.RunID]; other != nil {
			return fmt.Errorf("groups %s and %s are the same server: correct the address of one (PROXY GROUP SET), or remove it", preflight.Where(other.Group), preflight.Where(l.Group))
		}
		by[l.Info.RunID] = l
	}
	return nil
}

// fenceAfter sees to it that nothing which was sent over these links is executed any more:
// who was told that something failed may do anything next.
func (m *Manager) fenceAfter(links map[string]*link.Link) (err error) {
	for _, id := range slices.Sorted(maps.Keys(links)) {
		l := links[id]
		ctx, cancel := context.WithTimeout(context.Background(), m.cfg.CallTimeout)
		if e := link.Fence(ctx, m.dialer, l.Group, l.Name, m.cfg.CallTimeout); e != nil {
			err = errors.Join(err, fmt.Errorf("what was sent to group %s may yet be executed: %w", id, e))
		}
		cancel()
	}
	return err
}

// orphanSearch goes through one group.
type orphanSearch struct {
	m     *Manager
	links map[string]*link.Link
	slots *topology.SlotSet
	fix   Fix
	found Orphans
}

func (s *orphanSearch) run(ctx context.Context, in *link.Link) error {
	scan, err := link.NewScanner(ctx, in, s.m.cfg.LockHoldTarget, int(s.m.cfg.ScanCount))
	if err != nil {
		return err
	}
	for db := range s.m.databases {
		for _, l := range s.links {
			if err := l.Use(ctx, db); err != nil {
				return err
			}
		}
		for cursor := uint64(0); ; {
			names, next, err := scan.Page(ctx, cursor)
			if err != nil {
				return err
			}
			names = slices.DeleteFunc(names, func(n string) bool { return router.Reserved([]byte(n)) })
			s.found.Scanned += int64(len(names))
			if err := s.page(ctx, in, db, names); err != nil {
				return err
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return nil
}

// page looks at some names. What is to be changed is judged again with the movers held, by
// what is stored then: a job may have begun to bring its keys here.
func (s *orphanSearch) page(ctx context.Context, in *link.Link, db int, names []string) error {
	list := s.orphans(s.m.control.State(), names)
	if len(list) == 0 {
		return nil
	}
	if s.fix != FixNothing {
		resume, err := s.m.quiesceAll(ctx, s.m.quiesce, methodQuiesce)
		if err != nil {
			return err
		}
		defer resume()
		st, err := s.m.store.Load(ctx)
		if err != nil {
			return err
		}
		if list = s.orphans(st, names); len(list) == 0 {
			return nil
		}
	}
	if err := s.twins(ctx, list); err != nil {
		return err
	}
	for _, o := range list {
		if o.twin {
			s.found.Twins++
		} else {
			s.found.Alone++
		}
		if len(s.found.Sample) < orphansShown {
			s.found.Sample = append(s.found.Sample, fmt.Sprintf("%d/%s in slot %d, owner %s", db, o.name, o.slot, o.owner))
		}
		if err := s.mend(ctx, in, o); err != nil {
			return err
		}
	}
	return nil
}

// orphans are those of the names whose slot is stable at another group.
func (s *orphanSearch) orphans(st topology.State, names []string) (list []*orphan) {
	owner := make([]string, st.SlotCount) // "": nobody, or the slot moves
	for _, v := range st.SlotViews() {
		if v.State != topology.Stable {
			continue
		}
		for i := v.First; i <= v.Last; i++ {
			owner[i] = v.Owner
		}
	}
	for _, n := range names {
		slot := s.m.scheme.Slot([]byte(n))
		if o := owner[slot]; o != "" && o != s.found.Group && s.slots.Has(slot) {
			list = append(list, &orphan{name: n, slot: slot, owner: o})
		}
	}
	return list
}

// twins asks the owners.
func (s *orphanSearch) twins(ctx context.Context, list []*orphan) error {
	for _, o := range list {
		l := s.links[o.owner]
		if l == nil {
			return fmt.Errorf("group %s was added meanwhile", o.owner)
		}
		n, err := l.Conn.Exists(ctx, o.name).Result()
		if err != nil {
			return err
		}
		o.twin = n > 0
	}
	return nil
}

// mend acts on one orphan, with all movers held: what was found some time ago may have changed, and
// a job may have begun that brings the slot's keys here, where they would look like orphans. So the
// slot is judged once more by what is stored now.
func (s *orphanSearch) mend(ctx context.Context, in *link.Link, o *orphan) error {
	switch {
	case s.fix == FixNothing, s.fix == FixTwins && !o.twin:
		return nil
	case s.fix == FixAdopt && !o.twin:
		if err := s.adopt(ctx, in, o); err != nil {
			return err
		}
		s.found.Adopted++
	default:
		s.found.Removed++
	}
	return in.Conn.Unlink(ctx, o.name).Err()
}

// adopt copies an orphan to its owner. That the owner has one by now is as good. One that
// expires between the two questions is gone when it is asked for its value.
func (s *orphanSearch) adopt(ctx context.Context, in *link.Link, o *orphan) error {
	expiry, err := keymove.AskExpiry(ctx, in.Conn, o.name)
	if err != nil {
		return err
	}
	dump, err := in.Conn.Dump(ctx, o.name).Result()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		return err
	}
	ms, absolute := expiry.Argument(time.Now())
	restore := []any{"RESTORE", o.name, ms, dump}
	if absolute {
		restore = append(restore, "ABSTTL")
	}
	err = s.links[o.owner].Conn.Do(ctx, restore...).Err()
	if err != nil && strings.HasPrefix(err.Error(), "BUSYKEY") {
		return nil
	}
	return err
}

// VerifyJob looks for keys of an ended job's slots in the group that they have left, or in
// any other wrong one, as they are owned now.
func (m *Manager) VerifyJob(ctx context.Context, id string) ([]Orphans, error) {
	j, ok := m.JobStatus(id)
	if !ok {
		return nil, fmt.Errorf("no such job %q", id)
	}
	if !j.Phase.Ended() {
		return nil, fmt.Errorf("job %s is %s: it proves itself when it ends", id, j.Phase)
	}
	return m.FindOrphans(ctx, []string{j.Source, j.Target}, j.Slots, FixNothing)
}
