package bolt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc64"

	"go.etcd.io/bbolt"

	"keyferry/internal/topology"
)

// What topology.db holds. All of it changes in one transaction, and a change writes only
// the values that differ:
//
//	bucket state   cluster    head: the revision
//	               topology   topology.Topology
//	bucket jobs    <id>       topology.Job, one each
//
// Before format 2 the key "cluster" had everything, as one State with one epoch (see convert).
// It still names the head, so that a keyferry from before refuses the file instead of
// taking it for an empty one.
var (
	stateBucket = []byte("state")
	headKey     = []byte("cluster")
	routingKey  = []byte("topology")
	jobBucket   = []byte("jobs")
)

// format is that of the files that this version writes.
const format = 2

// head is what says which State is stored. Revision is what CompareAndSet compares.
type head struct {
	Format   int    `json:"format"`
	Revision uint64 `json:"revision"`
	NextJob  uint64 `json:"next_job"`
	Sum      string `json:"sum,omitempty"` // of all that is stored (see sum); "": written before there was one
}

// sum is the checksum of the State: of the head, and of every other value under its name. A page that
// has been damaged, or is of another time than the rest, is noticed by it. It is no secret.
func sum(tx *bbolt.Tx, h head) string {
	h.Sum = ""
	text, _ := json.Marshal(h) // numbers
	x := crc64.Checksum(text, sumTable)
	for _, name := range [][]byte{stateBucket, jobBucket} {
		_ = tx.Bucket(name).ForEach(func(k, v []byte) error {
			if bytes.Equal(name, stateBucket) && bytes.Equal(k, headKey) {
				return nil
			}
			for _, part := range [][]byte{name, k, {0}, v, {0}} {
				x = crc64.Update(x, sumTable, part)
			}
			return nil
		})
	}
	return fmt.Sprintf("%016x", x)
}

var sumTable = crc64.MakeTable(crc64.ECMA)

// readHead returns topology.ErrNotFound when no cluster is stored.
func readHead(tx *bbolt.Tx) (h head, err error) {
	text := tx.Bucket(stateBucket).Get(headKey)
	if text == nil {
		return head{}, topology.ErrNotFound
	}
	if err := read(text, &h); err != nil {
		return head{}, err
	}
	if h.Format > format {
		return head{}, fmt.Errorf("topology: the data directory was written by a newer keyferry (format %d, this one knows %d): use that one, or an older copy of the directory", h.Format, format)
	}
	return h, nil
}

func readState(tx *bbolt.Tx) (s topology.State, err error) {
	h, err := readHead(tx)
	if err != nil {
		return s, err
	}
	s.Revision, s.NextJob = h.Revision, h.NextJob
	text := tx.Bucket(stateBucket).Get(routingKey)
	if text == nil {
		return s, fmt.Errorf("topology: stored state: no topology: %w", errDamaged)
	}
	if err := read(text, &s.Topology); err != nil {
		return s, err
	}
	err = tx.Bucket(jobBucket).ForEach(func(_, text []byte) error {
		var j topology.Job
		if err := read(text, &j); err != nil {
			return err
		}
		s.Jobs = append(s.Jobs, j)
		return nil
	})
	if err == nil && h.Sum != "" && h.Sum != sum(tx, h) {
		err = fmt.Errorf("topology: stored state: wrong checksum: %w", errDamaged)
	}
	topology.SortJobs(s.Jobs)
	return s, err
}

// writeState writes what of next differs from what is stored.
func writeState(tx *bbolt.Tx, next *topology.State, d topology.Difference) error {
	state, jobs := tx.Bucket(stateBucket), tx.Bucket(jobBucket)
	for _, j := range d.Put {
		if err := write(jobs, []byte(j.ID), j); err != nil {
			return err
		}
	}
	for _, id := range d.Drop {
		if err := jobs.Delete([]byte(id)); err != nil {
			return err
		}
	}
	if d.Topology {
		if err := write(state, routingKey, next.Topology); err != nil {
			return err
		}
	}
	return writeHead(tx, head{Format: format, Revision: next.Revision, NextJob: next.NextJob})
}

// writeHead comes last: it has the checksum of all else.
func writeHead(tx *bbolt.Tx, h head) error {
	h.Sum = sum(tx, h)
	return write(tx.Bucket(stateBucket), headKey, h)
}

func read(text []byte, v any) error {
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("topology: stored state: %w: %w", errDamaged, err)
	}
	return nil
}

func write(b *bbolt.Bucket, key []byte, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%w: %w", topology.ErrInvalid, err)
	}
	return b.Put(key, text)
}
