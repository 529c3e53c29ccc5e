package preflight

import (
	"context"
	"math"

	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
)

// limits compares how large a value each end takes: a key that the source holds may be one that
// the target cuts the connection for.
func (c *Check) limits(ctx context.Context) error {
	src, err := limitOf(ctx, c.src)
	if err != nil {
		return joberr.At(joberr.Source, err)
	}
	dst, err := limitOf(ctx, c.dst)
	if err != nil {
		return joberr.At(joberr.Target, err)
	}
	if dst.Most() < src.Most() && src.Most() < math.MaxInt64 {
		c.add(Warning, "limits", c.dst, "CONFIG SET "+dst.Setting+" there to what the source has",
			"it takes values of at most %d bytes (%s), the source of %d (%s): keys that are larger stay at the source, and the job fails with their names when all others have been moved", dst.Bytes, dst.Setting, src.Bytes, src.Setting)
	}
	if src.Most() < dst.Most() && dst.Most() < math.MaxInt64 {
		c.add(Info, "way-back", c.src, "", "it takes values of at most %d bytes (%s), the target of %d: what clients write there that is larger could not come back by a REVERT", src.Bytes, src.Setting, dst.Bytes)
	}
	return nil
}

// limitOf is the zero limit where the server does not tell.
func limitOf(ctx context.Context, l *link.Link) (limit link.Limit, err error) {
	for _, setting := range link.BulkLimits {
		all, err := l.Conn.ConfigGet(ctx, setting).Result()
		if err != nil && !joberr.Refused(err) {
			return limit, err
		}
		limit = limit.Lower(setting, all[setting])
	}
	return limit, nil
}
