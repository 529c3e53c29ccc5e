package migrator

import (
	"context"
	"time"

	"keyferry/internal/topology"
	"keyferry/migrator/job"
	"keyferry/migrator/keymove"
	"keyferry/migrator/link"
)

// newEnv is what the mover's workers share. share is of the keys to be compared.
func (m *mover) newEnv(durability string, share float64) *keymove.Env {
	e := &m.ends
	fence := func(g topology.Group) func(context.Context, string) error {
		return func(ctx context.Context, name string) error {
			return link.Fence(ctx, e.dialer, g, name, m.cfg.CallTimeout)
		}
	}
	return &keymove.Env{
		Job: e.job, SourceLife: e.sourceRunID, Durability: durability, BigKeyBytes: m.cfg.BigKeyBytes, CallTimeout: m.cfg.CallTimeout,
		DialSource: func(ctx context.Context) (keymove.Source, error) {
			return keymove.DialSource(ctx, e.dialer, e.source, m.cfg.CallTimeout)
		},
		DialTarget: func(ctx context.Context) (keymove.Target, error) {
			return keymove.DialTarget(ctx, e.dialer, e.target, m.cfg.CallTimeout)
		},
		FenceSource: fence(e.source), FenceTarget: fence(e.target),
		EventsWanted: m.events.Wanted, EventsHeard: func(ctx context.Context) { m.events.Heard(ctx, e.source.ID, e.target.ID) },
		Ledger: m.ledger, Locks: m.locks, Settle: m.settle, Listener: (*listener)(m),
		Comparer: &keymove.Comparer{Share: share, DialSource: m.dialSource, DialTarget: m.dialTarget, Listener: (*listener)(m)},
	}
}

// assurance is what has to be had of a key before the source gives it up. What an operator
// asks for is about the job's target; where keys come home to may have less.
func assurance(j topology.Job) (durability string, share float64) {
	if j.Back {
		return job.DurabilityAuto, j.VerifyShare
	}
	return j.Durability, j.VerifyShare
}

func (m *mover) newWorker() *keymove.Worker { return keymove.NewWorker(m.env) }

// listener is the mover as its workers see it: they tell it what they come by, any number of
// them at once.
type listener mover

func (l *listener) Sent(bytes int) { l.gov.Sent(bytes) }

func (l *listener) Heard(bytes int) { l.gov.Heard(time.Now(), bytes) }

// Restored counts before it tells the governor: whoever reads the numbers sees no key late.
func (l *listener) Restored(sizes []int, took time.Duration, waited bool) {
	bytes := 0
	for _, n := range sizes {
		bytes += n
	}
	l.stats.add(int64(len(sizes)), int64(bytes))
	l.unpaid.Add(int64(bytes))
	l.stats.sized(sizes...)
	if waited {
		l.gov.Restored(time.Now(), took, len(sizes), bytes)
	}
}

func (l *listener) RestoredKey(k *keymove.Key) {
	l.stats.big.note(k)
	l.large.remove(k.Key)
}

func (l *listener) TooLarge(k *keymove.Key, most link.Limit) { l.large.add(k, most) }

func (l *listener) DroppedStale() { l.stats.stale.Add(1) }

func (l *listener) Compared(same bool) {
	if same {
		l.stats.verified.Add(1)
	} else {
		l.stats.differing.Add(1)
	}
}

func (l *listener) Durable(what string) { l.durableNow.Store(&what) }

func (l *listener) Failed(err error) { l.errs.add(err) }
