package preflight

import (
	"context"
	"strings"

	"keyferry/internal/resp"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
)

// events makes the target tell of the keyspace events of which the source tells: whoever
// listens would miss those of keys that have moved.
//
// The flags are added and never taken away: the target may have listeners of its own who rely on
// what it tells already.
func (c *Check) events(ctx context.Context) error {
	flags := func(l *link.Link) (string, error) {
		got, err := l.Conn.ConfigGet(ctx, resp.NotifySetting).Result()
		if err != nil && !joberr.Refused(err) {
			return "", joberr.At(c.origin(l), err)
		}
		return string(resp.NotifyFlags([]byte(got[resp.NotifySetting]))), nil // "" if we may not see it
	}
	want, err := flags(c.src)
	if err != nil || !strings.ContainsAny(want, "KE") { // without these it tells of nothing
		return err
	}
	have, err := flags(c.dst)
	if err != nil {
		return err
	}
	all := have
	for _, f := range want {
		if !strings.ContainsRune(have, f) {
			all += string(f)
		}
	}
	switch {
	case all == have:
	case !c.Act:
		c.add(Info, "events", c.dst, "", "%s is made %s when the job starts, as the source needs it", resp.NotifySetting, all)
	default:
		if err := c.dst.Conn.ConfigSet(ctx, resp.NotifySetting, all).Err(); joberr.Refused(err) {
			c.add(Warning, "events", c.dst, "set it there by hand", "%s can't be made %s: %v", resp.NotifySetting, all, err)
		} else if err != nil {
			return joberr.At(joberr.Target, err)
		}
	}
	return nil
}
