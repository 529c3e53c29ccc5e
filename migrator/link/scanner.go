package link

import (
	"context"
	"time"

	"keyferry/migrator/flow"
	"keyferry/migrator/joberr"
)

// Scanner asks a server for pages of SCAN where no pass does, of a size that it makes in
// the same time as for one.
type Scanner struct {
	l      *Link
	size   flow.ScanSize
	ping   time.Duration
	target time.Duration
	most   int
}

// NewScanner measures the way to the server. One that refuses PING has answered as well.
// target is how long the server may be busy with a page, most the names of one.
func NewScanner(ctx context.Context, l *Link, target time.Duration, most int) (*Scanner, error) {
	sent := time.Now()
	if err := l.Conn.Ping(ctx).Err(); err != nil && !joberr.Refused(err) {
		return nil, err
	}
	return &Scanner{l: l, ping: time.Since(sent), target: target, most: most}, nil
}

// Page is the page of SCAN behind a cursor.
func (s *Scanner) Page(ctx context.Context, cursor uint64) (names []string, next uint64, err error) {
	count, sent := s.size.Count(s.target, s.most), time.Now()
	if names, next, err = s.l.Conn.Scan(ctx, cursor, "", int64(count)).Result(); err == nil {
		s.size.Took(time.Since(sent), s.ping, count)
	}
	return names, next, err
}
