package gateway

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/conf"
	"keyferry/internal/faultproxy"
	"keyferry/internal/topology"
	"keyferry/migrator/job"
)

// doored are gateways that reach each other by fault proxies.
type doored struct {
	*several
	doors map[string]*faultproxy.Proxy // by the gateway that they lead to
	real  map[string]string            // and its own address
}

func newDoored(t *testing.T, n int) *doored {
	t.Helper()
	x := &doored{doors: make(map[string]*faultproxy.Proxy), real: make(map[string]string)}
	x.several = newSeveral(t, n, func(c *conf.Config) {
		p, err := faultproxy.New(c.Peers.Listen, 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		x.doors[c.Name], x.real[c.Name], c.Peers.Advertise = p, c.Peers.Listen, p.Addr
	})
	return x
}

// halfway fills keys, and begins a job of all slots that does not end by itself. It returns who owns it.
func (x *doored) halfway(keys int) (id string, owner int) {
	x.t.Helper()
	for i := range keys {
		if err := x.clients[0].Set(x.t.Context(), fmt.Sprint("count:", i), i, 0).Err(); err != nil {
			x.t.Fatal(err)
		}
	}
	rate := 100.0
	id = x.move(0, "b", job.Limits{KeysPerS: &rate})
	x.await(0, id, topology.Bulk)
	x.agree()
	owner, _ = x.owner(id)
	return id, owner
}

// patient is a client of a gateway that sends each command once and waits long.
func (x *several) patient(i int) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: x.clients[i].Options().Addr, Protocol: 2, MaxRetries: -1, ReadTimeout: 20 * time.Second, PoolSize: 200})
	x.t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestOwnerFreezes: nothing goes to a job's owner and nothing comes from it, until its registration ends. What clients
// of another gateway have sent it by then is answered: reads by the next owner, and of writes
// they hear that nobody knows.
func TestOwnerFreezes(t *testing.T) {
	x := newDoored(t, 3)
	const keys = 200
	id, owner := x.halfway(keys)
	name := x.all[owner].Control.Gateway()
	c := x.patient((owner + 1) % 3)
	for i := range keys {
		if err := c.Get(t.Context(), fmt.Sprint("count:", i)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	before := x.all[(owner+1)%3].Control.State().Epoch

	x.doors[name].SetBoth(faultproxy.Fault{Blackhole: true})
	var wg sync.WaitGroup
	var mu sync.Mutex
	said := make(map[string]int)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	for i := range keys {
		wg.Go(func() {
			key := fmt.Sprint("count:", i)
			if i%2 == 0 {
				if got, err := c.Get(ctx, key).Int(); err != nil || got != i {
					t.Errorf("GET %s: %d, %v", key, got, err)
				}
				return
			}
			if err := c.Incr(ctx, key).Err(); err != nil {
				mu.Lock()
				said[err.Error()]++
				mu.Unlock()
			}
		})
	}
	time.Sleep(200 * time.Millisecond) // that all have been sent is likely, and matters to the number of errors only
	x.stores[owner].Away(true)
	x.cluster.Expire(name)
	wg.Wait()
	_ = x.doors[name].Heal()
	if x.all[(owner+1)%3].Control.State().Epoch == before {
		t.Error("nobody has taken over")
	}
	for text := range said {
		if !strings.HasPrefix(text, "ERR connection to the gateway that moves the key's slot was lost (incr); the command may or may not have been executed") {
			t.Errorf("%d times: %s", said[text], text)
		}
	}
	x.stores[owner].Away(false)
	next, _ := x.owner(id)
	x.await(next, id, topology.Done)
}

// inOrder sends increments of one key to a gateway without awaiting replies, while others does something, and demands
// that they are executed in their order.
func (x *several) inOrder(gateway, commands int, others func()) {
	t := x.t
	t.Helper()
	nc, err := net.Dial("tcp", x.clients[gateway].Options().Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	go others()
	go func() {
		for range commands {
			if _, err := nc.Write([]byte("INCR n\r\n")); err != nil {
				return
			}
			time.Sleep(500 * time.Microsecond)
		}
	}()
	last, lost := 0, 0
	in := bufio.NewReader(nc)
	for i := range commands {
		_ = nc.SetReadDeadline(time.Now().Add(20 * time.Second))
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		line = strings.TrimSpace(line)
		if line[0] == '-' {
			if !strings.Contains(line, "may or may not") {
				t.Fatalf("reply %d: %s", i, line)
			}
			lost++
			continue
		}
		n, err := strconv.Atoi(line[1:])
		if err != nil || n <= last {
			t.Fatalf("reply %d is %q after %d", i, line, last)
		}
		last = n
	}
	if last < commands-lost || last > commands {
		t.Errorf("the last is %d; of %d commands %d may not have been executed", last, commands, lost)
	}
}

// TestOrderWhileAPeerIsAway: the gateway that moves a client's key can't be reached again and again.
func TestOrderWhileAPeerIsAway(t *testing.T) {
	x := newDoored(t, 2)
	_, owner := x.halfway(1000)
	name := x.all[owner].Control.Gateway()
	door := x.doors[name]
	x.inOrder(1-owner, 1200, func() {
		for range 4 { // it takes connections and closes them: one that refuses them is taken for dead
			time.Sleep(80 * time.Millisecond)
			door.Retarget("127.0.0.1:1")
			door.Reset()
			time.Sleep(80 * time.Millisecond)
			door.Retarget(x.real[name])
		}
	})
}

// TestRefusalsOfAPeerReachNobody: a job's next owner has not heard of that yet, and refuses what another gateway
// passes on to it, thousands at a time. It is sent again, and no client sees the gateways' own error.
func TestRefusalsOfAPeerReachNobody(t *testing.T) {
	x := newSeveral(t, 3)
	if err := x.clients[0].Set(t.Context(), "count:0", 0, 0).Err(); err != nil {
		t.Fatal(err)
	}
	rate := 1.0
	id := x.move(0, "b", job.Limits{KeysPerS: &rate})
	x.await(0, id, topology.Bulk)
	x.agree()
	owner, next := x.owner(id)
	third := 3 - owner - next
	x.stores[next].Away(true)
	if _, err := topology.Update(t.Context(), x.stores[third], func(s *topology.State) error {
		for i := range s.Gateways {
			s.Gateways[i].Draining = s.Gateways[i].Name == x.all[third].Control.Gateway()
		}
		return s.Drain(s.Job(id).Owner)
	}); err != nil {
		t.Fatal(err)
	}
	if err := x.all[third].Control.AwaitEpoch(t.Context(), x.all[third].Control.State().Epoch); err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", x.clients[third].Options().Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	const commands = 6000
	go func() {
		for range commands {
			_, _ = nc.Write([]byte("INCR n\r\n"))
		}
	}()
	go func() {
		time.Sleep(300 * time.Millisecond) // for some rounds of refusals
		x.stores[next].Away(false)
	}()
	in := bufio.NewReader(nc)
	for i := range commands {
		_ = nc.SetReadDeadline(time.Now().Add(20 * time.Second))
		line, err := in.ReadString('\n')
		if err != nil || line[0] == '-' {
			t.Fatalf("reply %d: %q, %v", i, line, err)
		}
	}
}
