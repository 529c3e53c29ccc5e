package flow

import (
	"sync"
	"time"
)

// Slicer knows when the slice of a job is over. A slice goes through several passes if it is
// long, and a pass through several slices if it is: both begin and end by themselves.
type Slicer struct {
	mu     sync.Mutex // protects all below
	work   time.Duration
	from   time.Time     // when the slice began; zero: the next pass begins one
	since  time.Time     // when the pass under way began; zero: there is none
	worked time.Duration // of the passes before
}

// Lasts changes how long a slice is; 0: there are none. A pass that was not sliced begins
// its first one now.
func (s *Slicer) Lasts(now time.Time, work time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.work == 0 && !s.since.IsZero() {
		s.from = now
	}
	s.work = work
}

// Begin is called by a pass.
func (s *Slicer) Begin(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = now
	if s.from.IsZero() {
		s.from = now
	}
}

// End is called when the pass is over. The slice goes on.
func (s *Slicer) End(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worked += now.Sub(s.since)
	s.since = time.Time{}
}

// Anew has the next pass begin a slice of its own.
func (s *Slicer) Anew() {
	s.mu.Lock()
	s.from = time.Time{}
	s.mu.Unlock()
}

// Due is when the pass under way has to be told that the slice is over; false: never.
func (s *Slicer) Due() (at time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.from.Add(s.work), s.work > 0 && !s.since.IsZero()
}

// Over reports that the slice's time is over.
func (s *Slicer) Over(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.work > 0 && !s.from.IsZero() && now.Sub(s.from) >= s.work
}

// Eta is how long so many keys take with the rests between, when so many took as long as
// has been worked; false: it can't be told.
func (s *Slicer) Eta(now time.Time, rest time.Duration, left, moved int64) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	worked := s.worked
	if !s.since.IsZero() {
		worked += now.Sub(s.since)
	}
	if moved == 0 || s.work == 0 {
		return 0, false
	}
	return time.Duration(float64(left) * float64(worked) / float64(moved) * float64(s.work+rest) / float64(s.work)), true
}
