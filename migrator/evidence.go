package migrator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
	"keyferry/router"
)

// What servers show of who uses them, and since when. Nothing is left at them for that:
//
//	names of connections ─► another gateway is connected: two clusters, or two copies of one
//	slots of keys        ─► many that the group does not own: the slot map is not of this time

// foreignAgain is how long connections of a gateway that has just died are given to go, and those that this
// one's probes have to a group that was just removed: probes end within half a second.
const foreignAgain = time.Second

// foreignGateways are the other gateways that are connected to a server. Of a group of ours those of our
// cluster do not count, with what former processes have left. At any other server they do: two
// gateways of one machine have one name, unless they were given others.
func (m *Manager) foreignGateways(ctx context.Context, l *link.Link, ours bool) ([]string, error) {
	id, err := l.Conn.ClientID(ctx).Result()
	if err != nil && !joberr.Refused(err) {
		return nil, err
	}
	st := m.control.State()
	isOwn := func(c upstream.Client) bool {
		name, _, _ := upstream.ParseName(c.Name)
		_, known := st.Gateway(name)
		return c.ID == id || ours && known
	}
	for try := 0; ; try++ {
		text, err := l.Conn.ClientList(ctx).Result()
		if joberr.Refused(err) {
			return nil, nil // we may not ask
		}
		if err != nil {
			return nil, err
		}
		var found []string
		for _, c := range upstream.ParseClients(text) {
			if rest, yes := strings.CutPrefix(c.Name, upstream.NamePrefix); yes && !isOwn(c) {
				name, _, _ := strings.Cut(rest, ":")
				host, _, _ := strings.Cut(c.Addr, ":")
				found = append(found, name+" (from "+host+")")
			}
		}
		slices.Sort(found)
		if found = slices.Compact(found); len(found) == 0 || try > 0 {
			return found, nil
		}
		sleep(ctx, foreignAgain)
	}
}

// A look at a start is bounded: it is for whoever reads the log, and no proof.
const (
	strayLook    = 10 * time.Second // at one server
	strayNames   = 1000             // that are looked at
	strayLeast   = 10               // keys, below which there is nothing to tell
	strayPortion = 10               // one in so many
)

// lookForStrays looks at some keys of each group when the gateway starts. Each server is asked by one
// goroutine, which ends with ctx. Those of an open job are left alone: the job goes on with its own
// SCAN just then, and another beside it would only take the server's time from it.
func (m *Manager) lookForStrays(ctx context.Context) {
	st := m.control.State()
	for _, g := range st.Groups {
		if slices.ContainsFunc(st.Jobs, func(j topology.Job) bool { return !j.Phase.Ended() && (j.Source == g.ID || j.Target == g.ID) }) {
			continue
		}
		m.wg.Go(func() {
			looked, strays, err := m.strays(ctx, g)
			if err == nil && strays >= strayLeast && strays*strayPortion >= looked {
				m.log.Error("keys are at a group that does not own their slots, and no client sees them there: if the data directory was put back from a copy, the copy is older than what the servers have: "+
					"stop the gateway and put the newest topology.db back, before clients write; else look at them with SLOT CHECK",
					zap.String("group", g.ID), zap.String("addr", g.Addr), zap.Int("keys_looked_at", looked), zap.Int("of_slots_of_others", strays))
			}
		})
	}
}

// strays are how many of some keys of a group are of slots that another group owns, and that do not move.
func (m *Manager) strays(ctx context.Context, g topology.Group) (looked, strays int, err error) {
	ctx, cancel := context.WithTimeout(ctx, strayLook)
	defer cancel()
	l, err := link.Dial(ctx, m.dialer, g, m.cfg.CallTimeout)
	if err != nil {
		return 0, 0, err
	}
	defer l.Close()
	search := &orphanSearch{m: m, slots: topology.NewSlotSet([]topology.Range{{First: 0, Last: m.scheme.Slots() - 1}})}
	search.found.Group = g.ID
	scan, err := link.NewScanner(ctx, l, m.cfg.LockHoldTarget, int(m.cfg.ScanCount))
	if err != nil {
		return 0, 0, err
	}
	for cursor := uint64(0); looked < strayNames; {
		names, next, err := scan.Page(ctx, cursor)
		if err != nil {
			return looked, strays, err
		}
		names = slices.DeleteFunc(names, func(n string) bool { return router.Reserved([]byte(n)) })
		looked += len(names)
		strays += len(search.orphans(m.control.State(), names))
		if cursor = next; cursor == 0 {
			break
		}
	}
	return looked, strays, nil
}

// checkUnused refuses a server that another gateway is connected to.
func (m *Manager) checkUnused(ctx context.Context, g topology.Group) error {
	st := m.control.State()
	known, ok := st.Group(g.ID)
	var there []string
	err := m.visit(ctx, g, func(ctx context.Context, l *link.Link) (err error) {
		there, err = m.foreignGateways(ctx, l, ok && known.Addr == g.Addr)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: it does not answer: %w", g.Addr, err)
	}
	if len(there) > 0 {
		return fmt.Errorf("%s is in use by another gateway, %s: two gateways that do not know of each other write to keys that the other one moves; "+
			"stop that gateway first, or remove the group there (GROUP DEL)", g.Addr, strings.Join(there, ", "))
	}
	return nil
}
