package keymove

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
)

// Comparer compares keys at both ends while they are locked: after RESTORE and before the
// source gives them up, when nothing else touches either copy.
//
// One Comparer serves all workers of a job, one key at a time, over connections of its own: what
// it reads is large, and must not stand before the commands of a batch. Its error stops the job,
// since a copy that differs means that something is wrong with a server, or with the mover.
type Comparer struct {
	Share float64 // of the keys; 0: none. Set before the first worker runs
	// DialSource and DialTarget connect for as long as their context lives.
	DialSource, DialTarget func(context.Context) (*link.Link, error)
	Listener               Listener

	mu       sync.Mutex // protects what follows; held across I/O, since the links are one user's
	src, dst *link.Link
	end      context.CancelFunc // cuts both
}

// wants reports whether a key is in the sample: by its name, so that trying again looks at
// the same ones.
func (c *Comparer) wants(mv *Key) bool {
	if c == nil || c.Share == 0 || !mv.Restored {
		return false
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(mv.Name))
	return float64(h.Sum32()) < c.Share*(1<<32)
}

// Close ends its connections.
func (c *Comparer) Close() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.src.Close()
	c.dst.Close()
	c.src, c.dst = nil, nil
}

// compare looks at those of the moves that are in the sample. A copy that differs from its
// source is taken away again, and the key stays; the error then ends the job.
func (c *Comparer) compare(ctx context.Context, moves []*Key) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, mv := range moves {
		if !c.wants(mv) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return joberr.At(joberr.Gateway, err)
		}
		e := c.one(ctx, mv)
		if e != nil {
			if joberr.IsHopeless(e) { // the others of the batch are looked at all the same
				err = e
				continue
			}
			c.src.Close()
			c.dst.Close()
			c.src, c.dst = nil, nil
			return e
		}
		mv.Restored = false // compared
		c.Listener.Compared(true)
	}
	return err
}

// one compares one key.
func (c *Comparer) one(ctx context.Context, mv *Key) (err error) {
	if c.src == nil || c.dst == nil {
		// The links outlive this call.
		life, end := context.WithCancel(context.WithoutCancel(ctx))
		c.end = end
		defer context.AfterFunc(ctx, end)() // … but don't outlast it when it is to end now
		if c.src, err = c.DialSource(life); err != nil {
			c.src = nil
			return fromSource(err)
		}
		if c.dst, err = c.DialTarget(life); err != nil {
			c.dst = nil
			return fromTarget(err)
		}
	} else {
		defer context.AfterFunc(ctx, c.end)()
	}
	why, err := c.differs(ctx, mv)
	if err == nil && why != "" {
		err = c.takeBack(ctx, mv, why)
	}
	return err
}

// takeBack removes a copy that is not what it should be. Without an answer it may still be
// removed at any later time, so that its connection has to be fenced first.
func (c *Comparer) takeBack(ctx context.Context, mv *Key, why string) error {
	err := c.dst.Conn.Unlink(ctx, mv.Name).Err()
	switch {
	case err == nil:
		mv.Step = mv.Step.Next(Absent)
	case refused(err):
		return fromTarget(err)
	default:
		mv.Step, mv.fence = mv.Step.Retract(), c.dst.Name
		return fromTarget(err)
	}
	c.Listener.Compared(false)
	return fromTarget(&joberr.HopelessError{Code: "VERIFY", Text: fmt.Sprintf("key %q of database %d differed after RESTORE (%s); the copy has been removed and the key stays at the source", mv.Name, mv.DB, why)})
}

// differs says in what the two copies of a key differ; "": in nothing.
func (c *Comparer) differs(ctx context.Context, mv *Key) (why string, err error) {
	if err := c.src.Use(ctx, mv.DB); err != nil {
		return "", fromSource(err)
	}
	if err := c.dst.Use(ctx, mv.DB); err != nil {
		return "", fromTarget(err)
	}
	k := mv.Name
	a, err := c.src.Conn.Dump(ctx, k).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return "", nil // it has expired, and will at the target
	case err != nil:
		return "", fromSource(err)
	}
	b, err := c.dst.Conn.Dump(ctx, k).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return c.lacking(ctx, k)
	case err != nil:
		return "", fromTarget(err)
	}
	if a != b { // the same value can be laid out otherwise
		if why, err := c.values(ctx, k); err != nil || why != "" {
			return why, err
		}
	}
	return c.expiry(ctx, k)
}

// lacking decides about a key that the target has no more: it may have expired there a
// moment before it does at the source.
func (c *Comparer) lacking(ctx context.Context, k string) (string, error) {
	e, err := AskExpiry(ctx, c.src.Conn, k)
	if err != nil {
		return "", fromSource(err)
	}
	if e.gone() {
		return "", nil
	}
	now := time.Now()
	if e.absolute { // by the clock that goes by it
		if now, err = c.dst.Conn.Time(ctx).Result(); err != nil {
			return "", fromTarget(err)
		}
	}
	if kind, err := c.src.Conn.Type(ctx, k).Result(); err != nil {
		return "", fromSource(err)
	} else if kind == "none" || kind == "hash" {
		if why, err := c.vanished(ctx, k, kind); err != nil || why == "" {
			return why, err
		}
	}
	if e.ms >= 0 && e.at() <= now.Add(e.tolerance()).UnixMilli() {
		return "", nil
	}
	return "the target does not have it", nil
}

// expiry compares when the two copies expire.
// Both are asked one after the other, and one of the keys may expire in between: then the other
// does so a moment later, and nothing differs.
func (c *Comparer) expiry(ctx context.Context, k string) (string, error) {
	a, err := AskExpiry(ctx, c.src.Conn, k)
	if err != nil {
		return "", fromSource(err)
	}
	b, err := AskExpiry(ctx, c.dst.Conn, k)
	if err != nil {
		return "", fromTarget(err)
	}
	if a.gone() || b.gone() {
		return "", nil
	}
	if a.absolute != b.absolute { // of one only what is left is known: by that of both
		a.ms, err = link.PTTL(ctx, c.src.Conn, k)
		if err != nil {
			return "", fromSource(err)
		}
		b.ms, err = link.PTTL(ctx, c.dst.Conn, k)
		if err != nil {
			return "", fromTarget(err)
		}
		a, b = ReadExpiry(AskLeft, a.ms), ReadExpiry(AskLeft, b.ms)
	}
	apart := max(a.ms, b.ms) - min(a.ms, b.ms)
	if a.gone() || b.gone() || a.ms < 0 && b.ms < 0 || a.ms >= 0 && b.ms >= 0 && apart <= a.tolerance().Milliseconds() {
		return "", nil
	}
	words := "in %d ms"
	if a.absolute {
		words = "at %d ms of 1970"
	}
	return fmt.Sprintf("expires "+words+" by the source, "+words+" by the target; -1: never", a.ms, b.ms), nil
}

// values compares what the copies hold, by their type.
func (c *Comparer) values(ctx context.Context, k string) (string, error) {
	kind, err := c.src.Conn.Type(ctx, k).Result()
	if err != nil {
		return "", fromSource(err)
	}
	other, err := c.dst.Conn.Type(ctx, k).Result()
	if err != nil {
		return "", fromTarget(err)
	}
	switch {
	case kind == "none":
		return "", nil
	case other == "none":
		return c.lacking(ctx, k)
	case kind != other:
		return fmt.Sprintf("type %s at the source, %s at the target", kind, other), nil
	}
	a, b, err := c.contents(ctx, kind, k)
	if err == nil && !slices.Equal(a, b) { // the key, or a field of it, may have expired between the two
		return c.again(ctx, kind, k)
	}
	return "", err
}

// again looks a second time at values that seemed to differ. Other than the first time, a value that
// is there no more is one that has expired.
func (c *Comparer) again(ctx context.Context, kind, k string) (string, error) {
	a, b, err := c.contents(ctx, kind, k)
	switch {
	case err != nil:
		return "", err
	case len(a) == 0:
		return "", nil
	case len(b) == 0:
		return c.lacking(ctx, k)
	case !slices.Equal(a, b):
		return fmt.Sprintf("its elements, of type %s: %d at the source, %d at the target", kind, len(a), len(b)), nil
	}
	return "", nil
}

func (c *Comparer) contents(ctx context.Context, kind, k string) (a, b []string, err error) {
	if a, err = content(ctx, c.src.Conn, kind, k); err != nil {
		return nil, nil, fromSource(err)
	}
	if b, err = content(ctx, c.dst.Conn, kind, k); err != nil {
		return nil, nil, fromTarget(err)
	}
	return a, b, nil
}

// vanished decides about a key that one end has no more: it has expired, or is a hash of which every
// field has, which a server may keep empty for a while.
func (c *Comparer) vanished(ctx context.Context, k, kind string) (string, error) {
	if kind == "none" {
		return "", nil
	}
	fields, err := content(ctx, c.src.Conn, kind, k)
	if err != nil {
		return "", fromSource(err)
	}
	if len(fields) == 0 {
		return "", nil
	}
	return "the target does not have it", nil
}

// stored are the fields of XINFO GROUPS that the servers keep. Others, as lag and entries-read, each
// version derives in its own way.
var stored = []string{"name", "consumers", "pending", "last-delivered-id"}

// groupFacts are those of a reply, which is of maps or of lists.
func groupFacts(reply any) (list []string) {
	groups, _ := reply.([]any)
	for _, g := range groups {
		facts, ok := g.(map[any]any)
		if flat, isList := g.([]any); !ok && isList {
			facts = make(map[any]any)
			for i := 0; i+1 < len(flat); i += 2 {
				facts[flat[i]] = flat[i+1]
			}
		}
		for _, f := range stored {
			list = append(list, fmt.Sprintf("%s %v", f, facts[f]))
		}
	}
	return list
}

// content is all of a value in an order that does not depend on how it is laid out; nothing, of a
// key that is not there.
func content(ctx context.Context, conn *redis.Conn, kind, k string) (list []string, err error) {
	switch kind {
	case "string":
		var v string
		v, err = conn.Get(ctx, k).Result()
		if errors.Is(err, redis.Nil) { // it has expired
			return nil, nil
		}
		return []string{v}, err
	case "list":
		return conn.LRange(ctx, k, 0, -1).Result()
	case "set":
		list, err = conn.SMembers(ctx, k).Result()
		slices.Sort(list)
	case "hash":
		var h map[string]string
		h, err = conn.HGetAll(ctx, k).Result()
		for _, f := range slices.Sorted(maps.Keys(h)) {
			list = append(list, f, h[f])
		}
	case "zset":
		var z []redis.Z
		z, err = conn.ZRangeWithScores(ctx, k, 0, -1).Result()
		for _, e := range z {
			list = append(list, fmt.Sprint(e.Member), strconv.FormatFloat(e.Score, 'g', -1, 64))
		}
	case "stream":
		var s any
		s, err = conn.Do(ctx, "XRANGE", k, "-", "+").Result()
		list = []string{fmt.Sprint(s)}
		if err == nil {
			s, err = conn.Do(ctx, "XINFO", "GROUPS", k).Result()
			if err != nil && strings.HasSuffix(err.Error(), "no such key") {
				return nil, nil
			}
			list = append(list, groupFacts(s)...)
		}
	default: // of a module, which may lay out a value anew: RESTORE has checked its sum
		return nil, nil
	}
	return list, err
}
