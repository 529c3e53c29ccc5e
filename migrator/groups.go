package migrator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"keyferry/internal/topology"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
	"keyferry/migrator/preflight"
)

// What is wrong about a server is found out before it is stored: each of these mistakes would
// otherwise show at the first command of a client, or as keys in the way of the first job.

// tryTimeout bounds the look at one server for an operator who waits.
const tryTimeout = 3 * time.Second

// visit connects to a group's server as everybody here does, and has f ask it.
func (m *Manager) visit(ctx context.Context, g topology.Group, f func(context.Context, *link.Link) error) error {
	bound := min(m.cfg.CallTimeout, tryTimeout)
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	l, err := link.Dial(ctx, m.dialer, g, bound)
	if err != nil {
		return err
	}
	defer l.Close()
	return f(ctx, l)
}

// look reads what a group's server says of itself.
func (m *Manager) look(ctx context.Context, g topology.Group) (info link.Info, err error) {
	err = m.visit(ctx, g, func(_ context.Context, l *link.Link) error {
		info = l.Info
		return nil
	})
	return info, err
}

// CheckPrimary implements control.Migrator. The server has to answer, to take the password, to be
// a primary that serves, no gateway, and neither one of the other groups' nor another gateway's.
func (m *Manager) CheckPrimary(ctx context.Context, g topology.Group, others []topology.Group) error {
	info, err := m.look(ctx, g)
	switch {
	case joberr.OfMissing(err) && !strings.Contains(err.Error(), "PROXY HELP"): // else it is an admin port
		return fmt.Errorf("%s lacks a command that the gateway needs, or has renamed it (rename-command in its configuration): %w", g.Addr, err)
	case joberr.Refused(err) && !joberr.OfPassword(err):
		return fmt.Errorf("%s is no server that a group can have: %w", g.Addr, err)
	case joberr.Refused(err):
		return fmt.Errorf("%s: it does not take the user and password that the group is to have: %w", g.Addr, err)
	case err != nil:
		return fmt.Errorf("%s: it does not answer: %w", g.Addr, err)
	case info.Gateway:
		return fmt.Errorf("%s is a gateway, not a server", g.Addr)
	case info.Role != "master":
		return fmt.Errorf("%s is a %s: a group's address must be its primary", g.Addr, info.Role)
	case info.Cluster && m.databases > 1:
		return fmt.Errorf("%s %s", g.Addr, preflight.ClusterText)
	case info.Loading:
		return fmt.Errorf("%s still loads its data", g.Addr)
	}
	if i := m.sameServer(ctx, info, others); i >= 0 {
		return fmt.Errorf("%s is the same server as that of group %s", g.Addr, preflight.Where(others[i]))
	}
	return m.checkUnused(ctx, g)
}

// looksAtOnce bounds how many servers are asked at the same time.
const looksAtOnce = 16

// sameServer is which of the groups has the server that has said info; -1: none.
//
// Of most of them it is known what they are: from whoever looks at them all the time. That holds if
// they were seen while this server's process was running: were they one, they would have said
// the same run id then. Only the others are asked, and one that is down is no reason to refuse this one.
func (m *Manager) sameServer(ctx context.Context, info link.Info, groups []topology.Group) int {
	begun := time.Now().Add(-time.Duration(info.UptimeS) * time.Second)
	same := make([]bool, len(groups))
	places := make(chan struct{}, looksAtOnce)
	var wg sync.WaitGroup
	for i, g := range groups {
		if m.plane.seen != nil {
			if runID, at := m.plane.seen(g); runID != "" && at.After(begun) {
				same[i] = runID == info.RunID
				continue
			}
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			there, err := m.look(ctx, g)
			same[i] = err == nil && there.RunID == info.RunID
		})
	}
	wg.Wait()
	return slices.Index(same, true)
}

// SetSeen gives the Manager the word of whoever looks at the groups' servers all the time: the run id
// that a group's has said last, and when. Call it before Begin.
func (m *Manager) SetSeen(f func(topology.Group) (runID string, at time.Time)) { m.plane.seen = f }

// RefusalAdvice is what to do about a group's server that refuses a connection.
func RefusalAdvice(group string, err error) string {
	if !joberr.OfPassword(err) {
		return preflight.RefusalAdvice(err)
	}
	return fmt.Sprintf("it does not take the password that the gateway has for it: make the server accept that (CONFIG SET requirepass, or ACL SETUSER), "+
		"or tell the gateway the server's: PROXY GROUP SET %s PASSWORD <password>, or NOPASSWORD if it has none", group)
}

// Unserved implements control.Migrator. Keys in databases that the gateway does not serve are
// reached by no client of it, and moved by no job.
func (m *Manager) Unserved(ctx context.Context, g topology.Group) (string, error) {
	info, err := m.look(ctx, g)
	return info.Unserved(m.databases), err
}
