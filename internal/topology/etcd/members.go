package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keyferry/internal/topology"
)

// Names of what a gateway has below its own key.
const (
	registrationName = "registration"
	acknowledgedName = "acknowledged"
)

func (s *Store) gatewayKey(name, what string) string {
	return s.prefix + gatewaysKey + url.PathEscape(name) + "/" + what
}

// registration is what this gateway holds.
type registration struct {
	name  string
	lease clientv3.LeaseID
	end   context.CancelFunc
	lost  chan struct{} // closed by keep, when it ends
}

var errNotRegistered = errors.New("topology: this gateway is not registered, or its registration has ended")

// Register ends what this Store had registered before. It is refused, with ErrConflict, when a later
// incarnation of the gateway is registered: of two processes with one name the older would otherwise
// put itself in the other's place again and again. The one that is replaced hears of it with its next renewal.
//
// The lease ends no sooner for the others than here: they go by etcd's clock, on which it began when the
// request arrived, and this gateway by its own, from when the request was sent.
//
//	here  ── sent ───────────────────── sent + TTL: lost
//	etcd  ─────────── granted ──────────────────── granted + TTL: gone
func (s *Store) Register(ctx context.Context, g topology.Gateway, ttl time.Duration) (<-chan struct{}, error) {
	s.endRegistration()
	text, err := json.Marshal(g)
	if err != nil {
		return nil, err
	}
	r := &registration{name: g.Name, lost: make(chan struct{})}
	var until time.Time
	err = s.call(ctx, func(ctx context.Context) error {
		sent := time.Now()
		grant, err := s.client.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
		if err != nil {
			return err
		}
		r.lease, until = grant.ID, sent.Add(time.Duration(grant.TTL)*time.Second)
		if err = s.putRegistration(ctx, g, string(text), grant.ID); err != nil {
			_, _ = s.client.Revoke(ctx, grant.ID) // else it ends by itself
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	keeping, end := context.WithCancel(context.Background())
	r.end = end
	if !s.work(keeping, func(ctx context.Context) { s.keep(ctx, r, until) }) {
		end()
		return nil, topology.ErrClosed
	}
	s.mu.Lock()
	s.registered = r
	s.mu.Unlock()
	return r.lost, nil
}

// putRegistration puts a gateway in the place of an earlier incarnation.
func (s *Store) putRegistration(ctx context.Context, g topology.Gateway, text string, lease clientv3.LeaseID) error {
	key := s.gatewayKey(g.Name, registrationName)
	for {
		r, err := s.client.Get(ctx, key)
		if err != nil {
			return err
		}
		mod := int64(0)
		if len(r.Kvs) > 0 {
			mod = r.Kvs[0].ModRevision
			var there topology.Gateway
			if json.Unmarshal(r.Kvs[0].Value, &there) == nil && there.Incarnation > g.Incarnation {
				return topology.ErrConflict
			}
		}
		t, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", mod)).Then(
			clientv3.OpPut(key, text, clientv3.WithLease(lease)),
			clientv3.OpPut(s.gatewayKey(g.Name, acknowledgedName), "{}", clientv3.WithLease(lease))).Commit()
		if err != nil || t.Succeeded {
			return err
		}
	}
}

// keep renews a registration until it is ended, replaced, or may have ended by itself.
func (s *Store) keep(ctx context.Context, r *registration, until time.Time) {
	defer close(r.lost)
	defer r.end()
	beat := time.Until(until) / 3
	for next := beat; ; {
		wait(ctx, min(next, time.Until(until)))
		if ctx.Err() != nil || !time.Now().Before(until) {
			return
		}
		sent := time.Now()
		one, cancel := context.WithDeadline(ctx, minTime(sent.Add(beat), until))
		ttl, err := s.renew(one, r)
		cancel()
		switch {
		case errors.Is(err, errNotRegistered):
			return
		case err != nil:
			next = beat / 5
		default:
			until, next = sent.Add(ttl), beat
		}
	}
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// renew renews a lease once. The client's own KeepAlive tells the time of an answer and not that of its
// question; its KeepAliveOnce asks without a pause while etcd is away.
func (s *Store) renew(ctx context.Context, r *registration) (ttl time.Duration, err error) {
	stream, err := etcdserverpb.NewLeaseClient(s.client.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return 0, err
	}
	if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(r.lease)}); err != nil {
		return 0, err
	}
	answer, err := stream.Recv()
	if err != nil {
		return 0, err
	}
	if answer.TTL <= 0 {
		return 0, errNotRegistered
	}
	ttl = time.Duration(answer.TTL) * time.Second
	there, err := s.client.Get(ctx, s.gatewayKey(r.name, registrationName))
	if err == nil && (len(there.Kvs) == 0 || there.Kvs[0].Lease != int64(r.lease)) {
		return 0, errNotRegistered // replaced
	}
	return ttl, nil
}

// endRegistration stops the renewal of what is registered, and returns it; nil if nothing is.
func (s *Store) endRegistration() *registration {
	s.mu.Lock()
	r := s.registered
	s.registered = nil
	s.mu.Unlock()
	if r != nil {
		r.end()
		<-r.lost
	}
	return r
}

func (s *Store) Unregister(ctx context.Context) error {
	r := s.endRegistration()
	return s.call(ctx, func(ctx context.Context) error {
		if r == nil {
			return nil
		}
		_, err := s.client.Revoke(ctx, r.lease)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil
		}
		return err
	})
}

func (s *Store) Acknowledge(ctx context.Context, a topology.Ack) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return s.call(ctx, func(ctx context.Context) error {
		s.mu.Lock()
		r := s.registered
		s.mu.Unlock()
		if r == nil {
			return errNotRegistered
		}
		t, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue(s.gatewayKey(r.name, registrationName)), "=", r.lease)).
			Then(clientv3.OpPut(s.gatewayKey(r.name, acknowledgedName), string(text), clientv3.WithLease(r.lease))).Commit()
		if errors.Is(err, rpctypes.ErrLeaseNotFound) || err == nil && !t.Succeeded {
			return errNotRegistered
		}
		return err
	})
}

func (s *Store) Registered(ctx context.Context) (list []topology.Registered, err error) {
	err = s.call(ctx, func(ctx context.Context) error { list, _, err = s.registrations(ctx); return err })
	return list, err
}

// registrations are sorted by name. One that can't be read, as of another version, is left out.
func (s *Store) registrations(ctx context.Context) (list []topology.Registered, at int64, err error) {
	r, err := s.client.Get(ctx, s.prefix+gatewaysKey, clientv3.WithPrefix())
	if err != nil {
		return nil, 0, err
	}
	all := make(map[string]*topology.Registered)
	acks := make(map[string]topology.Ack)
	for _, kv := range r.Kvs {
		switch dir, what := path.Split(string(kv.Key)); what {
		case registrationName:
			var g topology.Gateway
			if json.Unmarshal(kv.Value, &g) == nil {
				all[dir] = &topology.Registered{Gateway: g}
			}
		case acknowledgedName:
			var a topology.Ack
			if json.Unmarshal(kv.Value, &a) == nil {
				acks[dir] = a
			}
		}
	}
	list = make([]topology.Registered, 0, len(all))
	for dir, g := range all {
		g.Ack = acks[dir]
		list = append(list, *g)
	}
	slices.SortFunc(list, func(a, b topology.Registered) int { return strings.Compare(a.Name, b.Name) })
	return list, r.Header.Revision, nil
}

func (s *Store) WatchMembers(ctx context.Context) <-chan []topology.Registered {
	ch := make(chan []topology.Registered, 1)
	var last []topology.Registered // nil: nothing has been passed on
	watching := s.work(ctx, func(ctx context.Context) {
		defer close(ch)
		s.follow(ctx, s.prefix+gatewaysKey, func(ctx context.Context) (int64, bool, error) {
			list, at, err := s.registrations(ctx)
			if err != nil || last != nil && reflect.DeepEqual(list, last) {
				return at, false, err
			}
			last = list
			offer(ch, slices.Clone(list))
			return at, true, nil
		}, clientv3.WithPrefix())
	})
	if !watching {
		close(ch)
	}
	return ch
}
