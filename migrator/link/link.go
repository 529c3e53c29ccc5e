// Package link connects the migrator to servers, and knows what a job needs to know of them.
//
// A Link speaks by a general client, for what is rare; a Wire carries batches of keys. Either
// is used by one goroutine, thrown away on the first network error, and known to its server
// by name, so that it can be fenced: kept from executing anything more.
package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/flow"
)

// Link is one connection to one server, for commands that are rare.
type Link struct {
	Group  topology.Group
	Name   string        // that the server knows it by, never used twice
	Info   Info          // as its server was when it was made
	client *redis.Client // owns Conn: a pool of one
	Conn   *redis.Conn
	db     int         // selected
	unhook func() bool // ends the watch over the context of Dial
}

// Info is what a job needs to know of a server's process.
type Info struct {
	RunID     string
	UptimeS   int64 // whole seconds that its process has run
	ReplID    string
	Version   string // with the name, where it is not a Redis
	Role      string
	Policy    string // maxmemory-policy
	Replicas  int
	Loading   bool
	Gateway   bool // it is no server
	Cluster   bool // it runs in cluster mode
	AOF       bool
	UsedBytes int64
	MaxBytes  int64 // 0: no limit
	Keyspace  map[int]upstream.Keyspace
}

// Life tells one course of a server's data from another. A process that was made a replica and
// a primary again has another's data and its own run_id; its replication id is new then.
func (i Info) Life() string { return i.RunID + "/" + i.ReplID }

// Room is how many bytes a server has for the mover; -1 when there is no limit.
func (i Info) Room() int64 {
	return flow.RoomIn(i.UsedBytes, i.MaxBytes, i.Policy != "noeviction")
}

// RoomAgain reports whether a server that was full takes keys again, of about keyCost bytes.
func (i Info) RoomAgain(keyCost int64) bool {
	return flow.RoomAgain(i.Room(), i.MaxBytes, keyCost)
}

// Purposes of connections, in their names.
const (
	ForMoves   = "m" // whatever a job or a look at a group needs
	ForChanges = "c" // before a job is published; see migrator.Manager
)

// Dial connects and reads INFO; when it returns, the server knows the connection's name.
// The connection is closed when ctx ends.
func Dial(ctx context.Context, d *upstream.Dialer, g topology.Group, timeout time.Duration) (*Link, error) {
	return DialAs(ctx, d, g, d.Name(ForMoves), timeout)
}

// DialAs is Dial with a name that the caller has drawn, and noted, before the server knows it:
// whoever fences by name must not find one that nobody has noted yet.
func DialAs(ctx context.Context, d *upstream.Dialer, g topology.Group, name string, timeout time.Duration) (*Link, error) {
	c := d.Client(upstream.Target{Endpoint: g.Endpoint, Name: name}, timeout)
	l := &Link{Group: g, Name: name, client: c, Conn: c.Conn()}
	l.unhook = context.AfterFunc(ctx, func() { _ = c.Close() })
	if err := l.Refresh(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Refresh asks the server once more who it is: its process may have been a replica meanwhile.
func (l *Link) Refresh(ctx context.Context) error {
	p := l.Conn.Pipeline()
	info, own := p.Info(ctx), &redis.IntCmd{}
	if l.db == 0 {
		own = p.Exists(ctx, topology.StampKey)
	}
	_, err := p.Exec(ctx) // also what was wrong when the connection could not be made
	if info.Val() == "" {
		return cmp.Or(info.Err(), err)
	}
	l.Info = readInfo(upstream.ParseInfo(info.Val()).Without(own.Val()))
	return nil
}

// ReadInfo takes what a job needs out of the reply to INFO. What the server does not say is zero,
// which for MaxBytes means no limit, and for a life that no cursor is trusted.
func ReadInfo(text string) Info { return readInfo(upstream.ParseInfo(text)) }

func readInfo(i upstream.Info) Info {
	return Info{
		RunID: i.Get("run_id"), UptimeS: i.Int("uptime_in_seconds"), ReplID: i.Get("master_replid"), Version: version(i), Role: i.Get("role"), Policy: i.Get("maxmemory_policy"),
		Replicas: int(i.Int("connected_slaves")), Loading: i.Get("loading") == "1", AOF: i.Get("aof_enabled") == "1",
		UsedBytes: i.Int("used_memory"), MaxBytes: i.Int("maxmemory"), Gateway: i.Get("keyferry_version") != "", Cluster: i.Get("cluster_enabled") == "1", Keyspace: i.Keyspace(),
	}
}

// version is the server's own one. A Valkey says which Redis it is compatible with as well, which is the
// same for versions that can't read each other's payloads.
func version(i upstream.Info) string {
	if own := i.Get("valkey_version"); own != "" {
		return "Valkey " + own
	}
	return i.Get("redis_version")
}

// Close ends it. Nil has been closed.
func (l *Link) Close() {
	if l == nil {
		return
	}
	l.unhook()
	_ = l.Conn.Close()
	_ = l.client.Close()
}

// Use selects a database when the connection is in another.
func (l *Link) Use(ctx context.Context, db int) error {
	if l.db == db {
		return nil
	}
	if err := l.Conn.Select(ctx, db).Err(); err != nil {
		return err
	}
	l.db = db
	return nil
}

// NoMark is nil when an error of GET says that there is no number under a name: no key, or one of
// another type.
func NoMark(err error) error {
	if errors.Is(err, redis.Nil) || strings.HasPrefix(err.Error(), "WRONGTYPE") {
		return nil
	}
	return err
}

// PTTL is the time to live in ms, -1 for never, -2 where there is no key. A Duration has not
// room for all that servers have.
func PTTL(ctx context.Context, c *redis.Conn, key string) (int64, error) {
	return c.Do(ctx, "PTTL", key).Int64()
}

// Fence kills the named connection at its server; nil is proof.
func Fence(ctx context.Context, d *upstream.Dialer, g topology.Group, name string, timeout time.Duration) error {
	return d.Fence(ctx, g.Endpoint, timeout, func(n string) bool { return n == name })
}

// Keys is how many keys there are, in all databases.
func (i Info) Keys() (n int64) {
	for _, k := range i.Keyspace {
		n += k.Keys
	}
	return n
}

// UnservedKeys is how many keys there are in databases from served on.
func (i Info) UnservedKeys(served int) (keys int64) {
	for db, k := range i.Keyspace {
		if db >= served {
			keys += k.Keys
		}
	}
	return keys
}

// Unserved tells of keys in databases from served on: which no gateway that serves so many
// reaches or moves. "": there are none.
func (i Info) Unserved(served int) string {
	var where []string
	for _, db := range slices.Sorted(maps.Keys(i.Keyspace)) {
		if n := i.Keyspace[db].Keys; db >= served && n > 0 {
			where = append(where, fmt.Sprintf("%d in database %d", n, db))
		}
	}
	keys := i.UnservedKeys(served)
	if keys == 0 {
		return ""
	}
	const most = 8
	if len(where) > most {
		where = append(where[:most], "…")
	}
	return fmt.Sprintf("%d keys in databases that are not served (%s): the gateway serves %d (cluster.databases), so nobody reaches those keys through it and no job moves them",
		keys, strings.Join(where, ", "), served)
}
