package topology

import (
	"context"
	"errors"
	"fmt"
)

// Store keeps the State of one cluster and the checkpoints of its jobs. All methods may
// be called from any goroutine. After Close each returns ErrClosed, but for Watch, whose
// channel is closed, and Close itself, which does nothing twice. A call whose ctx has
// ended returns its error.
//
// storetest.Contract checks what is written here, for any implementation.
type Store interface {
	// Load returns what is stored, or ErrNotFound when no cluster has been created. It
	// sees every CompareAndSet that returned before it was called.
	Load(ctx context.Context) (State, error)

	// CompareAndSet stores next if and only if the stored epoch is epoch, where 0 means
	// that nothing is stored; else ErrConflict. next.Epoch must be epoch+1 and next must
	// be valid; else ErrInvalid, whatever is stored. When it returns nil, next is on
	// stable storage. Any other error leaves the outcome open: Load tells, and a State
	// seen so is durable, and watched, at the latest with the next change.
	CompareAndSet(ctx context.Context, epoch uint64, next State) error

	// Watch delivers the present State at once, if there is one, and then newer ones in
	// the order of their epochs. A slow reader misses those in between but never the
	// newest; it never holds up a writer. The States are the reader's own. The channel is
	// closed when ctx ends or the store is closed; a State may still be in it.
	Watch(ctx context.Context) <-chan State

	// SaveCheckpoint replaces the checkpoint of c.Job. Checkpoints have no epoch, and a
	// crash may lose them, but what LoadCheckpoint returns was saved exactly so.
	SaveCheckpoint(ctx context.Context, c Checkpoint) error
	// LoadCheckpoint returns a job's checkpoint; false when there is none.
	LoadCheckpoint(ctx context.Context, job string) (Checkpoint, bool, error)
	// DropCheckpoint forgets a job's checkpoint, if there is one.
	DropCheckpoint(ctx context.Context, job string) error

	// AppendEvent adds an event to the history of e.Job and gives it the next Seq; beyond
	// MaxJobEvents the oldest are forgotten. Like checkpoints, events have no epoch.
	AppendEvent(ctx context.Context, e JobEvent) error
	// Events returns the history of a job, oldest first; empty when there is none.
	Events(ctx context.Context, job string) ([]JobEvent, error)
	// DropEvents forgets the history of a job, if there is one.
	DropEvents(ctx context.Context, job string) error

	// Close ends all watches and lets another process open the store.
	Close() error
}

// updateTries bounds Update; each loss of a race means that somebody else made progress.
const updateTries = 100

// Update changes the stored State: it loads, lets change work on a copy, and stores that
// as the next epoch, again on a conflict. It returns the State that is then stored. When
// change returns ErrUnchanged nothing is stored; any other error of change is returned.
// change may run several times and must have no effect but on its argument.
func Update(ctx context.Context, s Store, change func(*State) error) (State, error) {
	for try := 1; ; try++ {
		old, err := s.Load(ctx)
		if err != nil {
			return State{}, err
		}
		next := old.Clone()
		if err := change(&next); err != nil {
			if errors.Is(err, ErrUnchanged) {
				return old, nil
			}
			return State{}, err
		}
		next.Epoch = old.Epoch + 1
		if err := next.sameCluster(old); err != nil {
			return State{}, err
		}
		err = s.CompareAndSet(ctx, old.Epoch, next)
		if err == nil {
			return next, nil
		}
		if !errors.Is(err, ErrConflict) || try == updateTries {
			return State{}, err
		}
	}
}

// sameCluster refuses a change of what is fixed at creation: with another scheme every
// key would be looked for in another slot than the one that it was put into.
func (s *State) sameCluster(old State) error {
	if s.ClusterID != old.ClusterID || s.Scheme != old.Scheme || s.SlotCount != old.SlotCount {
		return fmt.Errorf("%w: cluster id, scheme and slot count are fixed at creation", ErrInvalid)
	}
	return nil
}
