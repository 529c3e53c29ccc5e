package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/failpoint"
	"keyferry/internal/topology"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
	"keyferry/router"
)

// Keys in the way are keys that the target holds in slots that it is to get. There must be none,
// since what the target holds wins over the source. PURGE removes them when the job begins, if
// the operator has said how many they are: whoever does not know the number does not know what
// these keys are, and they may be the live ones of slots that were given to a wrong group.
//
//	count ─► other than stated: refused
//	  └─► stored (Job.Purging) ─► count again ─► more: refused
//	                                └─► remove, and no more than were counted ─► free
//
// What comes there meanwhile is a direct client's. More keys than were stated are never removed.
// Fewer are right in two cases only, in which the ones that are missing were among those stated:
// when the job itself has removed some in an attempt that broke off, and when some may have
// expired since they were counted (see expiredSince).

// inWay is what is in the way of a job.
type inWay struct {
	keys     int64
	expiring int64  // of them, that have an expiry; looked at only for PURGE
	first    string // one of them
	slot, db int
}

// keepFirst names what keeps keys before what removes them: those in the way may be live ones.
const keepFirst = "look at them with PROXY SLOT CHECK: if anybody needs them, SLOT CHECK FIX ADOPT brings those to the owner that it lacks, " +
	"or SLOT UNASSIGN and SLOT ASSIGN give the slots to the group that has the keys; only if nobody does, MIGRATE … PURGE %d removes them"

// targetFree looks for keys in the way, and removes them if the operator has agreed to that.
func (c *Check) targetFree(ctx context.Context) error {
	var w inWay
	err := c.eachInWay(ctx, func(db int, names []string) error {
		if w.keys == 0 {
			w.first, w.slot, w.db = names[0], c.Scheme.Slot([]byte(names[0])), db
		}
		w.keys += int64(len(names))
		if !c.Job.Purge {
			return nil
		}
		n, err := c.expiring(ctx, names)
		w.expiring += n
		return err
	})
	if err != nil || w.keys == 0 {
		return err
	}
	switch refusal := c.refusePurge(w); {
	case refusal != "":
		c.Fatal("target-free", joberr.Target, c.dst.Group, fmt.Sprintf(keepFirst, w.keys), joberr.Hopeless("%s", refusal))
		c.Found[len(c.Found)-1].Keys = w.keys
	case !c.Act:
		c.add(Warning, "target-free", c.dst, "", "%d keys of these slots are there: PURGE removes them when the job starts", w.keys)
		c.Found[len(c.Found)-1].Keys = w.keys
	case !c.Job.Purging:
		c.Counted = true
		return errStop
	default:
		return c.purge(ctx, w)
	}
	return nil
}

// refusePurge is why keys in the way are not removed; "": they may be.
func (c *Check) refusePurge(w inWay) string {
	stated, again := "", ""
	switch {
	case !c.Job.Purge:
	case w.keys == c.Job.PurgeKeys, w.keys < c.Job.PurgeKeys && (c.Job.Purging || w.expiredSince(c.Job.PurgeKeys)):
		return ""
	case c.Job.PurgeKeys == 0:
		stated = ", and it was not stated how many may be removed"
	default:
		stated = fmt.Sprintf(", and not %d as stated", c.Job.PurgeKeys)
	}
	if c.Act {
		again = "CANCEL of this job and "
	}
	return fmt.Sprintf("%s holds %d keys of these slots already (one is key %.64q of slot %d in database %d)%s: "+
		"keys that somebody needs are brought to their owner by SLOT CHECK FIX ADOPT; the rest are removed by %sMIGRATE … PURGE %d; if none is left, RESUME",
		c.dst.Group.Addr, w.keys, w.first, w.slot, w.db, stated, again, w.keys)
}

// expiredSince reports that keys which are missing may have expired since somebody counted so many:
// no more are missing than there still are with an expiry. Where keys expire all the time an exact
// number could never be stated; where none can expire, somebody else has removed what is missing.
func (w inWay) expiredSince(stated int64) bool { return stated-w.keys <= w.expiring }

// purge removes the keys in the way. The server says how many a UNLINK has removed: no more go than
// were counted, whatever has come since.
func (c *Check) purge(ctx context.Context, w inWay) error {
	failpoint.Hit("preflight.purge.before")
	left := w.keys
	err := c.eachInWay(ctx, func(_ int, names []string) error {
		if int64(len(names)) > left {
			c.Fatal("target-free", joberr.Target, c.dst.Group, fmt.Sprintf(keepFirst, int64(len(names))-left),
				joberr.Hopeless("%s has got keys of these slots, as %q, while PURGE removed %d: who writes there does not come through the gateway; let nobody do that, look at them with PROXY SLOT CHECK, then RESUME", c.dst.Group.Addr, names[0], w.keys-left))
			return errStop
		}
		n, err := c.dst.Conn.Unlink(ctx, names...).Result()
		left -= n
		return joberr.At(joberr.Target, err)
	})
	if err == nil {
		c.add(Warning, "target-free", c.dst, "", "%d keys of these slots were there: PURGE has removed them", w.keys-left)
	}
	return err
}

// eachInWay shows the names of keys in the way, page by page; a name may come twice while a server
// changes the size of its tables.
func (c *Check) eachInWay(ctx context.Context, do func(db int, names []string) error) error {
	slots := topology.NewSlotSet(c.Job.Slots)
	scan, err := link.NewScanner(ctx, c.dst, c.PageTime, c.PageMost)
	if err != nil {
		return joberr.At(joberr.Target, err)
	}
	for db := range c.Databases {
		if err := c.dst.Use(ctx, db); err != nil {
			return joberr.At(joberr.Target, err)
		}
		for cursor := uint64(0); ; {
			names, next, err := scan.Page(ctx, cursor)
			if err != nil {
				return joberr.At(joberr.Target, err)
			}
			names = slices.DeleteFunc(names, func(n string) bool {
				return strings.HasPrefix(n, router.ReservedPrefix) || !slots.Has(c.Scheme.Slot([]byte(n)))
			})
			if len(names) > 0 {
				if err := do(db, names); err != nil {
					return err
				}
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return joberr.At(joberr.Target, c.dst.Use(ctx, 0))
}

// expiring counts those of some keys at the target that have an expiry.
func (c *Check) expiring(ctx context.Context, names []string) (n int64, err error) {
	p := c.dst.Conn.Pipeline()
	left := make([]*redis.DurationCmd, len(names))
	for i, name := range names {
		left[i] = p.PTTL(ctx, name)
	}
	if _, err := p.Exec(ctx); err != nil && !joberr.Refused(err) {
		return 0, joberr.At(joberr.Target, err)
	}
	for _, l := range left {
		if l.Err() == nil && l.Val() >= time.Duration(0) { // -1: none; -2: gone
			n++
		}
	}
	return n, nil
}
