package topology

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// boltStore is the Store of a single gateway: one bbolt file for the State, synced on
// every change, and one for checkpoints, which isn't.
type boltStore struct {
	db     *bbolt.DB
	points *bbolt.DB

	mu       sync.Mutex // protects what follows; also makes CompareAndSet and its news one step
	watchers map[chan State]struct{}
	closed   bool
}

var (
	stateBucket = []byte("state")
	stateKey    = []byte("cluster")
	pointBucket = []byte("checkpoints")
)

// OpenBolt opens or creates the store in dir. ErrLocked when another process has it.
func OpenBolt(dir string) (Store, error) {
	db, err := openBoltFile(dir+"/topology.db", false, stateBucket)
	if err != nil {
		return nil, err
	}
	points, err := openBoltFile(dir+"/checkpoints.db", true, pointBucket)
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return &boltStore{db: db, points: points, watchers: make(map[chan State]struct{})}, nil
}

func openBoltFile(path string, noSync bool, bucket []byte) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, NoSync: noSync, NoFreelistSync: true})
	if errors.Is(err, bbolt.ErrTimeout) {
		return nil, fmt.Errorf("%w (%s)", ErrLocked, path)
	}
	if err != nil {
		return nil, fmt.Errorf("topology: open %s: %w", path, err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	}); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("topology: %s: %w", path, err)
	}
	return db, nil
}

func (b *boltStore) Load(ctx context.Context) (State, error) {
	if err := ctx.Err(); err != nil {
		return State{}, err
	}
	var s State
	err := b.db.View(func(tx *bbolt.Tx) error { return decodeState(tx, &s) })
	return s, err
}

func decodeState(tx *bbolt.Tx, s *State) error {
	v := tx.Bucket(stateBucket).Get(stateKey)
	if v == nil {
		return ErrNotFound
	}
	return json.Unmarshal(v, s)
}

func (b *boltStore) CompareAndSet(ctx context.Context, epoch uint64, next State) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if next.Epoch != epoch+1 {
		return fmt.Errorf("%w: epoch %d does not follow %d", ErrInvalid, next.Epoch, epoch)
	}
	if err := next.Validate(); err != nil {
		return err
	}
	v, err := json.Marshal(next)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	err = b.db.Update(func(tx *bbolt.Tx) error {
		var have State
		if err := decodeState(tx, &have); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if have.Epoch != epoch {
			return ErrConflict
		}
		return tx.Bucket(stateBucket).Put(stateKey, v)
	})
	if err != nil {
		return err
	}
	for ch := range b.watchers {
		replace(ch, next.Clone())
	}
	return nil
}

// replace puts the newest State into a channel of capacity one, in place of an older one
// that nobody has read. Only one goroutine sends (mu is held).
func replace(ch chan State, s State) {
	select {
	case <-ch:
	default:
	}
	ch <- s
}

func (b *boltStore) Watch(ctx context.Context) <-chan State {
	ch := make(chan State, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		close(ch)
		return ch
	}
	if s, err := b.Load(ctx); err == nil {
		ch <- s
	}
	b.watchers[ch] = struct{}{}
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.drop(ch)
	})
	return ch
}

func (b *boltStore) drop(ch chan State) {
	if _, ok := b.watchers[ch]; ok {
		delete(b.watchers, ch)
		close(ch)
	}
}

func (b *boltStore) SaveCheckpoint(ctx context.Context, c Checkpoint) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	v, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return b.points.Update(func(tx *bbolt.Tx) error { return tx.Bucket(pointBucket).Put([]byte(c.Job), v) })
}

func (b *boltStore) LoadCheckpoint(ctx context.Context, job string) (c Checkpoint, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return c, false, err
	}
	err = b.points.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(pointBucket).Get([]byte(job))
		if v == nil {
			return nil
		}
		ok = true
		return json.Unmarshal(v, &c)
	})
	return c, ok, err
}

func (b *boltStore) DropCheckpoint(ctx context.Context, job string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.points.Update(func(tx *bbolt.Tx) error { return tx.Bucket(pointBucket).Delete([]byte(job)) })
}

func (b *boltStore) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	for ch := range b.watchers {
		b.drop(ch)
	}
	b.mu.Unlock()
	return errors.Join(b.db.Close(), b.points.Close())
}
