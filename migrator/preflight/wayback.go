package preflight

import (
	"context"
	"fmt"
	"strings"
	"time"

	"keyferry/internal/topology"
	"keyferry/migrator/joberr"
	"keyferry/migrator/keymove"
	"keyferry/migrator/link"
	"keyferry/router"
)

// wayBack tries whether the source would take back what the target gives. It stops no job; but
// whoever counts on REVERT should know before anything has moved.
func (c *Check) wayBack(ctx context.Context) error {
	at, err := c.tryOwn(ctx, c.dst, c.src)
	switch {
	case err == nil || joberr.IsOOM(err):
		c.roomForReturn()
	case !joberr.Refused(err):
		return joberr.At(c.origin(at), err)
	default:
		c.add(Warning, "way-back", at, "move to a server of the source's version, with the same rights at both, if you may want to come back",
			"once keys have moved the job can't be reverted: %v", c.explainWay(c.dst, c.src, err))
	}
	return nil
}

// roomForReturn: a source that is over its maxmemory gives memory back by what moves, but has no
// room for all of it again. One that is not has, unless others fill it meanwhile.
func (c *Check) roomForReturn() {
	i := c.src.Info
	over := i.UsedBytes - i.MaxBytes
	if i.MaxBytes <= 0 || over <= 0 {
		return
	}
	c.add(Warning, "way-back", c.src, "raise its maxmemory before you revert the job",
		"it is over its maxmemory (%d bytes in use, of %d): once keys have moved, at least the last %d bytes of them would find no room when they come back: %s", i.UsedBytes, i.MaxBytes, over, whenFull(i.Policy))
}

// whenFull is what becomes of keys that come to a server without room for them.
func whenFull(policy string) string {
	if policy != "noeviction" {
		return "it evicts keys then (" + policy + ")"
	}
	return "a REVERT pauses there, and goes on by itself when there is room"
}

// weighReturn compares what is to come back with the room for it. Like every estimate it stops nobody.
func (c *Check) weighReturn(ctx context.Context) {
	i := c.dst.Info
	if i.MaxBytes <= 0 || c.Moved == 0 {
		return
	}
	room := i.Room()
	if room < 0 { // it evicts: to the mover that is room
		room = max(0, i.MaxBytes-i.UsedBytes)
	}
	size := KeyBytes(ctx, c.src, c.Databases)
	if bytes := int64(size * float64(c.Moved)); room == 0 || size > 0 && bytes > room {
		c.add(Warning, "memory", c.dst, "raise its maxmemory",
			"about %d keys of %d bytes altogether are to come back and there is room for %d (maxmemory %d, in use %d): %s", c.Moved, max(bytes, 0), room, i.MaxBytes, i.UsedBytes, whenFull(i.Policy))
	}
}

// TryWay tries whether keys can go from one group to another while a job is about them: by a key of
// our own, and by payloads of the types that the job's slots have. Errors: those of to have the
// origin joberr.Source, those of from joberr.Target, since the job has gone the other way so far.
// What waiting can't mend is hopeless. Whether a full server could is not known.
func (c *Check) TryWay(ctx context.Context, from, to topology.Group) error {
	defer func() { c.HangUp(c.src); c.HangUp(c.dst) }()
	err := c.tryWay(ctx, from, to)
	if err == nil {
		err = c.FirstFatal()
	}
	o := joberr.Of(err)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case o == nil:
		return err
	case o.Origin == joberr.Source:
		return joberr.At(joberr.Target, o.Err)
	}
	return joberr.At(joberr.Source, o.Err)
}

func (c *Check) tryWay(ctx context.Context, from, to topology.Group) error {
	if !c.dial(ctx, from, to) {
		return nil // FirstFatal says why
	}
	at, err := c.tryOwn(ctx, c.src, c.dst)
	switch {
	case err == nil:
		err = c.types(ctx)
		c.weighReturn(ctx)
		return err
	case joberr.IsOOM(err):
		c.weighReturn(ctx)
		return nil
	case joberr.Refused(err):
		err = c.explainWay(c.src, c.dst, err)
	}
	return joberr.At(c.origin(at), err)
}

// tryOwn brings a key of our own from one end to the other, and says where it failed.
func (c *Check) tryOwn(ctx context.Context, from, to *link.Link) (at *link.Link, err error) {
	const ttl = time.Minute
	key := router.ReservedPrefix + c.Job.ID + ":back"
	if err = from.Conn.RestoreReplace(ctx, key, ttl, keymove.TouchDump).Err(); err != nil {
		return from, err
	}
	dump, err := from.Conn.Dump(ctx, key).Result()
	if e := from.Conn.Unlink(ctx, key).Err(); err == nil {
		err = e
	}
	if err != nil {
		return from, err
	}
	if err = to.Conn.RestoreReplace(ctx, key, ttl, dump).Err(); err == nil {
		err = to.Conn.Unlink(ctx, key).Err()
	}
	return to, err
}

// explainWay says why keys can't go from one end to the other.
func (c *Check) explainWay(from, to *link.Link, err error) error {
	if strings.Contains(err.Error(), "DUMP payload version") {
		return joberr.Hopeless("%s (%s) can't read the payloads of %s (%s): it must be of the same or a newer version",
			Where(to.Group), to.Info.Version, Where(from.Group), from.Info.Version)
	}
	return joberr.Explain(fmt.Sprintf("moving a key from %s to %s", Where(from.Group), Where(to.Group)), err)
}
