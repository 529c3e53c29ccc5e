package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"keyferry/internal/topology"
)

// historyBucket holds, for each job, a bucket of its events by Seq.
var historyBucket = []byte("history")

func (b *Store) AppendEvent(ctx context.Context, e topology.JobEvent) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.Job == "" {
		return fmt.Errorf("%w: event without a job", topology.ErrInvalid)
	}
	return own(b.points.Update(func(tx *bbolt.Tx) error {
		top, err := tx.CreateBucketIfNotExists(historyBucket)
		if err != nil {
			return err
		}
		of, err := top.CreateBucketIfNotExists([]byte(e.Job))
		if err != nil {
			return err
		}
		if e.Seq, err = of.NextSequence(); err != nil {
			return err
		}
		text, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if e.Seq > topology.MaxJobEvents {
			if err := of.Delete(seqKey(e.Seq - topology.MaxJobEvents)); err != nil {
				return err
			}
		}
		return of.Put(seqKey(e.Seq), text)
	}))
}

func seqKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func (b *Store) Events(ctx context.Context, job string) (list []topology.JobEvent, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = b.points.View(func(tx *bbolt.Tx) error {
		of := historyOf(tx, job)
		if of == nil {
			return nil
		}
		return of.ForEach(func(_, text []byte) error {
			var e topology.JobEvent
			if json.Unmarshal(bytes.Clone(text), &e) == nil { // another version's are left out
				list = append(list, e)
			}
			return nil
		})
	})
	return list, own(err)
}

// historyOf is nil when the job has no history.
func historyOf(tx *bbolt.Tx, job string) *bbolt.Bucket {
	if top := tx.Bucket(historyBucket); top != nil {
		return top.Bucket([]byte(job))
	}
	return nil
}

func (b *Store) DropEvents(ctx context.Context, job string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return own(b.points.Update(func(tx *bbolt.Tx) error {
		if historyOf(tx, job) == nil {
			return nil
		}
		return tx.Bucket(historyBucket).DeleteBucket([]byte(job))
	}))
}
