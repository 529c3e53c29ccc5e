package migrator

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"keyferry/migrator/joberr"
	"keyferry/slotlock"
)

// A script may use keys of its slot that it does not name. In slots in which scripts have
// run before, moveWhole sees to it that all keys are on one side. The first script in a slot
// whose keys are moved one by one waits until the mover has moved what is left of them:
//
//	list the slot's keys at the source ─► close the slot ─► let those inside finish
//	─► move what was listed or written since, until the source has none ─► moved
//
// If that breaks off, scripts run there as everything else does, and may miss keys.

// scriptPatience bounds how long a closed slot may take. Commands wait for that ten times as long as
// for a key; so they can bear more than a machine needs that is quiet. To break off is worse than
// to let them wait: scripts there miss keys then.
const scriptPatience = 8 * time.Second

// commandsBear is how many times the deadline for a key commands wait for a slot that is closed.
const commandsBear = 10

// scriptPatience is that, or where they wait less what commands bear: a slot that is closed for
// longer is of use to none of them.
func (m *mover) scriptPatience() time.Duration {
	if m.deadline == nil {
		return scriptPatience
	}
	return min(scriptPatience, commandsBear*m.deadline())
}

// SetWaitDeadline gives the Manager the data plane's word on how long a command waits for a key. Call
// it before Begin.
func (m *Manager) SetWaitDeadline(f func() time.Duration) { m.plane.deadline = f }

// scriptServer is the goroutine that moves slots for scripts. The runner starts and stops it,
// one call at a time.
type scriptServer struct {
	stop context.CancelFunc // nil: it has never been started
	done chan struct{}      // closed when it has ended
}

// serveScripts serves scripts for as long as the mover lives, or until stopServingScripts.
func (m *mover) serveScripts() {
	var ctx context.Context
	ctx, m.scripts.stop = context.WithCancel(m.life)
	m.scripts.done = make(chan struct{})
	m.wg.Go(func() {
		defer close(m.scripts.done)
		m.awaitScripts(ctx)
	})
}

// stopServingScripts returns when no slot is being moved for a script; from here on scripts
// run key by key where they did not before.
func (m *mover) stopServingScripts() {
	if m.scripts.stop != nil {
		m.scripts.stop()
		<-m.scripts.done
	}
	m.whole.Deafen()
}

// resumeServingScripts undoes stopServingScripts, if that was called.
func (m *mover) resumeServingScripts() {
	m.whole.Listen()
	select {
	case <-m.scripts.done:
		m.serveScripts()
	default:
	}
}

// awaitScripts begins only when no command is at the source without a lock, and no connection of a
// former process acts: either could write to a slot while it is emptied.
func (m *mover) awaitScripts(ctx context.Context) {
	if m.whole == nil || m.drained(ctx) != nil {
		return
	}
	select {
	case <-m.fenced.done:
	case <-ctx.Done():
		return
	}
	for {
		select {
		case <-m.whole.Wanted():
		case <-ctx.Done():
			return
		}
		slots := m.whole.TakeWanted()
		if err := m.moveForScripts(ctx, slots); err != nil {
			m.giveUp(slots, err, ctx.Err() != nil)
		}
	}
}

// giveUp opens slots that could not be moved for scripts. If that was stopped, there may be
// another try; else their scripts may miss keys from here on.
func (m *mover) giveUp(slots []int, err error, stopped bool) {
	if !stopped {
		m.note(err)
	}
	for _, s := range slots {
		switch st, _ := m.whole.State(s); {
		case st == slotlock.Moved:
		case stopped:
			m.whole.Set(s, slotlock.PerKey)
		default:
			m.breakUp(s, err)
		}
	}
}

// moveForScripts moves slots one after the other, while each one's scripts wait. A slice does not
// end it: clients are waiting.
func (m *mover) moveForScripts(ctx context.Context, slots []int) error {
	begun := time.Now()
	err := m.inOnePiece(ctx, slots, func() bool { return false }, m.emptySlot)
	if err == nil {
		m.log.Info("slots were moved in one piece for scripts", zap.String("job", m.job), zap.Ints("slots", slots), zap.Duration("in", time.Since(begun)))
	}
	return err
}

// emptySlot moves all keys of a closed slot. Others move some of them at the same time: the
// workers of a pass, and the resolvers those that clients had asked for.
//
// The slot may have been half moved before, and goes on being emptied by others: the pass that is
// under way, and the resolvers. So a key that could not be locked is no failure here; it is asked
// for again until the source has none of them.
func (m *mover) emptySlot(ctx context.Context, p *pool, _ int, keys closedKeys) error {
	ctx, cancel := context.WithTimeout(ctx, m.scriptPatience())
	defer cancel()
	if err := m.settled(ctx, m.source.ID); err != nil {
		return joberr.At(joberr.Source, errors.New("commands of the slot take too long"))
	}
	all, err := keys(ctx)
	if err != nil {
		return err
	}
	t := time.NewTicker(2 * time.Millisecond)
	defer t.Stop()
	for db, keys := range all {
		for {
			if err := p.moveAll(keys); err != nil {
				return err
			}
			err := m.allGone(ctx, db, keys)
			if err == nil {
				break
			}
			select {
			case <-t.C:
			case <-ctx.Done():
				return err
			}
		}
	}
	return nil
}
