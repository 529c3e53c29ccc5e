package migrator

import (
	"context"
	"time"

	"keyferry/migrator/flow"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
)

// scanner asks a server for pages of SCAN where no pass does, of a size that it makes in
// the same time as for one.
type scanner struct {
	l      *link.Link
	size   flow.ScanSize
	ping   time.Duration
	target time.Duration
	most   int
}

// newScanner measures the way to the server. One that refuses PING has answered as well.
func (m *Manager) newScanner(ctx context.Context, l *link.Link) (*scanner, error) {
	sent := time.Now()
	if err := l.Conn.Ping(ctx).Err(); err != nil && !joberr.Refused(err) {
		return nil, err
	}
	return &scanner{l: l, ping: time.Since(sent), target: m.cfg.LockHoldTarget, most: int(m.cfg.ScanCount)}, nil
}

func (s *scanner) page(ctx context.Context, cursor uint64) (names []string, next uint64, err error) {
	count, sent := s.size.Count(s.target, s.most), time.Now()
	if names, next, err = s.l.Conn.Scan(ctx, cursor, "", int64(count)).Result(); err == nil {
		s.size.Took(time.Since(sent), s.ping, count)
	}
	return names, next, err
}
