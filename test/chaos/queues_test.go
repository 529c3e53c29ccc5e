package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// queues are lists, streams and counters of one round: what goes in must come out, as
// often as the replies allow.
//
//	RPUSH answered ──► popped exactly once, but for as many as there are pops of unknown outcome
//	RPUSH unknown  ──► popped once or never
//	XADD answered  ──► delivered at least once; never to two who both asked for new entries
//	INCR answered  ──► a number that nobody else was given
type queues struct {
	w     *world
	names []string // of lists; streams have "s" before them, counters "n"

	mu        sync.Mutex // protects what follows
	pushed    map[string]bool
	doubtful  map[string]bool // pushed or added, outcome unknown
	popped    map[string]int
	openPops  int
	added     map[string]bool
	delivered map[string]int // as new entries
	pending   map[string]bool
	numbers   map[string]map[int64]int
	openIncrs map[string]int
	lastFrom  map[string]int // by consumer, list and producer: the last element's number
	disorder  []string
}

const group = "workers"

func newQueues(w *world, round, n int) *queues {
	q := &queues{
		w: w, pushed: map[string]bool{}, doubtful: map[string]bool{}, popped: map[string]int{}, added: map[string]bool{},
		delivered: map[string]int{}, pending: map[string]bool{}, numbers: map[string]map[int64]int{}, openIncrs: map[string]int{},
		lastFrom: map[string]int{},
	}
	c := w.well()
	defer c.Close()
	for i := range n {
		name := fmt.Sprintf("q%d.%d", round, i)
		q.names = append(q.names, name)
		q.numbers[name] = map[int64]int{}
		if err := c.XGroupCreateMkStream(context.Background(), "s"+name, group, "0").Err(); err != nil {
			w.t.Fatal(err)
		}
	}
	return q
}

// produce pushes, adds and counts until ctx ends.
func (q *queues) produce(ctx context.Context, id int) {
	c := q.w.dial(q.w.front.Addr, 1500*time.Millisecond)
	defer c.Close()
	for n := 0; pause(ctx, 2*clientPace); n++ {
		name := q.names[n%len(q.names)]
		item := fmt.Sprintf("%d-%d", id, n)
		var f fate
		switch n / len(q.names) % 3 {
		case 0:
			f = q.w.fateOf(c.RPush(context.Background(), name, item).Err())
			q.note(f, q.pushed, item)
		case 1:
			f = q.w.fateOf(c.XAdd(context.Background(), &redis.XAddArgs{Stream: "s" + name, Values: []any{"item", item}}).Err())
			q.note(f, q.added, item)
		case 2:
			v, err := c.Incr(context.Background(), "n"+name).Result()
			f = q.w.fateOf(err)
			q.counted(f, name, v)
		}
		if f != answered && !pause(ctx, 20*time.Millisecond) {
			return
		}
	}
}

func (q *queues) note(f fate, sure map[string]bool, item string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch f {
	case answered:
		sure[item] = true
	case open:
		q.doubtful[item] = true
	}
}

func (q *queues) counted(f fate, name string, v int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch f {
	case answered:
		q.numbers[name][v]++
	case open:
		q.openIncrs[name]++
	}
}

// consume pops one list, blocking, and reads one stream as a member of its group.
func (q *queues) consume(ctx context.Context, id int) {
	name := q.names[id%len(q.names)]
	c := q.w.dial(q.w.front.Addr, 2*time.Second)
	defer c.Close()
	for n := 0; ctx.Err() == nil; n++ {
		var f fate
		if n%2 == 0 {
			f = q.pop(c, id, name)
		} else {
			f = q.read(c, id, name)
		}
		if f != answered && !pause(ctx, 20*time.Millisecond) {
			return
		}
	}
}

func (q *queues) pop(c *redis.Client, id int, name string) fate {
	got, err := c.BLPop(context.Background(), 300*time.Millisecond, name).Result()
	f := q.w.fateOf(err)
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case f == open:
		q.openPops++
	case f == answered && err == nil:
		q.take(got[1])
		q.inOrder(id, name, got[1])
	}
	return f
}

// take notes a popped element. mu is held.
func (q *queues) take(item string) {
	q.popped[item]++
}

// inOrder demands that one consumer gets one producer's answered elements of one list in
// the order in which they were pushed. mu is held.
func (q *queues) inOrder(id int, name, item string) {
	producer, number, _ := strings.Cut(item, "-")
	var n int
	_, _ = fmt.Sscan(number, &n)
	who := fmt.Sprint(id, name, producer)
	if n < q.lastFrom[who] && q.pushed[item] {
		q.disorder = append(q.disorder, fmt.Sprintf("consumer %d got %s of %s after %d", id, item, name, q.lastFrom[who]))
	}
	q.lastFrom[who] = max(q.lastFrom[who], n)
}

func (q *queues) read(c *redis.Client, id int, name string) fate {
	ctx := context.Background()
	me := fmt.Sprintf("c%d", id)
	got, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: group, Consumer: me, Streams: []string{"s" + name, ">"}, Count: 5, Block: 200 * time.Millisecond}).Result()
	f := q.w.fateOf(err)
	if f != answered || err != nil {
		return f
	}
	for _, m := range got[0].Messages {
		item, _ := m.Values["item"].(string)
		q.mu.Lock()
		q.delivered[item]++
		q.mu.Unlock()
		_ = c.XAck(ctx, "s"+name, group, m.ID).Err() // what stays pending is looked at in the end
	}
	return answered
}

// check empties everything when all is well again, and counts.
func (q *queues) check() {
	ctx := context.Background()
	c := q.w.well()
	defer c.Close()
	for _, name := range q.names {
		q.drain(ctx, c, name)
		q.checkCounter(ctx, c, name)
	}
	lost := 0
	for item := range q.pushed {
		if q.popped[item] == 0 {
			lost++
		}
	}
	if lost > q.openPops {
		q.w.fail("%d pushed elements were never popped, but only %d pops have an unknown outcome", lost, q.openPops)
	}
	for item, n := range q.popped {
		if n > 1 || !q.pushed[item] && !q.doubtful[item] {
			q.w.fail("element %q was popped %d times; pushed for sure: %v, perhaps: %v", item, n, q.pushed[item], q.doubtful[item])
		}
	}
	for item := range q.added {
		if q.delivered[item] == 0 && !q.pending[item] {
			q.w.fail("stream entry %q was never delivered", item)
		}
	}
	for item, n := range q.delivered {
		if n > 1 || !q.added[item] && !q.doubtful[item] {
			q.w.fail("stream entry %q was delivered %d times as new; added for sure: %v, perhaps: %v", item, n, q.added[item], q.doubtful[item])
		}
	}
	for _, d := range q.disorder {
		q.w.fail("%s", d)
	}
	q.w.count("queue elements", len(q.popped)+len(q.delivered))
	q.w.count("ambiguous", q.openPops+len(q.doubtful))
}

func (q *queues) drain(ctx context.Context, c *redis.Client, name string) {
	rest, err := c.LRange(ctx, name, 0, -1).Result()
	if err != nil {
		q.w.fail("list %s: %v", name, err)
	}
	for _, item := range rest {
		q.take(item)
	}
	got, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: group, Consumer: "last", Streams: []string{"s" + name, ">"}, Block: -1}).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		q.w.fail("stream s%s: %v", name, err)
	}
	for _, s := range got {
		for _, m := range s.Messages {
			item, _ := m.Values["item"].(string)
			q.delivered[item]++
		}
	}
	// Entries whose delivery was lost on the way are still in the group's pending list.
	ids, err := c.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: "s" + name, Group: group, Start: "-", End: "+", Count: 100_000}).Result()
	if err != nil {
		q.w.fail("pending of s%s: %v", name, err)
	}
	for _, p := range ids {
		m, err := c.XRange(ctx, "s"+name, p.ID, p.ID).Result()
		if err != nil || len(m) != 1 {
			q.w.fail("pending entry %s of s%s: %v %v", p.ID, name, m, err)
			continue
		}
		item, _ := m[0].Values["item"].(string)
		q.pending[item] = true
	}
}

func (q *queues) checkCounter(ctx context.Context, c *redis.Client, name string) {
	v, err := c.Get(ctx, "n"+name).Int()
	if err != nil && !errors.Is(err, redis.Nil) {
		q.w.fail("counter n%s: %v", name, err)
	}
	sure := 0
	for n, times := range q.numbers[name] {
		sure += times
		if times > 1 || n < 1 || n > int64(v) {
			q.w.fail("counter n%s: %d clients were told %d; it is at %d", name, times, n, v)
		}
	}
	if v < sure || v > sure+q.openIncrs[name] {
		q.w.fail("counter n%s is at %d: %d increments were answered, %d perhaps done", name, v, sure, q.openIncrs[name])
	}
}
