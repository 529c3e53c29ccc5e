package etcd

import (
	"context"
	"encoding/json"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyferry/internal/topology"
)

// Bounds of one request of a copy, which has as many as it needs.
const (
	exportKeys  = 1000
	importOps   = 100
	importBytes = 512 << 10
)

// Export implements topology.Archive: all of it is of one revision of etcd. What another version has written and
// this one can't read is left out of checkpoints and histories, as it is by LoadCheckpoint and Events.
func (s *Store) Export(ctx context.Context) (c topology.Contents, err error) {
	at := int64(0)
	if err := s.call(ctx, func(ctx context.Context) error {
		v, now, err := s.read(ctx)
		if err != nil {
			return err
		}
		at = now
		c.State, err = v.state()
		return err
	}); err != nil {
		return topology.Contents{}, err
	}
	err = s.each(ctx, checkpointsKey, at, func(value []byte) {
		var p topology.Checkpoint
		if json.Unmarshal(value, &p) == nil {
			c.Checkpoints = append(c.Checkpoints, p)
		}
	})
	if err == nil {
		err = s.each(ctx, eventsKey, at, func(value []byte) {
			var e topology.JobEvent
			if json.Unmarshal(value, &e) == nil {
				c.Events = append(c.Events, e)
			}
		})
	}
	return c, err
}

// each visits the values below a key, as they were at a revision of etcd, in the order of their keys.
func (s *Store) each(ctx context.Context, below string, at int64, visit func(value []byte)) error {
	dir := s.prefix + below
	for from, more := dir, true; more; {
		if err := s.call(ctx, func(ctx context.Context) error {
			r, err := s.client.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(dir)), clientv3.WithRev(at), clientv3.WithLimit(exportKeys))
			if err != nil {
				return err
			}
			for _, kv := range r.Kvs {
				visit(kv.Value)
				from = string(kv.Key) + "\x00"
			}
			more = r.More
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// Import implements topology.Archive. What a copy that was broken off has left is removed first; a gateway
// refuses to start on that (see Lost).
func (s *Store) Import(ctx context.Context, c topology.Contents) error {
	if err := c.State.Validate(); err != nil {
		return err
	}
	sums := make(map[string]string)
	parts, err := writes(&c.State, topology.Difference{Topology: true, Put: c.State.Jobs}, sums)
	if err != nil {
		return err
	}
	b := batch{s: s, ctx: ctx}
	for _, below := range []string{stateKey, checkpointsKey, eventsKey} {
		b.add(clientv3.OpDelete(s.prefix+below, clientv3.WithPrefix()), 0)
	}
	b.flush() // no transaction may write what it removes
	for _, p := range c.Checkpoints {
		b.put(s.checkpointKey(p.Job), p)
	}
	for _, e := range c.Events {
		b.put(s.eventKey(e.Job, e.Seq), e)
	}
	for _, w := range parts {
		b.add(clientv3.OpPut(s.prefix+stateKey+w.name, string(w.value)), len(w.value))
	}
	b.flush()
	b.put(s.headKey(), head{Format: format, Revision: c.State.Revision, NextJob: c.State.NextJob, By: s.self + ".import", Sums: sums})
	b.flush()
	return b.err
}

// batch gathers writes into transactions, each of which is made only while there is no cluster.
type batch struct {
	s   *Store
	ctx context.Context // of the call that it lives for
	ops []clientv3.Op
	n   int   // bytes
	err error // the first; nothing is done after it
}

func (b *batch) put(key string, v any) {
	text, err := json.Marshal(v)
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("%w: %w", topology.ErrInvalid, err)
	}
	b.add(clientv3.OpPut(key, string(text)), len(text))
}

func (b *batch) add(op clientv3.Op, bytes int) {
	if len(b.ops) == importOps || b.n+bytes > importBytes {
		b.flush()
	}
	b.ops, b.n = append(b.ops, op), b.n+bytes
}

func (b *batch) flush() {
	ops := b.ops
	b.ops, b.n = nil, 0
	if b.err != nil || len(ops) == 0 {
		return
	}
	b.err = b.s.call(b.ctx, func(ctx context.Context) error {
		r, err := b.s.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(b.s.headKey()), "=", 0)).Then(ops...).Commit()
		if err == nil && !r.Succeeded {
			return topology.ErrConflict
		}
		return err
	})
}
