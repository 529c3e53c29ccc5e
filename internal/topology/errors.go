package topology

import "errors"

var (
	// ErrConflict is returned when the stored revision is not the one that a change was made on.
	ErrConflict = errors.New("topology: the cluster was changed by somebody else meanwhile")
	// ErrNotFound is returned when no cluster has been stored yet.
	ErrNotFound = errors.New("topology: no cluster has been created")
	// ErrClosed is returned by every call on a Store after its Close.
	ErrClosed = errors.New("topology: the store is closed")
	// ErrInvalid is returned for a State that breaks an invariant; nothing is stored.
	ErrInvalid = errors.New("topology: invalid state")
	// ErrUnchanged is returned by a change that has nothing to do; Update then stores nothing.
	ErrUnchanged = errors.New("topology: unchanged")
	// ErrLocked is returned when another process has the store open.
	ErrLocked = errors.New("topology: the data directory is in use by another keyferry")
)
