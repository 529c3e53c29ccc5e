package topology

import (
	"context"
	"errors"
)

// Store keeps the State of one cluster and the checkpoints of its jobs. The contract,
// which contract_test.go checks for every implementation:
//
//   - CompareAndSet stores next, whose epoch must be epoch+1, if and only if the stored
//     epoch is epoch (0: nothing is stored). It is durable when it returns nil. An error
//     other than ErrConflict and ErrInvalid leaves the outcome open: Load tells.
//   - Watch delivers the present State at once and then newer ones, in the order of their
//     epochs. A slow reader misses those in between, never the newest. It never holds up
//     a writer. The channel is closed when ctx ends or the store is closed.
//   - Checkpoints have no epoch, and the last ones may be lost in a crash.
type Store interface {
	Load(ctx context.Context) (State, error) // ErrNotFound
	CompareAndSet(ctx context.Context, epoch uint64, next State) error
	Watch(ctx context.Context) <-chan State
	SaveCheckpoint(ctx context.Context, c Checkpoint) error
	LoadCheckpoint(ctx context.Context, job string) (Checkpoint, bool, error)
	DropCheckpoint(ctx context.Context, job string) error
	Close() error
}

// updateTries bounds Update; each loss of a race means that somebody else made progress.
const updateTries = 100

// Update changes the stored State: it loads, lets change work on a copy, and stores that
// as the next epoch, again on a conflict. It returns the State that is then stored. When
// change returns ErrUnchanged nothing is stored; any other error of change is returned.
func Update(ctx context.Context, s Store, change func(*State) error) (State, error) {
	for try := 0; ; try++ {
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
		err = s.CompareAndSet(ctx, old.Epoch, next)
		if err == nil {
			return next, nil
		}
		if !errors.Is(err, ErrConflict) || try == updateTries {
			return State{}, err
		}
	}
}
