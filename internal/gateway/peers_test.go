package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/control"
	"keyferry/internal/observe"
	"keyferry/internal/topology"
	"keyferry/migrator/job"
	"keyferry/router"
)

// TestJobUnderSeveralGateways: clients of all gateways increment counters while the slots move there and
// back, under another gateway each time.
func TestJobUnderSeveralGateways(t *testing.T) {
	x := newSeveral(t, 3)
	const keys = 500
	c := x.count(keys, 0, 1, 2)
	owners := make(map[string]bool)
	for round, target := range []string{"b", "a", "b"} {
		id := x.move(round, target, job.Limits{})
		x.await(0, id, topology.Done)
		x.agree()
		j, _ := x.all[0].Control.Job(id)
		owners[j.Owner] = true
	}
	c.check(1, keys)
	if len(c.errs) > 0 || len(owners) != 3 {
		t.Errorf("errors %v, owners %v", c.errs, owners)
	}
}

// TestTakeover: a job's owner is cut off from the store in the midst of the job, and its registration ends.
// The others take it out, hang up on it at the servers, and one of them goes on with the job, while its
// own clients go on to send.
func TestTakeover(t *testing.T) {
	x := newSeveral(t, 3)
	const keys = 2000
	x.zero(keys)
	rate := 500.0
	id := x.move(0, "b", job.Limits{KeysPerS: &rate})
	x.await(0, id, topology.Bulk)
	j, _ := x.all[0].Control.Job(id)
	owner := slices.IndexFunc(x.all, func(g *Gateway) bool { return g.Control.Gateway() == j.Owner })
	others := []int{(owner + 1) % 3, (owner + 2) % 3}
	c := x.count(keys, owner, others[0], others[1])
	for s, _ := x.all[owner].Manager.JobStatus(id); s.KeysMoved < 200; s, _ = x.all[owner].Manager.JobStatus(id) {
		time.Sleep(time.Millisecond)
	}
	x.stores[owner].Away(true)
	x.cluster.Expire(j.Owner)
	x.await(others[0], id, topology.Done)
	x.stores[owner].Away(false)
	if err := <-x.all[owner].Ended(); !errors.Is(err, control.ErrFenced) {
		t.Errorf("the former owner ended with %v", err)
	}
	if now, _ := x.all[others[0]].Control.Job(id); now.Owner == j.Owner {
		t.Errorf("the job is still %s's", now.Owner)
	}
	c.check(others[1], keys)
}

// TestVerbsAtAnyGateway: what an operator says to a job at another gateway than its owner counts, and the
// job's live numbers are seen there.
func TestVerbsAtAnyGateway(t *testing.T) {
	x := newSeveral(t, 2)
	x.fill(0, 3000)
	rate := 300.0
	id := x.move(0, "b", job.Limits{KeysPerS: &rate})
	x.await(0, id, topology.Bulk)
	_, other := x.owner(id)
	x.await(other, id, topology.Bulk)
	m := x.all[other].Manager
	news := m.Subscribe(1000)
	defer news.Close()
	for s, _ := m.JobStatus(id); !s.Live || s.KeysMoved == 0; s, _ = m.JobStatus(id) {
		if t.Context().Err() != nil {
			t.Fatalf("the job's numbers don't come: %+v", s)
		}
		time.Sleep(time.Millisecond)
	}
	if err := m.Pause(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if j, _ := x.all[other].Control.Job(id); j.Phase != topology.Paused {
		t.Errorf("after PAUSE it is %s", j.Phase)
	}
	if err := m.Pause(t.Context(), "m99"); err == nil || !strings.Contains(err.Error(), "no such job") {
		t.Errorf("PAUSE of no job: %v", err)
	}
	fast := 0.0
	for _, say := range []func() error{
		func() error { return m.Limit(t.Context(), id, job.Limits{KeysPerS: &fast}) },
		func() error { return m.Resume(t.Context(), id) },
		func() error { _, err := m.Revert(t.Context(), id); return err },
	} {
		if err := say(); err != nil {
			t.Fatal(err)
		}
	}
	x.await(other, id, topology.Reverted)
	var heard []topology.Phase // of its events, at the gateway that does not run it
	for n := range news.C() {
		if n.Event != nil {
			heard = append(heard, n.Event.To)
		}
		if n.Event != nil && n.Event.To == topology.Reverted {
			break
		}
	}
	if !slices.Contains(heard, topology.Paused) {
		t.Errorf("heard of %v", heard)
	}
	if err := m.Resume(t.Context(), id); err == nil || !strings.Contains(err.Error(), "is reverted") {
		t.Errorf("RESUME of a job that has ended: %v", err)
	}
}

// TestGroupsOfTheCluster: that other gateways of the cluster are connected to a group's server is nothing
// that stands against its use.
func TestGroupsOfTheCluster(t *testing.T) {
	x := newSeveral(t, 3)
	for i := range x.clients {
		if err := x.clients[i].Set(t.Context(), "k", i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.all[1].Control.UnassignSlots(t.Context(), []topology.Range{{First: 0, Last: 99}}); err != nil {
		t.Fatal(err)
	}
	for i, g := range x.all {
		if err := g.Control.AssignSlots(t.Context(), []topology.Range{{First: 10 * i, Last: 10*i + 9}}, "a", false); err != nil {
			t.Errorf("gateway %d: %v", i, err)
		}
	}
	rows := observe.Gateways(x.all[2].Control)
	if len(rows) != 3 || rows[0].State != "serving" || rows[1].Name != "gw1" || !rows[2].This || rows[0].Peers == "" {
		t.Errorf("%+v", rows)
	}
}

// TestFlushAtAnotherGateway: FLUSHALL at a gateway that moves nothing leaves no key, though keys are under
// way just then.
func TestFlushAtAnotherGateway(t *testing.T) {
	x := newSeveral(t, 2)
	for range 5 {
		x.fill(0, 3000)
		target := "a"
		if st := x.all[0].Control.State(); st.SlotsOf("a") != nil {
			target = "b"
		}
		id := x.move(0, target, job.Limits{})
		_, other := x.owner(id)
		for s, _ := x.all[1-other].Manager.JobStatus(id); s.KeysMoved < 300 && !s.Phase.Ended(); s, _ = x.all[1-other].Manager.JobStatus(id) {
			time.Sleep(time.Millisecond)
		}
		if err := x.clients[other].FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		x.await(0, id, topology.Done)
		for i := range x.clients {
			if n, err := x.clients[i].DBSize(t.Context()).Result(); err != nil || n != 0 {
				t.Errorf("gateway %d has %d keys after FLUSHALL (%v)", i, n, err)
			}
		}
		x.agree()
	}
}

// TestEveryKindOfCommandByAPeer: at a gateway that does not move the slots, whatever a client can send is
// answered as at the owner: commands of several keys, transactions, watched keys, scripts, what
// blocks, scans of elements, other databases, RESP3.
func TestEveryKindOfCommandByAPeer(t *testing.T) {
	x := newSeveral(t, 2)
	x.fill(0, 500)
	rate := 1.0
	id := x.move(0, "b", job.Limits{KeysPerS: &rate}) // it hardly moves
	x.await(0, id, topology.Bulk)
	_, other := x.owner(id)
	x.await(other, id, topology.Bulk)
	x.agree()
	ctx := t.Context()
	for _, proto := range []int{2, 3} {
		c := redis.NewClient(&redis.Options{Addr: x.clients[other].Options().Addr, Protocol: proto, DB: proto})
		defer c.Close()
		owner := redis.NewClient(&redis.Options{Addr: x.clients[1-other].Options().Addr, Protocol: proto, DB: proto})
		defer owner.Close()
		want := func(what string, got, want any, err error) {
			t.Helper()
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("RESP%d, %s: %v, %v; want %v", proto, what, got, err, want)
			}
		}
		want("MSET", c.MSet(ctx, "a", 1, "b", 2, "c", 3).Val(), "OK", nil)
		got, err := c.MGet(ctx, "a", "b", "c", "none").Result()
		want("MGET", got, "[1 2 3 <nil>]", err)
		n, err := c.Del(ctx, "a", "b", "none").Result()
		want("DEL", n, 2, err)
		cmds, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, "{t}n")
			p.RPush(ctx, "{t}l", "x", "y")
			return nil
		})
		want("EXEC", len(cmds), 2, err)
		want("EXEC's reply", cmds[1].(*redis.IntCmd).Val(), 2, nil)
		err = c.Watch(ctx, func(tx *redis.Tx) error {
			if err := owner.Set(ctx, "{t}n", 10, 0).Err(); err != nil {
				return err
			}
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "{t}n"); return nil })
			return err
		}, "{t}n")
		want("EXEC of who watches", errors.Is(err, redis.TxFailedErr), true, nil)
		v, err := c.Eval(ctx, "return redis.call('incrby', KEYS[1], ARGV[1])", []string{"{t}n"}, 5).Result()
		want("EVAL", v, 15, err)
		done := make(chan error, 1)
		go func() {
			got, err := c.BLPop(ctx, time.Minute, "queue").Result()
			if fmt.Sprint(got) != "[queue job]" {
				err = fmt.Errorf("BLPOP: %v, %w", got, err)
			}
			done <- err
		}()
		want("RPUSH for who waits", owner.RPush(ctx, "queue", "job").Val() > 0, true, nil)
		want("BLPOP", <-done, nil, nil)
		for i := range 1000 {
			c.HSet(ctx, "h", fmt.Sprint("f", i), i)
		}
		seen := make(map[string]bool)
		for cursor := uint64(0); ; {
			var list []string
			if list, cursor, err = c.HScan(ctx, "h", cursor, "", 100).Result(); err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(list); i += 2 {
				seen[list[i]] = true
			}
			if cursor == 0 {
				break
			}
		}
		want("HSCAN", len(seen), 1000, nil)
		want("SORT", fmt.Sprint(c.Sort(ctx, "{t}l", &redis.Sort{Alpha: true, Order: "DESC"}).Val()), "[y x]", nil)
		var keys []string
		for it := c.Scan(ctx, 0, "*", 10).Iterator(); it.Next(ctx); {
			keys = append(keys, it.Val())
		}
		slices.Sort(keys)
		want("SCAN", slices.Compact(keys), "[c h {t}l {t}n]", nil)
		want("WRONGTYPE", c.LPush(ctx, "h", 1).Err(), "WRONGTYPE Operation against a key holding the wrong kind of value", nil)
	}
}

// TestHandOver: a job goes from owner to owner while clients of all gateways count, and none hears of it. The
// last owner stops, which hands the job over as well.
func TestHandOver(t *testing.T) {
	x := newSeveral(t, 3)
	const keys = 3000
	x.zero(keys)
	rate := 500.0
	id := x.move(0, "b", job.Limits{KeysPerS: &rate})
	x.await(0, id, topology.Bulk)
	c := x.count(keys, 0, 1, 2)
	owners := make(map[int]bool)
	for range 6 {
		owner, other := x.owner(id)
		owners[owner] = true
		before, _ := x.all[owner].Manager.JobStatus(id)
		if err := x.all[other].Control.Drain(t.Context(), x.all[owner].Control.Gateway()); err != nil {
			t.Fatal(err)
		}
		for {
			j, _ := x.all[0].Control.Job(id)
			if now, _ := x.owner(id); now != owner {
				if s, _ := x.all[now].Manager.JobStatus(id); s.Live && s.KeysMoved > before.KeysMoved+50 || j.Phase.Ended() {
					break
				}
			}
			if t.Context().Err() != nil {
				t.Fatalf("the job does not go on: %+v", j)
			}
			time.Sleep(time.Millisecond)
		}
		// Draining ends with the next start only; here a stored word does that.
		if _, err := topology.Update(t.Context(), x.stores[0], func(s *topology.State) error {
			for i := range s.Gateways {
				s.Gateways[i].Draining = false
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	fast := 0.0
	if err := x.all[0].Manager.Limit(t.Context(), id, job.Limits{KeysPerS: &fast}); err != nil {
		t.Fatal(err)
	}
	x.await(0, id, topology.Done)
	c.check(1, keys)
	if len(c.errs) > 0 || len(owners) < 2 {
		t.Errorf("errors %v, owners %v", c.errs, owners)
	}
}

// TestStopOfAnOwner: the planned stop of a job's owner hands the job over, and clients of other gateways hear
// nothing of it.
func TestStopOfAnOwner(t *testing.T) {
	x := newSeveral(t, 3)
	const keys = 2000
	x.zero(keys)
	rate := 500.0
	id := x.move(0, "b", job.Limits{KeysPerS: &rate})
	x.await(0, id, topology.Bulk)
	owner, other := x.owner(id)
	third := 3 - owner - other
	c := x.count(keys, other, third)
	for s, _ := x.all[owner].Manager.JobStatus(id); s.KeysMoved < 200; s, _ = x.all[owner].Manager.JobStatus(id) {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := x.all[owner].Stop(ctx); err != nil {
		t.Error(err)
	}
	x.await(other, id, topology.Done)
	if j, _ := x.all[other].Control.Job(id); j.Owner == x.all[owner].Control.Gateway() {
		t.Errorf("the job is still %s's", j.Owner)
	}
	st := x.all[other].Control.State()
	if g, _ := st.Gateway(x.all[owner].Control.Gateway()); !g.Out {
		t.Errorf("who has stopped is %+v", g)
	}
	c.check(third, keys)
	if len(c.errs) > 0 {
		t.Errorf("clients of other gateways heard of it: %v", c.errs)
	}
}

// TestWaitersStayWhenTheOwnerChanges: clients of all gateways block on keys of slots that move, the owner
// changes, and each gets what is pushed after that, without hearing of it.
func TestWaitersStayWhenTheOwnerChanges(t *testing.T) {
	x := newSeveral(t, 3)
	x.fill(0, 300)
	rate := 20.0
	id := x.move(0, "b", job.Limits{KeysPerS: &rate})
	x.await(0, id, topology.Bulk)
	x.agree()
	type answer struct {
		gateway int
		got     []string
		err     error
	}
	answers := make(chan answer, 3)
	for g := range 3 {
		go func() {
			got, err := x.clients[g].BLPop(t.Context(), time.Minute, fmt.Sprint("queue:", g)).Result()
			answers <- answer{g, got, err}
		}()
	}
	blocked := func() (n int64) {
		for _, g := range x.all {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			s, _ := g.Proxy.Sample(ctx)
			cancel()
			n += s.Blocked
		}
		return n
	}
	for blocked() < 3 {
		time.Sleep(time.Millisecond)
	}
	for range 2 {
		owner, other := x.owner(id)
		if err := x.all[other].Control.Drain(t.Context(), x.all[owner].Control.Gateway()); err != nil {
			t.Fatal(err)
		}
		for now := owner; now == owner; now, _ = x.owner(id) {
			time.Sleep(time.Millisecond)
		}
		x.agree()
	}
	for g := range 3 {
		if err := x.clients[(g+1)%3].RPush(t.Context(), fmt.Sprint("queue:", g), "job").Err(); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		select {
		case a := <-answers:
			if a.err != nil || fmt.Sprint(a.got) != fmt.Sprintf("[queue:%d job]", a.gateway) {
				t.Errorf("gateway %d: %v, %v", a.gateway, a.got, a.err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a client waits on")
		}
	}
}

// TestStoreAway: while the store can't be reached, and every registration ends, clients of all gateways are
// served on slots that don't move; when it is back nobody is taken for dead, and the job ends.
func TestStoreAway(t *testing.T) {
	x := newSeveral(t, 3)
	x.prefix = "{stable}:"
	stable := router.Redis.Slot([]byte(x.prefix))
	x.fill(0, 1000)
	const keys = 1000
	rate := 200.0
	id := x.moveSlots(0, "b", job.Limits{KeysPerS: &rate}, topology.Range{First: 0, Last: stable - 1}, topology.Range{First: stable + 1, Last: 16383})
	x.await(0, id, topology.Bulk)
	x.agree()
	c := x.count(keys, 0, 1, 2)
	before := c.answered()
	for c.answered() < before+500 { // every connection that they need is there
		time.Sleep(time.Millisecond)
	}
	for i, s := range x.stores {
		s.Away(true)
		x.cluster.Expire(x.all[i].Control.Gateway())
	}
	before = c.answered()
	for c.answered() < before+3000 {
		time.Sleep(time.Millisecond)
	}
	for _, s := range x.stores {
		s.Away(false)
	}
	fast := 0.0
	owner, _ := x.owner(id)
	if err := x.all[owner].Manager.Limit(t.Context(), id, job.Limits{KeysPerS: &fast}); err != nil {
		t.Error(err)
	}
	x.await(0, id, topology.Done)
	c.check(1, keys)
	if len(c.errs) > 0 {
		t.Errorf("clients heard of it: %v", c.errs)
	}
	for _, g := range observe.Gateways(x.all[0].Control) {
		if g.Incarnation != 1 || g.State == observe.Out {
			t.Errorf("%s was taken for dead: %+v", g.Name, g)
		}
	}
}
