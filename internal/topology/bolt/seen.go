package bolt

import (
	"fmt"
	"strconv"
	"sync"

	"go.etcd.io/bbolt"
)

// The revision of the State is noted in the other file as well, a moment after it is stored: a
// topology.db that is older than that is a copy from before, or one whose newest head page is damaged, for
// which bbolt takes the one before. What was stored last before a crash may not be noted yet.

var (
	seenBucket  = []byte("seen")
	revisionKey = []byte("revision")
)

// noter writes the note, so that nobody who changes the State waits for it.
type noter struct {
	bell chan struct{} // capacity 1: there is a newer revision
	stop chan struct{} // closed by Close
	wg   sync.WaitGroup
}

func (b *Store) startNoting() {
	b.note.bell, b.note.stop = make(chan struct{}, 1), make(chan struct{})
	b.note.wg.Go(func() {
		for {
			select {
			case <-b.note.bell:
				b.writeNote()
			case <-b.note.stop:
				b.writeNote() // of what came last
				return
			}
		}
	})
}

// ring never waits.
func (n *noter) ring() {
	select {
	case n.bell <- struct{}{}:
	default:
	}
}

// writeNote tells nobody of an error: the note that stands is older, and refuses less.
func (b *Store) writeNote() {
	b.mu.Lock()
	revision := b.newest.Revision
	b.mu.Unlock()
	if revision == 0 {
		return
	}
	_ = b.points.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(seenBucket)
		if err != nil {
			return err
		}
		return bucket.Put(revisionKey, strconv.AppendUint(nil, revision, 10))
	})
}

// checkSeen refuses a State that is older than the note.
func (b *Store) checkSeen() error {
	var seen uint64
	_ = b.points.View(func(tx *bbolt.Tx) error {
		if bucket := tx.Bucket(seenBucket); bucket != nil {
			seen, _ = strconv.ParseUint(string(bucket.Get(revisionKey)), 10, 64)
		}
		return nil
	})
	if seen <= b.newest.Revision {
		return nil
	}
	return fmt.Errorf("topology: %s is older than what this gateway has served: it has revision %d, and %s has seen revision %d; slots may have moved since: "+
		"put the newest copy of topology.db back. If this is the newest: remove checkpoints.db, start, and look for keys in the wrong place with SLOT CHECK",
		b.db.Path(), b.newest.Revision, b.points.Path(), seen)
}
