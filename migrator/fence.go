package migrator

import (
	"context"
	"fmt"
	"strings"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
)

// What was sent to a server and not answered may still be executed, long after its sender has
// given up or died. Before anything is decided that this could undo, its connection is killed
// at the server.

// There are two kinds of connection that may still have something under way when their sender
// knows nothing of it any more:
//
//	of a fenced gateway       of an incarnation that is not part of the cluster, this gateway's former
//	                          selves among them: all of them are killed before a job touches a key
//	of dialChanger            this process's own, given up without an answer: those that are no
//	                          longer at work are killed before a job brings keys to that server

// fenced says of which connections nothing may come any more: those of gateways that are no part of
// the cluster, and of this gateway's former selves.
func (m *Manager) fenced() func(name string) bool {
	is := m.control.Fenced()
	return func(name string) bool {
		gateway, incarnation, ok := upstream.ParseName(name)
		return ok && is(gateway, incarnation)
	}
}

// fenceOthers kills every connection of fenced gateways at both ends.
func (m *Manager) fenceOthers(ctx context.Context, groups ...topology.Group) error {
	fenced := m.fenced()
	for i, g := range groups {
		if err := m.fenceAt(ctx, g, fenced); err != nil {
			return joberr.At([]string{joberr.Source, joberr.Target}[i], fmt.Errorf("fencing connections of gateways that are no part of the cluster any more: %w", err))
		}
	}
	return nil
}

// fenceAt kills at a server all connections whose name match accepts; nil is proof that none of
// them executes anything any more.
func (m *Manager) fenceAt(ctx context.Context, g topology.Group, match func(name string) bool) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.CallTimeout)
	defer cancel()
	return m.dialer.Fence(ctx, g.Endpoint, m.cfg.CallTimeout, match)
}

// dialChanger connects for what changes keys without a lock: a preflight that purges, and the
// mending of orphans. hangUp must follow.
func (m *Manager) dialChanger(ctx context.Context, g topology.Group) (*link.Link, error) {
	name := m.dialer.Name(link.ForChanges)
	m.mu.Lock()
	m.changers[name] = true
	m.mu.Unlock()
	l, err := link.DialAs(ctx, m.dialer, g, name, m.cfg.CallTimeout)
	if err != nil {
		m.forget(name)
	}
	return l, err
}

func (m *Manager) changerPrefix() string { return m.dialer.Prefix() + link.ForChanges }

// hangUp ends a connection of dialChanger; nil has been ended. Whoever could not wait for an answer
// on it hangs up all the same: from then on it is one to be fenced, and no longer one at work.
func (m *Manager) hangUp(l *link.Link) {
	if l != nil {
		l.Close()
		m.forget(l.Name)
	}
}

func (m *Manager) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.changers, name)
}

// fenceChangers kills at a server what is left of those, and of fenced gateways: an UNLINK of
// theirs that is still on its way would delete what a job is about to bring there.
func (m *Manager) fenceChangers(ctx context.Context, g topology.Group) error {
	fenced, mine := m.fenced(), m.changerPrefix()
	err := m.fenceAt(ctx, g, func(name string) bool {
		if !strings.HasPrefix(name, mine) {
			return fenced(name)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		return !m.changers[name]
	})
	if err != nil {
		return joberr.At(joberr.Target, fmt.Errorf("fencing what was sent to it before: %w", err))
	}
	return nil
}
