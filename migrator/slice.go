package migrator

import (
	"context"
	"errors"
	"sync"
	"time"

	"keyferry/internal/topology"
	"keyferry/migrator/flow"
	"keyferry/migrator/job"
	"keyferry/slotlock"
)

// A job with a Slice works and rests alternately. The end of a slice is planned:
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

// slicer tells a pass when the slice is over: it is the clock of a flow.Slicer.
type slicer struct {
	flow.Slicer

	mu    sync.Mutex // protects all below
	over  func()     // tells the pass under way; nil: there is none
	timer *time.Timer
}

// lasts changes how long a slice is; 0: there are none.
func (s *slicer) lasts(work time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Lasts(time.Now(), work)
	s.arm()
}

// begin is called by a pass, with how it wants to be told that the slice is over.
func (s *slicer) begin(over func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Begin(time.Now())
	s.over = over
	s.arm()
}

// end is called when the pass is over. The slice goes on.
func (s *slicer) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.End(time.Now())
	s.over = nil
	s.arm()
}

// arm sets the timer. mu is held.
func (s *slicer) arm() {
	if s.timer != nil {
		s.timer.Stop()
	}
	if at, ok := s.Due(); ok && s.over != nil {
		s.timer = time.AfterFunc(time.Until(at), s.over)
	}
}

// isOver reports that the slice's time is over.
func (s *slicer) isOver() bool { return s.Over(time.Now()) }

// rest waits for the next slice. A tail phase goes on with its proof: nothing may appear at
// the source meanwhile.
func (r *runner) rest(ctx context.Context) *job.Event {
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
			return &job.Event{Kind: job.SliceBegin}
		case <-r.relimited:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

// proof is a pass of the tail phase that a slice has interrupted. It holds as long as
// nothing could appear at the source since it began.
type proof struct {
	begun  bool
	at     position // up to which all is done
	found  int64    // keys so far
	grants int64    // of the lock table when it began
}
