package topology

import "context"

// Archive is a store that can be copied into another one, of whatever kind.
type Archive interface {
	Store
	// Export reads all that is stored, but for registrations; ErrNotFound when no cluster is.
	Export(ctx context.Context) (Contents, error)
	// Import stores what another store has exported, with its revision and its epoch, or returns
	// ErrConflict when there is a cluster already, which is left as it is. The State comes
	// last, so that a copy that was broken off is no cluster, and can be made again.
	Import(ctx context.Context, c Contents) error
}

// Contents is all that is stored of a cluster.
type Contents struct {
	State       State
	Checkpoints []Checkpoint
	Events      []JobEvent // of all jobs; those of one in the order of their Seq, which they keep
}
