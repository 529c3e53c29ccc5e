package migrator

import (
	"context"
	"errors"
	"sync"

	"keyferry/migrator/flow"
)

// enterGate waits while the gate is shut.
func enterGate(ctx context.Context, g *flow.Gate) error {
	for {
		open := g.Enter()
		if open == nil {
			return nil
		}
		select {
		case <-open:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// shutGate waits until nobody is inside. On an error the gate is open again.
func shutGate(ctx context.Context, g *flow.Gate) error {
	empty := g.Shut()
	if empty == nil {
		return nil
	}
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		g.Reopen()
		return ctx.Err()
	}
}

// takePlaces waits for a place at both groups.
func takePlaces(ctx context.Context, p *flow.Places, a, b string) (giveBack func(), err error) {
	a, b = flow.Order(a, b)
	first := p.Ask(a)
	if err := hold(ctx, first); err != nil {
		return nil, err
	}
	second := p.Ask(b)
	if err := hold(ctx, second); err != nil {
		first.GiveBack()
		return nil, err
	}
	return func() { second.GiveBack(); first.GiveBack() }, nil
}

// hold waits for a place that was asked for; on an error it has been given back.
func hold(ctx context.Context, p *flow.Place) error {
	select {
	case <-p.Held():
		return nil
	case <-ctx.Done():
		p.GiveBack()
		return ctx.Err()
	}
}

var errInDoubt = errors.New("keys are in doubt: an end of the move does not answer")

// Quiesce stops every mover between two batches and returns when none is under way; resume
// lets them go on and must be called. Errors: ctx ended, or the place of some key is not
// known at the moment.
//
// Those of other gateways stand still as well. Who calls it may remove keys, the gateways' own among
// them.
func (m *Manager) Quiesce(ctx context.Context) (resume func(), err error) {
	return m.quiesceAll(ctx, m.quiesceToEmpty, methodEmpty)
}

// quiesceAll stops the movers of this gateway by own, and those of the others by a method.
func (m *Manager) quiesceAll(ctx context.Context, own func(context.Context) (func(), error), method string) (resume func(), err error) {
	mine, err := own(ctx)
	if err != nil {
		return nil, err
	}
	others, err := m.quiesceOthers(ctx, method)
	if err != nil {
		mine()
		return nil, err
	}
	return func() { others(); mine() }, nil
}

// quiesceToEmpty is Quiesce for the movers of this gateway.
func (m *Manager) quiesceToEmpty(ctx context.Context) (resume func(), err error) {
	reopen, err := m.quiesce(ctx)
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { m.renewMarks(); reopen() }), nil
}

// quiesce stops the movers of this gateway for who leaves its own keys alone. resume may be called once.
func (m *Manager) quiesce(ctx context.Context) (resume func(), err error) {
	if err := shutGate(ctx, &m.gate); err != nil {
		return nil, err
	}
	m.mu.Lock()
	doubt := 0
	for _, lj := range m.jobs {
		if r := lj.runner; r != nil && r.mover != nil {
			doubt += len(r.mover.open.inDoubt())
		}
	}
	m.mu.Unlock()
	if doubt > 0 {
		m.gate.Reopen()
		return nil, errInDoubt
	}
	return m.gate.Reopen, nil
}
