package topology

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"
)

// JobEvent is one thing that happened to a job: a line of its history.
type JobEvent struct {
	Job        string    `json:"job"`
	Seq        uint64    `json:"seq"` // from 1, given by the Store
	AtMs       int64     `json:"at_ms"`
	Event      string    `json:"event"` // its name in migrator.Step, or "submitted"
	From       Phase     `json:"from,omitempty"`
	To         Phase     `json:"to"`
	Reason     string    `json:"reason,omitempty"`
	Attempt    int       `json:"attempt,omitempty"`
	First      *JobError `json:"first_error,omitempty"` // of the attempt that failed
	Error      *JobError `json:"error,omitempty"`       // the last of it
	KeysMoved  int64     `json:"keys_moved"`
	BytesMoved int64     `json:"bytes_moved"`
}

// MaxJobEvents bounds the history of one job.
const MaxJobEvents = 500

// historyBucket holds, for each job, a bucket of its events by Seq.
var historyBucket = []byte("history")

func (b *boltStore) AppendEvent(ctx context.Context, e JobEvent) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.Job == "" {
		return fmt.Errorf("%w: event without a job", ErrInvalid)
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
		if e.Seq > MaxJobEvents {
			if err := of.Delete(seqKey(e.Seq - MaxJobEvents)); err != nil {
				return err
			}
		}
		return of.Put(seqKey(e.Seq), text)
	}))
}

func seqKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func (b *boltStore) Events(ctx context.Context, job string) (list []JobEvent, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = b.points.View(func(tx *bbolt.Tx) error {
		of := historyOf(tx, job)
		if of == nil {
			return nil
		}
		return of.ForEach(func(_, text []byte) error {
			var e JobEvent
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

func (b *boltStore) DropEvents(ctx context.Context, job string) error {
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
