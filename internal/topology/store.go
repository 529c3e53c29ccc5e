package topology

import (
	"context"
	"errors"
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

	// CompareAndSet stores next if and only if old is what is stored, else ErrConflict. old
	// is a State that came from Load or Watch, unchanged, so that its Revision tells; the
	// zero State stands for nothing stored. next must be one that Diff allows; else
	// ErrInvalid, whatever is stored. Topology and jobs change together or not at all. When
	// it returns nil, next is on stable storage. Any other error leaves the outcome open:
	// Load tells, and a State seen so is durable, and watched, at the latest with the next
	// change.
	CompareAndSet(ctx context.Context, old, next State) error

	// Watch delivers the present State at once, if there is one, and then newer ones in
	// the order of their revisions. A slow reader misses those in between but never the
	// newest; it never holds up a writer. The States are the reader's own. The channel is
	// closed when ctx ends or the store is closed; a State may still be in it.
	Watch(ctx context.Context) <-chan State

	// SaveCheckpoint replaces the checkpoint of c.Job. Checkpoints are no part of the State, and a
	// crash may lose them, but what LoadCheckpoint returns was saved exactly so.
	SaveCheckpoint(ctx context.Context, c Checkpoint) error
	// LoadCheckpoint returns a job's checkpoint; false when there is none.
	LoadCheckpoint(ctx context.Context, job string) (Checkpoint, bool, error)
	// DropCheckpoint forgets a job's checkpoint, if there is one.
	DropCheckpoint(ctx context.Context, job string) error

	// AppendEvent adds an event to the history of e.Job and gives it the next Seq; beyond
	// MaxJobEvents the oldest are forgotten. Like checkpoints, events are no part of the State.
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

// Update changes the stored State: it loads, lets change work on a copy, and stores that as
// the next revision, again on a conflict; the epoch rises if the Topology is another. It
// returns the State that is then stored. When change returns ErrUnchanged nothing is stored;
// any other error of change is returned. change may run several times and must have no
// effect but on its argument.
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
		next.follow(&old)
		err = s.CompareAndSet(ctx, old, next)
		if err == nil {
			return next, nil
		}
		if !errors.Is(err, ErrConflict) || try == updateTries {
			return State{}, err
		}
	}
}

// Create stores the first State of a cluster; ErrConflict when there is one already.
func Create(ctx context.Context, s Store, first State) error {
	first.follow(&State{})
	return s.CompareAndSet(ctx, State{}, first)
}
