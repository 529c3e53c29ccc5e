package flow

import "time"

// ScanSize says how large the pages of SCAN should be: as large as the source makes in the
// time that a batch may keep it busy. Redis makes a thousand names in half a millisecond;
// servers that read them from disk take a hundred times as long, and answer nobody else, or
// answer SCAN too late.
type ScanSize struct {
	each float64 // ns that the source takes for a name, smoothed; 0: not known
}

const (
	firstScan  = 100 // COUNT
	fewestScan = 10
	scanWork   = 0.15 // of a name, where that of a key's move is 1; see pace
)

// Count is the COUNT of the next SCAN.
func (s *ScanSize) Count(target time.Duration, most int) int {
	n := float64(firstScan)
	if s.each > 0 {
		n = float64(target) / s.each
	}
	return max(int(min(n, float64(most))), min(fewestScan, most))
}

// Took tells how long a SCAN was under way, and how long a PING is.
func (s *ScanSize) Took(d, ping time.Duration, count int) {
	each := max(float64(d-ping), 1) / float64(count)
	if s.each == 0 {
		s.each = each
	}
	s.each += (each - s.each) / 4
}

// Scan lets the source be asked for a page of SCAN, after the pause that it says: of as many
// names as it makes in the target time, and at most that many, or fewer if the mover makes way.
func (g *Governor) Scan(now time.Time, target time.Duration, most int) (count int, rest time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	count = g.names.Count(target, most)
	if most := g.pace.batch(); most > 0 {
		count = min(count, max(int(most/scanWork), fewestScan))
	}
	return count, max(g.rest, g.pace.begin(now, float64(count)*scanWork))
}

// Scanned tells how long a page was under way.
func (g *Governor) Scanned(took time.Duration, count int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.names.Took(took, g.ends[0].median(), count)
}

// Page is the COUNT of SCANs for which clients wait.
func (g *Governor) Page(target time.Duration, most int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.names.Count(target, most)
}
