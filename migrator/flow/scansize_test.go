package flow

import (
	"testing"
	"time"
)

// TestScanSize: pages are as large as the source makes in the target time, wherever it is,
// and heed the setting.
func TestScanSize(t *testing.T) {
	const us = time.Microsecond
	for _, x := range []struct {
		name             string
		each, rtt        time.Duration // a name; the way to the source and back
		most, want, give int
	}{
		{"fast", us / 2, 100 * us, 1000, 1000, 0},
		{"slow", 100 * us, 100 * us, 1000, 50, 5},
		{"slow and far", 100 * us, 30 * time.Millisecond, 1000, 50, 5},
		{"fast and far", us, 30 * time.Millisecond, 1000, 1000, 0},
		{"very slow", 20 * time.Millisecond, 0, 1000, fewestScan, 0},
		{"small by setting", 20 * time.Millisecond, 0, 3, 3, 0},
	} {
		var s ScanSize
		for range 30 {
			n := s.Count(5*time.Millisecond, x.most)
			s.Took(x.rtt+time.Duration(n)*x.each, x.rtt, n)
		}
		if n := s.Count(5*time.Millisecond, x.most); n < x.want-x.give || n > x.want+x.give {
			t.Errorf("%s: COUNT %d, want %d", x.name, n, x.want)
		}
	}
}

// TestScanPaced: a mover that makes way asks for small pages, and what the source does for
// them is part of what it may do in a second.
func TestScanPaced(t *testing.T) {
	g := NewGovernor(3072, 64<<20, 5*time.Millisecond)
	now := time.Unix(1_700_000_000, 0)
	g.Scanned(time.Millisecond, 1000)
	if n, rest := g.Scan(now, 5*time.Millisecond, 1000); n != 1000 || rest != 0 {
		t.Errorf("COUNT %d after %v without a bound", n, rest)
	}
	g.Bound(3072, time.Millisecond)
	for range 60 {
		now = now.Add(window)
		g.Clients(now, 10*time.Millisecond)
	}
	names, took := 0, time.Duration(0)
	for range 1000 {
		n, rest := g.Scan(now, 5*time.Millisecond, 1000)
		now, took, names = now.Add(rest), took+rest, names+n
		if n > 110 {
			t.Fatalf("COUNT %d at the floor", n)
		}
	}
	perS := float64(names) / took.Seconds()
	between(t, "names a second", perS, 0.95*floorPerS/scanWork, 1.05*floorPerS/scanWork)
}
