// Package bolt keeps one cluster in two bbolt files of a data directory: the Store of a
// gateway that is alone.
package bolt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"keyferry/internal/topology"
)

// Store implements topology.Store for a single gateway, which owns it from Open to Close.
//
// There are two files, because a checkpoint must not queue behind the State nor the State
// behind checkpoints. Both are synced with each commit: without that bbolt's pages may
// reach the disk in any order, and a power cut would leave a file that can't be opened,
// where all that is allowed to be lost is the last checkpoint.
type Store struct {
	db     *bbolt.DB
	points *bbolt.DB
	note   noter
	commit func(func(*bbolt.Tx) error) error // db.Update; of a test one that fails as a disk does

	mu       sync.Mutex     // protects what follows; not held across I/O
	newest   topology.State // the newest that is known to be stored; revision 0: none
	watchers map[*watcher]struct{}
	closed   bool
}

type watcher struct {
	ch   chan topology.State // capacity one: the newest State that was not read yet
	stop func() bool         // of the context.AfterFunc that ends it
}

// pointBucket is the one bucket of the checkpoints' file, beside the histories.
var pointBucket = []byte("checkpoints")

// lockWait is how long Open waits for a former process to let go of the files.
const lockWait = time.Second

// Open opens or creates the store in dir, which must exist. ErrLocked when another
// process has it.
func Open(dir string) (*Store, error) {
	state, points := filepath.Join(dir, "topology.db"), filepath.Join(dir, "checkpoints.db")
	if err := checkPresent(state, points); err != nil {
		return nil, err
	}
	if err := makeFile(state, stateBucket, jobBucket); err != nil {
		return nil, err
	}
	db, err := openFile(state, stateBucket, jobBucket)
	if err != nil {
		return nil, err
	}
	b := &Store{db: db, commit: db.Update, watchers: make(map[*watcher]struct{})}
	if err = db.Update(convert); err == nil {
		b.points, err = openPoints(points)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err == nil {
		b.newest, err = b.Load(context.Background())
	}
	if err == nil {
		err = b.checkSeen()
	}
	if err != nil && !errors.Is(err, topology.ErrNotFound) {
		_ = b.Close()
		return nil, err
	}
	b.startNoting()
	return b, nil
}

// Lost is an error when no cluster is stored, and jobs of one have left checkpoints or histories: then
// there was one, and it must not be taken for one that has yet to be made.
func (b *Store) Lost(ctx context.Context) error {
	if _, err := b.Load(ctx); !errors.Is(err, topology.ErrNotFound) {
		return nil
	}
	has := false
	_ = b.points.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error {
			k, _ := bucket.Cursor().First()
			has = has || k != nil
			return nil
		})
	})
	if !has {
		return nil
	}
	return fmt.Errorf("topology: %s has no cluster in it, and %s shows that there was one: %s: %s", b.db.Path(), b.points.Path(), unknownSlots, putBack)
}

// makeFile makes a file that is not there, under another name until it is whole: a process that dies
// meanwhile leaves none that looks as if it had lost what was in it.
func makeFile(path string, buckets ...[]byte) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	half := path + ".new"
	if err := os.Remove(half); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("topology: %w", err)
	}
	db, err := openFile(half, buckets...)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return fmt.Errorf("topology: %s: %w", half, err)
	}
	// Not over one that another process has made and opened meanwhile.
	if err := os.Link(half, path); err != nil && !errors.Is(err, os.ErrExist) {
		return os.Rename(half, path) // a file system without links
	}
	return os.Remove(half)
}

func openFile(path string, buckets ...[]byte) (*bbolt.DB, error) {
	if err := checkPages(path); err != nil {
		return nil, fmt.Errorf("topology: open %s: %w", path, err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, NoFreelistSync: true})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%w (%s)", topology.ErrLocked, path)
	}
	if err != nil {
		return nil, fmt.Errorf("topology: open %s: %w", path, err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("topology: %s: %w", path, err)
	}
	return db, nil
}

// openPoints begins anew when the file is damaged: checkpoints save time and nothing else,
// and a gateway that does not start for want of them would be the worse loss.
func openPoints(path string) (*bbolt.DB, error) {
	db, err := openFile(path, pointBucket)
	if err == nil || errors.Is(err, topology.ErrLocked) || errors.Is(err, os.ErrPermission) {
		return db, err
	}
	if err := os.Remove(path); err != nil {
		return nil, fmt.Errorf("topology: damaged checkpoints: %w", err)
	}
	return openFile(path, pointBucket)
}

// syncDir makes the files' names durable; bbolt syncs only what is in them.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("topology: %w", err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("topology: sync %s: %w", dir, err)
	}
	return nil
}

// own turns bbolt's error for a closed file into the Store's.
func own(err error) error {
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return topology.ErrClosed
	}
	return err
}

func (b *Store) Load(ctx context.Context) (topology.State, error) {
	if err := ctx.Err(); err != nil {
		return topology.State{}, err
	}
	var s topology.State
	err := b.db.View(func(tx *bbolt.Tx) (err error) { s, err = readState(tx); return err })
	if err != nil {
		return topology.State{}, own(err)
	}
	return s, nil
}

func (b *Store) CompareAndSet(ctx context.Context, old, next topology.State) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := topology.Diff(&old, &next)
	if err != nil {
		return err
	}
	refused := false // by us, and not by the disk
	err = b.commit(func(tx *bbolt.Tx) error {
		refused = true
		have, err := readHead(tx)
		if err != nil && !errors.Is(err, topology.ErrNotFound) {
			return err
		}
		if have.Revision != old.Revision {
			return topology.ErrConflict
		}
		if err := writeState(tx, &next, d); err != nil {
			return err
		}
		refused = false
		return nil
	})
	if err != nil && !refused {
		err = b.outcome(&next, err)
	}
	if err != nil {
		return own(err)
	}
	b.publish(next.Clone())
	return nil
}

// outcome says what became of a commit that has failed. The page that makes a commit valid is
// written before it is synced: when the disk fails in between, what is stored is the new State, and
// whoever was told that nothing happened would be told otherwise by the next look.
//
// An empty commit writes that page once more. If the disk takes it, next is as durable as if the
// first try had succeeded: all that it refers to had been synced before.
func (b *Store) outcome(next *topology.State, failed error) error {
	var have topology.State
	err := b.db.View(func(tx *bbolt.Tx) (err error) { have, err = readState(tx); return err })
	switch {
	case errors.Is(err, topology.ErrNotFound), err == nil && !same(&have, next):
		return fmt.Errorf("nothing has been stored: %w", failed)
	case err != nil:
		return fmt.Errorf("whether it has been stored can't be told (%w): %w", err, failed)
	}
	if err := b.commit(func(*bbolt.Tx) error { return nil }); err != nil {
		return fmt.Errorf("it has been written, takes effect with the next change, and is lost if the machine fails before that: %w", failed)
	}
	return nil
}

// same compares States as they are stored.
func same(a, b *topology.State) bool {
	x, err := json.Marshal(a)
	y, e := json.Marshal(b)
	return err == nil && e == nil && bytes.Equal(x, y)
}

// publish tells the watchers of a State that is stored. bbolt lets one writer in at a
// time, but two that have left may come here in either order:
//
//	writer 1   stores revision 7                            publishes 7: not newer, dropped
//	writer 2                    stores 8     publishes 8
func (b *Store) publish(s topology.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || s.Revision <= b.newest.Revision {
		return
	}
	b.newest = s
	for w := range b.watchers {
		select { // an older State that nobody has read gives way
		case <-w.ch:
		default:
		}
		w.ch <- s.Clone() // there is room: only holders of mu send
	}
	b.note.ring()
}

func (b *Store) Watch(ctx context.Context) <-chan topology.State {
	w := &watcher{ch: make(chan topology.State, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		close(w.ch)
		return w.ch
	}
	if b.newest.Revision > 0 {
		w.ch <- b.newest.Clone()
	}
	b.watchers[w] = struct{}{}
	w.stop = context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.end(w)
	})
	return w.ch
}

// end closes a watch, once. mu is held.
func (b *Store) end(w *watcher) {
	if _, ok := b.watchers[w]; ok {
		delete(b.watchers, w)
		close(w.ch)
		w.stop()
	}
}

func (b *Store) SaveCheckpoint(ctx context.Context, c topology.Checkpoint) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.Job == "" {
		return fmt.Errorf("%w: checkpoint without a job", topology.ErrInvalid)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return own(b.points.Update(func(tx *bbolt.Tx) error { return tx.Bucket(pointBucket).Put([]byte(c.Job), text) }))
}

// LoadCheckpoint takes a checkpoint that it can't read, such as one written by another
// version, for a lost one.
func (b *Store) LoadCheckpoint(ctx context.Context, job string) (c topology.Checkpoint, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return topology.Checkpoint{}, false, err
	}
	err = b.points.View(func(tx *bbolt.Tx) error {
		text := tx.Bucket(pointBucket).Get([]byte(job))
		ok = text != nil && json.Unmarshal(text, &c) == nil
		return nil
	})
	if err != nil || !ok {
		return topology.Checkpoint{}, false, own(err)
	}
	return c, true, nil
}

func (b *Store) DropCheckpoint(ctx context.Context, job string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return own(b.points.Update(func(tx *bbolt.Tx) error { return tx.Bucket(pointBucket).Delete([]byte(job)) }))
}

func (b *Store) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	for w := range b.watchers {
		b.end(w)
	}
	b.mu.Unlock()
	if b.note.stop != nil { // nil when Open gave up half-way
		close(b.note.stop)
		b.note.wg.Wait()
	}
	err := b.db.Close()
	if b.points != nil { // nil when Open gave up half-way
		err = errors.Join(err, b.points.Close())
	}
	return err
}
