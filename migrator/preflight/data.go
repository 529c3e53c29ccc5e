package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/job"
	"keyferry/migrator/joberr"
	"keyferry/migrator/keymove"
	"keyferry/migrator/link"
	"keyferry/router"
)

// ownPayload is what durability may need, when a connection is lost: see keymove.Target.Touch.
const ownPayload = "RESTORE of the gateway's own payload"

// trial moves a key of its own from end to end, with every command that the move will
// use. The key expires by itself should the gateway die in between.
func (c *Check) trial(ctx context.Context) error {
	const ttl = time.Minute
	key := router.ReservedPrefix + c.Job.ID
	src, dst := c.src.Conn, c.dst.Conn
	var dump string
	for _, s := range []struct {
		l    *link.Link
		name string
		do   func() error
	}{
		{c.src, "SET", func() error { return src.Set(ctx, key, "x", ttl).Err() }},
		{c.src, "DUMP", func() (err error) { dump, err = src.Dump(ctx, key).Result(); return err }},
		{c.src, "PTTL", func() error { return src.PTTL(ctx, key).Err() }},
		{c.src, "SCAN", func() error { return src.Scan(ctx, 0, "", 1).Err() }},
		{c.src, "UNLINK", func() error { return src.Unlink(ctx, key).Err() }},
		{c.dst, "RESTORE", func() error { return dst.RestoreReplace(ctx, key, ttl, dump).Err() }},
		{c.dst, ownPayload, func() error { return dst.RestoreReplace(ctx, key, ttl, keymove.TouchDump).Err() }},
		{c.dst, "EXISTS", func() error { return dst.Exists(ctx, key).Err() }},
		{c.dst, "UNLINK", func() error { return dst.Unlink(ctx, key).Err() }},
		{c.src, "CLIENT LIST", func() error { return src.ClientList(ctx).Err() }}, // fencing needs these
		{c.dst, "CLIENT LIST", func() error { return dst.ClientList(ctx).Err() }},
	} {
		err := s.do()
		switch {
		case err == nil:
		case !joberr.Refused(err):
			return joberr.At(c.origin(s.l), err)
		case strings.Contains(err.Error(), "DUMP payload version") && s.name != ownPayload:
			c.Fatal("version", joberr.Target, c.dst.Group, "move to a server of the same or a newer version",
				joberr.Hopeless("RESTORE: the target can't read the source's payloads (source %s, target %s): it must be of the same or a newer version", c.src.Info.Version, c.dst.Info.Version))
			return errStop
		case strings.Contains(err.Error(), "OOM ") && s.l == c.src:
			// Why it is to give keys away. Those that it has are tried below.
			c.add(Info, "memory", c.src, "", "it is full: %v", err)
			c.Life = c.src.Info.Life()
			return nil
		case strings.Contains(err.Error(), "OOM "):
			c.Fatal("memory", joberr.Target, c.dst.Group, "raise its maxmemory, or free some", joberr.Explain(s.name, err))
			return errStop
		default:
			what, advice := refusal(err)
			c.Fatal(what, c.origin(s.l), s.l.Group, advice, joberr.Explain(s.name, err))
			return errStop
		}
	}
	c.Life = c.src.Info.Life()
	return nil
}

// databases checks that the target has those that the source uses. It is asked for the last
// one only: a server has all up to the number that it is configured for.
func (c *Check) databases(ctx context.Context) error {
	for _, l := range []*link.Link{c.src, c.dst} {
		if text := l.Info.Unserved(c.Databases); text != "" {
			c.add(Warning, "databases", l, "raise cluster.databases of a new gateway, or move these keys yourself, before the server is given up", "it has %s", text)
		}
	}
	last := c.Databases - 1
	if err := c.dst.Use(ctx, last); err != nil {
		if !joberr.Refused(err) {
			return joberr.At(joberr.Target, err)
		}
		c.Fatal("databases", joberr.Target, c.dst.Group, "raise databases in its configuration, or lower cluster.databases",
			joberr.Hopeless("it has no database %d: the cluster has %d", last, c.Databases))
		return errStop
	}
	return joberr.At(joberr.Target, c.dst.Use(ctx, 0))
}

const (
	sampledPages = 5       // of each database, to find keys of every type
	sampleBytes  = 1 << 20 // larger samples prove nothing more
)

// types restores a payload of each type of key that a sample of the source shows. A version
// says which types a server knows, but not which of them a source has, nor which modules there
// are; and a target that lacks one would stop the job at the first such key, half way.
func (c *Check) types(ctx context.Context) error {
	seen := make(map[string]bool)
	slots := topology.NewSlotSet(c.Job.Slots)
	scan, err := link.NewScanner(ctx, c.src, c.PageTime, c.PageMost)
	if err != nil {
		return joberr.At(joberr.Source, err)
	}
	for db := range c.Databases {
		if err := c.src.Use(ctx, db); err != nil {
			return joberr.At(joberr.Source, err)
		}
		for cursor, n := uint64(0), 0; n < sampledPages; n++ {
			names, next, err := scan.Page(ctx, cursor)
			if err != nil {
				return joberr.At(joberr.Source, err)
			}
			names = slices.DeleteFunc(names, func(k string) bool { return !slots.Has(c.Scheme.Slot([]byte(k))) })
			if err := c.typesOf(ctx, names, seen); err != nil {
				return err
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return joberr.At(joberr.Source, c.src.Use(ctx, 0))
}

// typesOf tries those types among some keys that have not been tried yet. Keys of users are read,
// and nothing is written but a key of our own, which expires by itself.
func (c *Check) typesOf(ctx context.Context, names []string, seen map[string]bool) error {
	p := c.src.Conn.Pipeline()
	kinds := make([]*redis.StatusCmd, len(names))
	for i, k := range names {
		kinds[i] = p.Type(ctx, k)
	}
	if len(names) == 0 {
		return nil
	}
	if _, err := p.Exec(ctx); err != nil && !joberr.Refused(err) {
		return joberr.At(joberr.Source, err)
	}
	for i, k := range names {
		kind := kinds[i].Val()
		if kind == "" || kind == "none" || seen[kind] {
			continue
		}
		if n, err := c.src.Conn.MemoryUsage(ctx, k).Result(); err == nil && n > sampleBytes {
			continue
		}
		dump, err := c.specimen(ctx, kind)
		if err != nil {
			dump, err = c.src.Conn.Dump(ctx, k).Result()
		}
		if err != nil { // gone meanwhile
			continue
		}
		seen[kind] = true
		key := router.ReservedPrefix + c.Job.ID
		err = c.dst.Conn.RestoreReplace(ctx, key, time.Minute, dump).Err()
		if err == nil {
			err = c.dst.Conn.Unlink(ctx, key).Err()
		}
		if err != nil && !joberr.Refused(err) {
			return joberr.At(joberr.Target, err)
		}
		if err != nil {
			c.Fatal("types", joberr.Target, c.dst.Group, "a newer server, or the module that the type comes from", joberr.Hopeless("RESTORE of a key of type %s (%.64q): %v", kind, k, err))
		}
	}
	return nil
}

// specimens make a key of each type that servers have without modules.
var specimens = map[string][]any{
	"string": {"APPEND", "", "x"}, "list": {"RPUSH", "", "x"}, "set": {"SADD", "", "x"}, "zset": {"ZADD", "", 1, "x"},
	"hash": {"HSET", "", "x", "y"}, "stream": {"XADD", "", "1-1", "x", "y"},
}

// specimen is the DUMP of a key of a type that is made for it, where a DUMP of one of the
// users' would show: it counts as an access, which servers that evict keep for each key.
func (c *Check) specimen(ctx context.Context, kind string) (string, error) {
	how, ok := specimens[kind]
	if !ok || c.src.Info.Policy == "noeviction" && c.dst.Info.Policy == "noeviction" {
		return "", errNoSpecimen
	}
	key := router.ReservedPrefix + c.Job.ID
	args := append([]any(nil), how...)
	args[1] = key
	p := c.src.Conn.TxPipeline()
	p.Del(ctx, key)
	p.Do(ctx, args...)
	dump := p.Dump(ctx, key)
	p.Del(ctx, key)
	_, err := p.Exec(ctx)
	return dump.Val(), err
}

var errNoSpecimen = errors.New("a key of the users' will do, or has to")

// memory compares what is to come with what there is room for. A target that is full now is
// fatal, since the job could move nothing; one that will be is not, since somebody may free
// memory before that, and a job that meets a full target pauses and loses nothing.
func (c *Check) memory(context.Context) error {
	room := c.dst.Info.Room()
	switch {
	case room < 0:
	case room == 0:
		c.Fatal("memory", joberr.Target, c.dst.Group, "raise its maxmemory, or free some",
			&joberr.FullError{Used: c.dst.Info.UsedBytes, Most: c.dst.Info.MaxBytes})
	case c.Bytes > room:
		c.add(Warning, "memory", c.dst, "raise its maxmemory: the job would pause when it is full, and go on by itself when there is room",
			"about %d bytes are to come and there is room for %d (maxmemory %d, in use %d)", c.Bytes, room, c.dst.Info.MaxBytes, c.dst.Info.UsedBytes)
	}
	return nil
}

// policies compares what the servers do with their data. None of it stops a job: a migration is
// often made to get away from just that, and only the operator knows which of the two is right.
func (c *Check) policies(ctx context.Context) error {
	src, dst := c.src.Info, c.dst.Info
	if dst.MaxBytes > 0 && strings.HasPrefix(dst.Policy, "allkeys") {
		c.add(Warning, "eviction", c.dst, "set maxmemory-policy noeviction if no key may be lost", "it evicts keys when it is full (%s)", dst.Policy)
	}
	if src.Policy != dst.Policy {
		c.add(Info, "eviction", c.dst, "", "maxmemory-policy is %s, at the source %s", dst.Policy, src.Policy)
	}
	if err := c.persistence(ctx); err != nil {
		return err
	}
	if src.Replicas > 0 && dst.Replicas == 0 {
		c.add(Warning, "replicas", c.dst, "add a replica first", "it has no replica, and the source has %d", src.Replicas)
	}
	return nil
}

// persistence is what a restart of the target leaves of the keys that the source has given up.
func (c *Check) persistence(ctx context.Context) error {
	if c.dst.Info.AOF {
		return nil
	}
	const advice = "CONFIG SET appendonly yes"
	conf, err := c.dst.Conn.ConfigGet(ctx, "save").Result()
	if err != nil && !joberr.Refused(err) {
		return joberr.At(joberr.Target, err)
	}
	save, told := conf["save"]
	switch {
	case told && save == "":
		c.add(Warning, "persistence", c.dst, advice, "it keeps nothing on disk (appendonly no, save \"\"): if it restarts, all keys that the source has given up by then are lost")
	case c.src.Info.AOF:
		c.add(Warning, "persistence", c.dst, advice, "it has no append-only file, and the source has one: if it restarts, keys that came after its last snapshot are lost")
	case told:
		c.add(Info, "persistence", c.dst, advice, "it has snapshots only (save %s): if it restarts, keys that came after the last one are lost", save)
	}
	return nil
}

// directClients are those of either end that did not come through a gateway. What they write while
// its slot moves can be lost, or what they write at the target wins over the key.
func (c *Check) directClients(ctx context.Context) error {
	for _, l := range []*link.Link{c.src, c.dst} {
		text, err := l.Conn.ClientList(ctx).Result()
		if err != nil {
			return joberr.At(c.origin(l), err)
		}
		if direct := upstream.DirectClients(text); len(direct) > 0 {
			var addrs []string
			for _, d := range direct {
				addrs = append(addrs, d.Addr)
			}
			c.add(Warning, "clients", l, "let them connect to the gateway: what they write while its slot moves can be lost, or be taken for the key",
				"%d clients are connected past the gateway: %s", len(addrs), strings.Join(addrs[:min(len(addrs), 3)], ", "))
		}
	}
	return nil
}

// fence sees to it that nothing comes to the target that was sent before this.
func (c *Check) fence(ctx context.Context) error {
	if !c.Act {
		return nil
	}
	return c.Fence(ctx, c.dst.Group)
}

// functions brings the libraries that the target lacks, so that what is called with keys of
// these slots is there.
//
// A library that both have and that differs is left alone: which of the two is newer nobody can
// tell from here, and scripts at the target may rely on theirs.
func (c *Check) functions(ctx context.Context) error {
	list := func(l *link.Link) (map[string]string, error) {
		out := make(map[string]string)
		libs, err := l.Conn.FunctionList(ctx, redis.FunctionListQuery{WithCode: true}).Result()
		if err != nil && !joberr.Refused(err) {
			return nil, joberr.At(c.origin(l), err)
		}
		for _, lib := range libs { // a server that refuses has none, or we may not see them
			out[lib.Name] = lib.Code
		}
		return out, nil
	}
	have, err := list(c.src)
	if err != nil || len(have) == 0 {
		return err
	}
	there, err := list(c.dst)
	if err != nil {
		return err
	}
	for name, code := range have {
		other, ok := there[name]
		switch {
		case ok && other != code:
			c.add(Warning, "functions", c.dst, "FUNCTION LOAD REPLACE through the gateway brings it to every group", "library %s differs from the source's", name)
		case !ok && c.Act:
			if err := c.dst.Conn.FunctionLoad(ctx, code).Err(); err != nil {
				if !joberr.Refused(err) {
					return joberr.At(joberr.Target, err)
				}
				c.Fatal("functions", joberr.Target, c.dst.Group, "load it there by hand", fmt.Errorf("FUNCTION LOAD of library %s: %w", name, err))
			}
		case !ok:
			c.add(Info, "functions", c.dst, "", "library %s is brought there when the job starts", name)
		}
	}
	return nil
}

// durable checks that the target can give what the job asks for.
func (c *Check) durable(ctx context.Context) error {
	switch c.Job.Durability {
	case job.DurabilityReplica:
		if c.dst.Info.Replicas == 0 {
			c.Fatal("durability", joberr.Target, c.dst.Group, "add a replica, or move with DURABILITY none", joberr.Hopeless("DURABILITY replica: the target has no replica"))
		}
	case job.DurabilityAOF:
		err := c.dst.Conn.Do(ctx, "WAITAOF", 1, 0, 1).Err()
		if err != nil && !joberr.Refused(err) {
			return joberr.At(joberr.Target, err)
		}
		if err != nil {
			c.Fatal("durability", joberr.Target, c.dst.Group, "appendonly yes on Redis 7.2 or newer, or move with DURABILITY none", joberr.Hopeless("DURABILITY aof: %v", err))
		}
	}
	return nil
}
