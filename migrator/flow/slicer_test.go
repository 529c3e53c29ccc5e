package flow

import (
	"testing"
	"time"
)

// TestSlicer: a slice outlives a pass, a change while a pass is under way counts from then,
// and what remains is foreseen with its rests.
func TestSlicer(t *testing.T) {
	var s Slicer
	at := func(sec int) time.Time { return time.Unix(1_700_000_000+int64(sec), 0) }
	s.Begin(at(0))
	if _, ok := s.Due(); ok || s.Over(at(100)) {
		t.Error("a slice of a job that is not sliced")
	}
	s.Lasts(at(10), 5*time.Second)
	if due, ok := s.Due(); !ok || due != at(15) || s.Over(at(14)) || !s.Over(at(15)) {
		t.Errorf("the slice that began at 10 is over at %v", due)
	}
	s.End(at(12))
	if _, ok := s.Due(); ok {
		t.Error("nobody is to be told, and somebody is")
	}
	s.Begin(at(13))
	if due, _ := s.Due(); due != at(15) {
		t.Errorf("the next pass is told at %v", due)
	}
	// 1000 keys took 12 + 2 s, so that 500 take 7 s, and 5 of each 20 are worked.
	if eta, ok := s.Eta(at(15), 15*time.Second, 500, 1000); !ok || eta != 28*time.Second {
		t.Errorf("500 keys take %v", eta)
	}
	s.End(at(15))
	s.Anew()
	s.Begin(at(40))
	if due, _ := s.Due(); due != at(45) {
		t.Errorf("a new slice is over at %v", due)
	}
	s.Lasts(at(41), 0)
	if _, ok := s.Due(); ok || s.Over(at(100)) {
		t.Error("off, and over")
	}
}
