package migrator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"keyferry/internal/topology"
	"keyferry/router"
)

// hopelessError is one that waiting can't mend.
type hopelessError struct{ code, text string }

func (e *hopelessError) Error() string { return e.text }

func hopeless(format string, args ...any) error {
	return &hopelessError{"PREFLIGHT", fmt.Sprintf(format, args...)}
}

func isHopeless(err error) bool {
	var h *hopelessError
	return errors.As(err, &h)
}

// preflight checks both ends before anything changes. It may be done again at any time.
func (r *runner) preflight(ctx context.Context) (*Event, error) {
	source, target, err := r.m.ends(ctx, r.job)
	if err != nil {
		return nil, at(fromStore, err)
	}
	timeout := r.m.cfg.CallTimeout
	src, err := dial(ctx, source, r.m.connName(), timeout)
	if err != nil {
		return nil, at(fromSource, err)
	}
	defer src.close()
	dst, err := dial(ctx, target, r.m.connName(), timeout)
	if err != nil {
		return nil, at(fromTarget, err)
	}
	defer dst.close()
	if src.info.runID == dst.info.runID {
		return nil, at(fromTarget, hopeless("%s and %s are the same server", source.Addr, target.Addr))
	}
	for _, l := range []*link{src, dst} {
		origin := fromSource
		if l == dst {
			origin = fromTarget
		}
		if l.info.loading {
			return nil, at(origin, fmt.Errorf("%s is loading its data", l.group.Addr))
		}
		if l.info.role != "master" {
			return nil, at(origin, hopeless("%s is a %s; a group's address must be its primary", l.group.Addr, l.info.role))
		}
	}
	if err := r.trial(ctx, src, dst); err != nil {
		return nil, err
	}
	if err := r.targetFree(ctx, dst); err != nil {
		return nil, err
	}
	return &Event{Kind: Checked, RunID: src.info.runID}, nil
}

// trial moves a key of its own from end to end, with every command that the move will
// use. The key expires by itself should the gateway die in between.
func (r *runner) trial(ctx context.Context, src, dst *link) error {
	const ttl = time.Minute
	key := router.InternalPrefix + r.job.ID
	if err := src.conn.Set(ctx, key, "x", ttl).Err(); err != nil {
		return at(fromSource, explain("SET", err))
	}
	dump, err := src.conn.Dump(ctx, key).Result()
	if err != nil {
		return at(fromSource, explain("DUMP", err))
	}
	if err := src.conn.PTTL(ctx, key).Err(); err != nil {
		return at(fromSource, explain("PTTL", err))
	}
	if err := src.conn.Scan(ctx, 0, "", 1).Err(); err != nil {
		return at(fromSource, explain("SCAN", err))
	}
	if err := src.conn.Unlink(ctx, key).Err(); err != nil {
		return at(fromSource, explain("UNLINK", err))
	}
	if err := dst.conn.RestoreReplace(ctx, key, ttl, dump).Err(); err != nil {
		if strings.Contains(err.Error(), "DUMP payload version") {
			return at(fromTarget, hopeless("RESTORE: the target can't read the source's payloads (source %s, target %s): it must be of the same or a newer version", src.info.version, dst.info.version))
		}
		return at(fromTarget, explain("RESTORE", err))
	}
	if err := dst.conn.Exists(ctx, key).Err(); err != nil {
		return at(fromTarget, explain("EXISTS", err))
	}
	if err := dst.conn.Unlink(ctx, key).Err(); err != nil {
		return at(fromTarget, explain("UNLINK", err))
	}
	for _, l := range []*link{src, dst} { // fencing needs these
		if err := l.conn.ClientList(ctx).Err(); err != nil {
			return at(map[bool]string{true: fromSource, false: fromTarget}[l == src], explain("CLIENT LIST", err))
		}
	}
	return nil
}

// explain marks what no waiting mends: missing rights, missing commands.
func explain(cmd string, err error) error {
	if unmendable(err) {
		code, _, _ := strings.Cut(err.Error(), " ")
		return &hopelessError{code, fmt.Sprintf("%s: %v", cmd, err)}
	}
	return fmt.Errorf("%s: %w", cmd, err)
}

// targetFree looks for keys of the slots at the target. There must be none: what the
// target holds wins over the source.
func (r *runner) targetFree(ctx context.Context, dst *link) error {
	slots := topology.NewSlotSet(r.job.Slots)
	for db := range r.m.databases {
		if err := dst.use(ctx, db); err != nil {
			return at(fromTarget, err)
		}
		for cursor := uint64(0); ; {
			names, next, err := dst.conn.Scan(ctx, cursor, "", r.m.cfg.ScanCount).Result()
			if err != nil {
				return at(fromTarget, err)
			}
			for _, n := range names {
				if s := r.m.scheme.Slot([]byte(n)); slots.Has(s) && !strings.HasPrefix(n, router.InternalPrefix) {
					return at(fromTarget, hopeless("%s holds key %q of slot %d in database %d already: remove the keys of these slots there, then RESUME",
						dst.group.Addr, n, s, db))
				}
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return nil
}
