package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keyferry/internal/topology"
)

func (s *Store) Load(ctx context.Context) (st topology.State, err error) {
	err = s.call(ctx, func(ctx context.Context) error {
		if s.inDoubt() {
			if _, _, err := s.settle(ctx); err != nil {
				return err
			}
		}
		v, _, err := s.read(ctx)
		if err != nil {
			return err
		}
		st, err = v.state()
		return err
	})
	return st, err
}

// read reads what is stored, nil if there is no cluster, and etcd's revision at which it is so. Only what
// has changed since the last time is transferred, in one request.
func (s *Store) read(ctx context.Context) (*view, int64, error) {
	s.mu.Lock()
	old := s.seen
	s.mu.Unlock()
	v, at, err := s.readSince(ctx, old)
	if errors.Is(err, errDamaged) && old != nil {
		v, at, err = s.readSince(ctx, nil) // parts that have gone are no changes
	}
	if err != nil {
		return nil, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v != nil && (s.seen == nil || v.mod > s.seen.mod) {
		s.seen = v
	}
	s.seenAt = max(s.seenAt, at)
	return v, at, nil
}

func (s *Store) readSince(ctx context.Context, old *view) (*view, int64, error) {
	dir := s.prefix + stateKey
	opts := []clientv3.OpOption{clientv3.WithPrefix()}
	if old != nil {
		opts = append(opts, clientv3.WithMinModRev(old.mod+1))
	}
	s.mu.Lock()
	before := s.seenAt
	s.mu.Unlock()
	r, err := s.client.Get(ctx, dir, opts...)
	if err != nil {
		return nil, 0, err
	}
	if err := s.checkSame(r.Header, before); err != nil {
		return nil, 0, err
	}
	switch at := r.Header.Revision; {
	case r.Count == 0 && old == nil:
		return nil, at, nil
	case len(r.Kvs) == 0 && old != nil && r.Count == int64(len(old.parts)+1):
		return old, at, nil
	default:
		v, err := merge(old, dir, r.Kvs)
		return v, at, err
	}
}

// checkSame refuses an etcd that is not the one of before: with a snapshot that was put back, or none,
// the slot map is of another time, and what is asked for by revision may never come.
func (s *Store) checkSame(h *etcdserverpb.ResponseHeader, before int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == 0 {
		s.cluster = h.ClusterId
	}
	if h.ClusterId != s.cluster || h.Revision < before {
		return errors.New("this is not the etcd of before, or it has been set back while the gateway ran: slots may have moved since. " +
			"If it is meant to be so, restart the gateway, and look for keys in the wrong place with SLOT CHECK")
	}
	return nil
}

// CompareAndSet is one transaction, guarded by etcd's revision of the head that has old's revision.
func (s *Store) CompareAndSet(ctx context.Context, old, next topology.State) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := topology.Diff(&old, &next)
	if err != nil {
		return err
	}
	by := fmt.Sprintf("%s.%d", s.self, s.changes.Add(1))
	unknown := false // what became of it
	err = s.call(ctx, func(ctx context.Context) (err error) {
		unknown, err = s.change(ctx, &old, &next, d, by)
		return err
	})
	if unknown && ctx.Err() == nil && s.ctx.Err() == nil {
		return s.outcome(ctx, &next, by, err)
	}
	return err
}

// change tries again when the head was only touched, by which settle gives it a new revision of etcd.
func (s *Store) change(ctx context.Context, old, next *topology.State, d topology.Difference, by string) (unknown bool, err error) {
	h, mod, err := s.headAt(ctx, old.Revision)
	for {
		if err != nil {
			return false, err
		}
		if h.Revision != old.Revision {
			return false, topology.ErrConflict
		}
		ops, err := s.puts(next, d, h, by)
		if err != nil {
			return false, err
		}
		r, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(s.headKey()), "=", mod)).
			Then(ops...).Else(clientv3.OpGet(s.headKey())).Commit()
		if err != nil {
			if refused(err) {
				return false, err
			}
			s.doubt(mod)
			return true, err
		}
		if r.Succeeded {
			return false, nil
		}
		h, mod, err = headOf(r.Responses[0].GetResponseRange().Kvs)
		if err != nil {
			return false, err
		}
	}
}

func (s *Store) headKey() string { return s.prefix + stateKey + headName }

// headAt is the head that a change of a revision is made on, with etcd's revision of it. It is not asked
// for when it was the newest that was seen: if it has changed since, the transaction fails.
func (s *Store) headAt(ctx context.Context, revision uint64) (head, int64, error) {
	s.mu.Lock()
	seen := s.seen
	s.mu.Unlock()
	if seen != nil && seen.head.Revision == revision {
		return seen.head, seen.mod, nil
	}
	h, mod, _, err := s.readHead(ctx)
	return h, mod, err
}

// readHead reads the head alone; zero if there is none.
func (s *Store) readHead(ctx context.Context) (h head, mod int64, value []byte, err error) {
	r, err := s.client.Get(ctx, s.headKey())
	if err != nil {
		return h, 0, nil, err
	}
	if len(r.Kvs) > 0 {
		value = r.Kvs[0].Value
	}
	h, mod, err = headOf(r.Kvs)
	return h, mod, value, err
}

func headOf(kvs []*mvccpb.KeyValue) (head, int64, error) {
	if len(kvs) == 0 {
		return head{}, 0, nil
	}
	h, err := readHead(kvs[0].Value)
	return h, kvs[0].ModRevision, err
}

// puts are the operations that make next of the State that h is the head of.
func (s *Store) puts(next *topology.State, d topology.Difference, h head, by string) ([]clientv3.Op, error) {
	sums := maps.Clone(h.Sums)
	if sums == nil {
		sums = make(map[string]string)
	}
	list, err := writes(next, d, sums)
	if err != nil {
		return nil, err
	}
	ops := make([]clientv3.Op, 0, len(list)+1)
	for _, w := range list {
		if key := s.prefix + stateKey + w.name; w.value == nil {
			ops = append(ops, clientv3.OpDelete(key))
		} else {
			ops = append(ops, clientv3.OpPut(key, string(w.value)))
		}
	}
	text, err := json.Marshal(head{Format: format, Revision: next.Revision, NextJob: next.NextJob, By: by, Sums: sums})
	return append(ops, clientv3.OpPut(s.headKey(), string(text))), err
}

// A request whose answer has not come may be executed at any later time: it may wait in a socket until
// a link is whole again. "Load tells" would be untrue then: the change could be made after Load has
// said that it was not. So before the next Load says anything, the head is touched, that is, written as
// it is: the guard of the change, etcd's revision of the head, is never true again.
//
//	change  If head is at 7: head, parts ──────────── late ────────────► refused: head is at 8
//	settle                     If head is at 7: head ► now at 8
//	Load                                               reads: not stored, and never will be
//
// The creation of a cluster is not settled: there is no head to touch, and one that comes late makes an
// empty cluster where there is none.

func (s *Store) doubt(mod int64) {
	if mod == 0 {
		return
	}
	s.mu.Lock()
	s.doubts[mod] = true
	s.mu.Unlock()
}

func (s *Store) inDoubt() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.doubts) > 0
}

// settle returns when none of this Store's changes is under way that was so before, and the head as it
// then is; h.Revision is 0 if there is none. touched: the head was written as it was.
func (s *Store) settle(ctx context.Context) (h head, touched bool, err error) {
	for {
		h, mod, value, err := s.readHead(ctx)
		if err != nil {
			return head{}, touched, err
		}
		if !s.doubted(mod) {
			return h, touched, nil
		}
		r, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(s.headKey()), "=", mod)).
			Then(clientv3.OpPut(s.headKey(), string(value))).Commit()
		if err != nil {
			return head{}, touched, err
		}
		touched = touched || r.Succeeded
	}
}

// doubted reports whether a change that is guarded by mod may be under way. mod is that of the head, and
// rises: all older guards have had their time.
func (s *Store) doubted(mod int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for m := range s.doubts {
		if m < mod {
			delete(s.doubts, m)
		}
	}
	return s.doubts[mod]
}

// outcome says what became of a change whose answer has not come.
func (s *Store) outcome(ctx context.Context, next *topology.State, by string, failed error) error {
	var h head
	err := s.call(ctx, func(ctx context.Context) (err error) { h, _, err = s.settle(ctx); return err })
	switch {
	case err != nil:
		return fmt.Errorf("whether it has been stored can't be told (%w): %w", err, failed)
	case h.By == by:
		return nil
	case h.Revision == next.Revision: // another change took its place
		return topology.ErrConflict
	case h.Revision > next.Revision:
		return fmt.Errorf("whether it has been stored can't be told, since others have changed the cluster meanwhile: %w", failed)
	}
	if next.Revision == 1 {
		return fmt.Errorf("it is not stored so far: %w", failed)
	}
	return fmt.Errorf("nothing has been stored: %w", failed)
}
