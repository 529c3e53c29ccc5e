package migrator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"keyferry/internal/topology"
	"keyferry/slotlock"
)

// A job with a Slice works and rests by turns. The end of a slice is planned:
//
//	its time is over ─► nothing new is begun ─► what is under way is finished
//	─► checkpoint ─► slice-end is stored ─► rest ─► slice-begin is stored ─► on from there
//
// A slice does something, however short it is: it ends when a page has been got through or
// a batch is done at the earliest, so that any job comes to its end. While a job rests,
// clients are served as before, and what they touch is moved where its phase asks for it.
// The way forth of a revert, which moves nothing, is not sliced.

// errSliceOver ends a pass at the end of a slice. It is no error of the job's.
var errSliceOver = errors.New("the slice is over")

// slicer tells a pass when the slice is over.
type slicer struct {
	mu     sync.Mutex // protects all below
	work   time.Duration
	from   time.Time     // when the slice began; zero: the next pass begins one
	over   func()        // tells the pass under way; nil: there is none
	since  time.Time     // … when that began
	worked time.Duration // of the passes before
	timer  *time.Timer
}

// lasts changes how long a slice is; 0: there are none. A pass that was not sliced begins
// its first one now.
func (s *slicer) lasts(work time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.work == 0 && s.over != nil {
		s.from = time.Now()
	}
	s.work = work
	s.arm()
}

// begin is called by a pass, with how it wants to be told that the slice is over.
func (s *slicer) begin(over func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since, s.over = time.Now(), over
	if s.from.IsZero() {
		s.from = s.since
	}
	s.arm()
}

// end is called when the pass is over. The slice goes on.
func (s *slicer) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worked += time.Since(s.since)
	s.over = nil
	s.arm()
}

// anew has the next pass begin a slice of its own.
func (s *slicer) anew() {
	s.mu.Lock()
	s.from = time.Time{}
	s.mu.Unlock()
}

// arm sets the timer. mu is held.
func (s *slicer) arm() {
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.over != nil && s.work > 0 {
		s.timer = time.AfterFunc(time.Until(s.from.Add(s.work)), s.over)
	}
}

// isOver reports that the slice's time is over.
func (s *slicer) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.work > 0 && !s.from.IsZero() && time.Since(s.from) >= s.work
}

// eta is how long so many keys take with the rests between, when so many took as long as
// has been worked; false: it can't be told.
func (s *slicer) eta(rest time.Duration, left, moved int64) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	worked := s.worked
	if s.over != nil {
		worked += time.Since(s.since)
	}
	if moved == 0 || s.work == 0 {
		return 0, false
	}
	return time.Duration(float64(left) * float64(worked) / float64(moved) * float64(s.work+rest) / float64(s.work)), true
}

// rest waits for the next slice. A tail phase goes on with its proof: nothing may appear at
// the source meanwhile.
func (r *runner) rest(ctx context.Context) *Event {
	if r.job.ResumeTo == topology.Bulk {
		r.serveAsFound()
	} else {
		r.locks.SetMode(slotlock.Resolve)
	}
	for {
		j := r.copyJob()
		t := time.NewTimer(untilDue(j.NextTryAtMs, j.Slice.Rest))
		select {
		case <-t.C:
			return &Event{Kind: SliceBegin}
		case <-r.relimited:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

// restText is what a resting job waits for.
func restText(j topology.Job) string {
	return fmt.Sprintf("resting until %s (SLICE %v)", time.UnixMilli(j.NextTryAtMs).UTC().Format("2006-01-02T15:04:05.000Z"), j.Slice)
}

// progressAfterRest is the time of the last progress for a watchdog that does not count the
// rest that ends now. j is the job as it rested.
func progressAfterRest(j topology.Job, lastMs, nowMs int64) int64 {
	rested := nowMs - (j.NextTryAtMs - j.Slice.Rest.Milliseconds())
	return min(lastMs+max(rested, 0), nowMs)
}

// proof is a pass of the tail phase that a slice has interrupted. It holds as long as
// nothing could appear at the source since it began.
type proof struct {
	begun  bool
	at     place // up to which all is done
	found  int64 // keys so far
	grants int64 // of the lock table when it began
}

// slicesTold is how many slices the history has in full.
const slicesTold = 40

// toldSlice reports whether the history has this slice: of the first all, then each tenth,
// each hundredth and so on, since it has room for so many events only.
func toldSlice(n int64) bool {
	step := int64(1)
	for n > slicesTold*step {
		step *= 10
	}
	return n%step == 0
}
