package bolt

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// errDamaged is what a file is that can't be read, or is not what was written. It is also what becomes
// of a panic of bbolt's over a page that can't be one.
var errDamaged = errors.New("the file is damaged: " + putBack)

// putBack is what to do about a topology.db that can't be gone by.
const putBack = "put the newest sound copy of topology.db back and start again. Without a copy: move the data directory's files away, " +
	"start, add the groups, assign the slots to the groups that have their keys, and look with SLOT CHECK"

const unknownSlots = "it is not known which server has which slot, and nothing is served"

// checkPresent refuses to take what a data directory has lost for a cluster that has yet to be made: the
// gateway would come up with no slots at all, or with those of whoever sets it up again in haste.
func checkPresent(state, points string) error {
	info, err := os.Stat(state)
	switch {
	case err == nil && info.Size() == 0:
		return fmt.Errorf("topology: %s is empty (0 bytes): %s: %s", state, unknownSlots, putBack)
	case !errors.Is(err, os.ErrNotExist):
		return nil // there, or nothing can be said: opening it will tell
	}
	if _, err := os.Stat(points); err == nil {
		return fmt.Errorf("topology: %s is missing, and %s shows that there was one: %s: %s", state, points, unknownSlots, putBack)
	}
	return nil
}

// checkPages reads a file to its last page, because bbolt panics when it meets a damaged one,
// on opening it for writing even in a goroutine of its own. Whatever else is wrong with the
// file is said when it is opened.
func checkPages(path string) (err error) {
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		return nil
	}
	if err := walkPages(path); err != nil {
		return err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if err != nil {
		return nil
	}
	defer func() { _ = db.Close() }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // pages beyond the end of a file that was cut off
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return readBucket(b) })
	})
}

func readBucket(b *bbolt.Bucket) error {
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return readBucket(b.Bucket(k))
		}
		return nil
	})
}
