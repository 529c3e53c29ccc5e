package keymove

import (
	"context"
	"time"

	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
	"keyferry/slotlock"
)

// Source is one connection to the server that keys go from. One goroutine uses it. After an
// error that is not the server's own answer it is of no use, and what was asked of it may
// have been executed, or may still be until its Name has been fenced.
type Source interface {
	Name() string
	Info() link.Info // as its server was when it was last asked

	// Ask sends UNLINK of some keys of a database and the reads of others, as one exchange.
	Ask(ctx context.Context, unlinks, reads []*Key, object string) error
	Use(ctx context.Context, db int) error // the database of the next Ask
	// HearUnlink hears the one reply to UNLINK, which comes first.
	HearUnlink() error
	// HearRead hears what the source says of one of the reads, in their order. The payload
	// is valid until the next exchange, unless Keep is called before.
	HearRead(k *Key, object string) (Outcome, error)
	Keep()
	// Refresh asks the server once more who it is, which leaves the payloads valid.
	Refresh(ctx context.Context) error
	Close()
}

// Target is one connection to the server that keys go to, and as a Source else.
type Target interface {
	Name() string
	Info() link.Info

	Use(ctx context.Context, db int) error
	// Limit is what the server took at most when it was last asked; Look asks it once more.
	Limit() link.Limit
	Look(ctx context.Context) error
	// Restore sends RESTOREs as one exchange; HearRestore hears the reply to one of them.
	// Behind it the server counts on the mark (see Ledger), unless that is "".
	Restore(ctx context.Context, keys []*Key, now time.Time, mark string) error
	HearRestore() error
	Renew(ctx context.Context) // the exchange has the full time again
	// Exists asks for keys as one exchange; HearExists hears whether there is one of them.
	Exists(ctx context.Context, keys []*Key, mark string) error
	HearExists() (bool, error)
	// HearMark hears the number of the exchange; 0: the server does not count.
	HearMark() (int64, error)
	// Mark reads the mark of a database; 0: there is none.
	Mark(ctx context.Context, mark string, db int) (int64, error)
	// Unlink removes copies from the database in use.
	Unlink(ctx context.Context, keys []*Key) error
	// Acknowledged waits until what this connection has written is as durable as mode asks
	// for, and gives how many servers have it so.
	Acknowledged(ctx context.Context, mode string, patience time.Duration) (int64, error)
	// Touch writes something that changes nothing, under a name that no client has.
	Touch(ctx context.Context, key string) error
	Close()
}

// Env is what the workers of one mover share.
type Env struct {
	Job         string
	SourceLife  string // of the source's data when the job began to move
	Durability  string // what has to be had before the source gives a key up
	BigKeyBytes int64
	CallTimeout time.Duration

	DialSource func(context.Context) (Source, error)
	DialTarget func(context.Context) (Target, error)
	// FenceSource and FenceTarget return nil when the connection of a name can execute nothing
	// any more.
	FenceSource func(ctx context.Context, name string) error
	FenceTarget func(ctx context.Context, name string) error

	// EventsWanted reports that some client listens to keyspace events; EventsHeard returns when those
	// of both ends until now have been told. nil: nobody ever listens.
	EventsWanted func() bool
	EventsHeard  func(context.Context)

	Ledger   *Ledger
	Locks    *slotlock.Table
	Settle   func([]*Key) []*Key // releases those whose Step is final, and returns the others
	Comparer *Comparer
	Listener Listener
}

// Listener hears what workers come by, from all of them at once.
type Listener interface {
	// Sent: RESTOREs of so many bytes are under way; Heard: they are no longer.
	Sent(bytes int)
	Heard(bytes int)
	// Restored: keys of these sizes are at the target, after so long; waited: it was the
	// target that was waited for.
	Restored(sizes []int, took time.Duration, waited bool)
	RestoredKey(k *Key)
	// TooLarge: the target would not take the key, which stays at the source.
	TooLarge(k *Key, most link.Limit)
	DroppedStale()
	Compared(same bool)
	Durable(what string) // what can be had of a target that was just connected to
	Failed(err error)
}

// refused reports whether err is the server's own answer: the command was not executed.
func refused(err error) bool { return joberr.Refused(err) }

func fromSource(err error) error { return joberr.At(joberr.Source, err) }
func fromTarget(err error) error { return joberr.At(joberr.Target, err) }
