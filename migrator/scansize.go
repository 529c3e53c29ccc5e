package migrator

import (
	"context"
	"time"
)

// scanSize says how large the pages of SCAN should be: as large as the source makes in the
// time that a batch may keep it busy. Redis makes a thousand names in half a millisecond;
// servers that read them from disk take a hundred times as long, and answer nobody else, or
// answer SCAN too late.
type scanSize struct {
	each float64 // ns that the source takes for a name, smoothed; 0: not known
}

const (
	firstScan  = 100 // COUNT
	fewestScan = 10
	scanWork   = 0.15 // of a name, where that of a key's move is 1; see pace
)

// count is the COUNT of the next SCAN.
func (s *scanSize) count(target time.Duration, most int) int {
	n := float64(firstScan)
	if s.each > 0 {
		n = float64(target) / s.each
	}
	return max(int(min(n, float64(most))), min(fewestScan, most))
}

// took tells how long a SCAN was under way, and how long a PING is.
func (s *scanSize) took(d, ping time.Duration, count int) {
	each := max(float64(d-ping), 1) / float64(count)
	if s.each == 0 {
		s.each = each
	}
	s.each += (each - s.each) / 4
}

// scan lets the source be asked for a page of SCAN, after the pause that it says: of as many
// names as it makes in the target time, and at most that many, or fewer if the mover makes way.
func (g *governor) scan(now time.Time, target time.Duration, most int) (count int, rest time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	count = g.names.count(target, most)
	if most := g.pace.batch(); most > 0 {
		count = min(count, max(int(most/scanWork), fewestScan))
	}
	return count, max(g.rest, g.pace.begin(now, float64(count)*scanWork))
}

// scanned tells how long a page was under way.
func (g *governor) scanned(took time.Duration, count int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.names.took(took, g.ends[0].median(), count)
}

// page is the COUNT of SCANs for which clients wait.
func (g *governor) page(target time.Duration, most int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.names.count(target, most)
}

// scanner asks a server for pages of SCAN where no pass does, of a size that it makes in
// the same time as for one.
type scanner struct {
	l      *link
	size   scanSize
	ping   time.Duration
	target time.Duration
	most   int
}

// newScanner measures the way to the server. One that refuses PING has answered as well.
func (m *Manager) newScanner(ctx context.Context, l *link) (*scanner, error) {
	sent := time.Now()
	if err := l.conn.Ping(ctx).Err(); err != nil && !refused(err) {
		return nil, err
	}
	return &scanner{l: l, ping: time.Since(sent), target: m.cfg.LockHoldTarget, most: int(m.cfg.ScanCount)}, nil
}

func (s *scanner) page(ctx context.Context, cursor uint64) (names []string, next uint64, err error) {
	count, sent := s.size.count(s.target, s.most), time.Now()
	if names, next, err = s.l.conn.Scan(ctx, cursor, "", int64(count)).Result(); err == nil {
		s.size.took(time.Since(sent), s.ping, count)
	}
	return names, next, err
}
