package etcd

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyferry/internal/topology"
)

// Pauses after a failed look, doubling from the one to the other.
const (
	pauseMin = 50 * time.Millisecond
	pauseMax = 2 * time.Second
)

// look reads what is watched and passes it on if it is new. at is etcd's revision at which it read.
type look func(context.Context) (at int64, news bool, err error)

// follow looks at once, then after each change of a key below (or at) key, and every lookAt, until ctx
// ends. It goes on whatever becomes of its watches.
func (s *Store) follow(ctx context.Context, key string, look look, opts ...clientv3.OpOption) {
	pause := pauseMin
	for ctx.Err() == nil {
		var at int64
		err := s.call(ctx, func(ctx context.Context) (err error) { at, _, err = look(ctx); return err })
		if err == nil {
			pause = pauseMin
			if s.listen(ctx, key, at+1, look, opts) {
				continue
			}
		}
		wait(ctx, pause)
		pause = min(2*pause, pauseMax)
	}
}

// listen looks whenever a watch from a revision on hears of a change. It returns when the watch has
// ended, as it does when that revision has been compacted, when the member has no leader, or has
// fallen behind; and when it has missed something. again: another watch is worth a try at once.
func (s *Store) listen(ctx context.Context, key string, from int64, look look, opts []clientv3.OpOption) (again bool) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	bell := s.client.Watch(ctx, key, append(opts, clientv3.WithRev(from))...)
	tick := time.NewTicker(s.lookAt)
	defer tick.Stop()
	for {
		rang := false
		select {
		case r, ok := <-bell:
			if !ok || r.Err() != nil {
				return r.CompactRevision > 0 // which is past: the next look is newer
			}
			rang = true
			for drained := false; !drained; {
				select {
				case r, ok := <-bell:
					drained = !ok || r.Err() != nil // the next receive says so again, or the next watch
				default:
					drained = true
				}
			}
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
		news := false
		if s.call(ctx, func(ctx context.Context) (err error) { _, news, err = look(ctx); return err }) != nil {
			return false
		}
		if news && !rang {
			return true // the watch is deaf
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// offer puts v into a channel of capacity one, to which nobody else sends, in the place of what has not been
// read.
func offer[T any](ch chan T, v T) {
	select {
	case <-ch:
	default:
	}
	ch <- v
}

// Watch begins with what is stored when it is called, or later.
func (s *Store) Watch(ctx context.Context) <-chan topology.State {
	ch := make(chan topology.State, 1)
	last := uint64(0) // the revision that was passed on
	watching := s.work(ctx, func(ctx context.Context) {
		defer close(ch)
		s.follow(ctx, s.headKey(), func(ctx context.Context) (int64, bool, error) {
			v, at, err := s.read(ctx)
			if err != nil || v == nil || v.head.Revision <= last {
				return at, false, err
			}
			st, err := v.state()
			if err != nil {
				return 0, false, err
			}
			last = st.Revision
			offer(ch, st)
			return at, true, nil
		})
	})
	if !watching {
		close(ch)
	}
	return ch
}
