package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyferry/internal/topology"
)

func (s *Store) checkpointKey(job string) string {
	return s.prefix + checkpointsKey + url.PathEscape(job)
}

func (s *Store) SaveCheckpoint(ctx context.Context, c topology.Checkpoint) error {
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
	return s.call(ctx, func(ctx context.Context) error {
		_, err := s.client.Put(ctx, s.checkpointKey(c.Job), string(text))
		return err
	})
}

// LoadCheckpoint takes a checkpoint that it can't read, such as one written by another
// version, for a lost one.
func (s *Store) LoadCheckpoint(ctx context.Context, job string) (c topology.Checkpoint, ok bool, err error) {
	err = s.call(ctx, func(ctx context.Context) error {
		r, err := s.client.Get(ctx, s.checkpointKey(job))
		ok = err == nil && len(r.Kvs) > 0 && json.Unmarshal(r.Kvs[0].Value, &c) == nil
		return err
	})
	if !ok {
		return topology.Checkpoint{}, false, err
	}
	return c, true, nil
}

func (s *Store) DropCheckpoint(ctx context.Context, job string) error {
	return s.call(ctx, func(ctx context.Context) error {
		_, err := s.client.Delete(ctx, s.checkpointKey(job))
		return err
	})
}

// eventsOf begins the keys of a job's events. The slash keeps m1 and m10 apart.
func (s *Store) eventsOf(job string) string { return s.prefix + eventsKey + url.PathEscape(job) + "/" }

// eventKey is in the order of the numbers.
func (s *Store) eventKey(job string, seq uint64) string {
	return fmt.Sprintf("%s%020d", s.eventsOf(job), seq)
}

// AppendEvent takes the number after the last one that there is, again if another gateway took it
// meanwhile.
func (s *Store) AppendEvent(ctx context.Context, e topology.JobEvent) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.Job == "" {
		return fmt.Errorf("%w: event without a job", topology.ErrInvalid)
	}
	return s.call(ctx, func(ctx context.Context) error {
		for {
			last, err := s.lastEvent(ctx, e.Job)
			if err != nil {
				return err
			}
			e.Seq = last + 1
			text, err := json.Marshal(e)
			if err != nil {
				return err
			}
			key := s.eventKey(e.Job, e.Seq)
			ops := []clientv3.Op{clientv3.OpPut(key, string(text))}
			if e.Seq > topology.MaxJobEvents {
				ops = append(ops, clientv3.OpDelete(s.eventKey(e.Job, 0), clientv3.WithRange(s.eventKey(e.Job, e.Seq-topology.MaxJobEvents+1))))
			}
			r, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(ops...).Commit()
			if err != nil || r.Succeeded {
				return err
			}
		}
	})
}

// lastEvent is the number of a job's last event, 0 if there is none.
func (s *Store) lastEvent(ctx context.Context, job string) (uint64, error) {
	dir := s.eventsOf(job)
	r, err := s.client.Get(ctx, dir, clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(1),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	if err != nil || len(r.Kvs) == 0 {
		return 0, err
	}
	key := strings.TrimPrefix(string(r.Kvs[0].Key), dir)
	seq, err := strconv.ParseUint(key, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s%s is no event's key", dir, key)
	}
	return seq, nil
}

func (s *Store) Events(ctx context.Context, job string) (list []topology.JobEvent, err error) {
	err = s.call(ctx, func(ctx context.Context) error {
		r, err := s.client.Get(ctx, s.eventsOf(job), clientv3.WithPrefix())
		if err != nil {
			return err
		}
		for _, kv := range r.Kvs {
			var e topology.JobEvent
			if json.Unmarshal(kv.Value, &e) == nil { // another version's are left out
				list = append(list, e)
			}
		}
		return nil
	})
	return list, err
}

func (s *Store) DropEvents(ctx context.Context, job string) error {
	return s.call(ctx, func(ctx context.Context) error {
		_, err := s.client.Delete(ctx, s.eventsOf(job), clientv3.WithPrefix())
		return err
	})
}

// Lost is an error when no cluster is stored, and jobs of one have left checkpoints or histories: then there
// was one, and it must not be taken for one that has yet to be made.
func (s *Store) Lost(ctx context.Context) error {
	return s.call(ctx, func(ctx context.Context) error {
		v, _, err := s.read(ctx)
		if err != nil || v != nil {
			return err
		}
		for _, dir := range []string{checkpointsKey, eventsKey} {
			r, err := s.client.Get(ctx, s.prefix+dir, clientv3.WithPrefix(), clientv3.WithCountOnly())
			if err != nil {
				return err
			}
			if r.Count > 0 {
				return fmt.Errorf("no cluster is stored below %s, and %s%s shows that there was one: %w", s.prefix, s.prefix, dir, errDamaged)
			}
		}
		return nil
	})
}
