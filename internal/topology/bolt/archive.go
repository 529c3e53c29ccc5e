package bolt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	"go.etcd.io/bbolt"

	"keyferry/internal/topology"
)

// Export implements topology.Archive. What another version has written and this one can't read is left out of
// checkpoints and histories, as it is by LoadCheckpoint and Events.
func (b *Store) Export(ctx context.Context) (c topology.Contents, err error) {
	if c.State, err = b.Load(ctx); err != nil {
		return topology.Contents{}, err
	}
	err = b.points.View(func(tx *bbolt.Tx) error {
		if err := tx.Bucket(pointBucket).ForEach(func(_, text []byte) error {
			var p topology.Checkpoint
			if json.Unmarshal(bytes.Clone(text), &p) == nil {
				c.Checkpoints = append(c.Checkpoints, p)
			}
			return nil
		}); err != nil {
			return err
		}
		top := tx.Bucket(historyBucket)
		if top == nil {
			return nil
		}
		return top.ForEachBucket(func(job []byte) error {
			return top.Bucket(job).ForEach(func(_, text []byte) error {
				var e topology.JobEvent
				if json.Unmarshal(bytes.Clone(text), &e) == nil {
					c.Events = append(c.Events, e)
				}
				return nil
			})
		})
	})
	return c, own(err)
}

// Import implements topology.Archive. The gateway's own check (see Lost) refuses a copy that was broken off.
func (b *Store) Import(ctx context.Context, c topology.Contents) error {
	if err := c.State.Validate(); err != nil {
		return err
	}
	if _, err := b.Load(ctx); !errors.Is(err, topology.ErrNotFound) {
		if err == nil {
			err = topology.ErrConflict
		}
		return err
	}
	if err := b.points.Update(func(tx *bbolt.Tx) error { return importPoints(tx, &c) }); err != nil {
		return own(err)
	}
	err := b.commit(func(tx *bbolt.Tx) error {
		if _, err := readHead(tx); !errors.Is(err, topology.ErrNotFound) {
			return topology.ErrConflict // another goroutine was faster
		}
		return writeState(tx, &c.State, topology.Difference{Topology: true, Put: c.State.Jobs})
	})
	if err != nil {
		return own(err)
	}
	b.publish(c.State.Clone())
	return nil
}

// importPoints replaces all checkpoints and histories.
func importPoints(tx *bbolt.Tx, c *topology.Contents) error {
	for _, name := range [][]byte{pointBucket, historyBucket} {
		if err := tx.DeleteBucket(name); err != nil && tx.Bucket(name) != nil {
			return err
		}
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	for _, p := range c.Checkpoints {
		if err := write(tx.Bucket(pointBucket), []byte(p.Job), p); err != nil {
			return err
		}
	}
	for _, e := range c.Events {
		of, err := tx.Bucket(historyBucket).CreateBucketIfNotExists([]byte(e.Job))
		if err == nil {
			err = of.SetSequence(max(of.Sequence(), e.Seq))
		}
		if err == nil {
			err = write(of, seqKey(e.Seq), e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
