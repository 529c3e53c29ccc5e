package migrator

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/topology"
	"keyferry/migrator/flow"
	"keyferry/migrator/joberr"
)

// Stall is what is known of a job that makes no progress.
type Stall struct {
	ForMs      int64              `json:"for_ms"`
	Silent     string             `json:"silent,omitempty"` // who does not answer: source, target, store; "": all do
	SilentMs   int64              `json:"silent_ms,omitempty"`
	OldestLock string             `json:"oldest_lock,omitempty"` // "db/key" that has been locked longest; "": none is
	LockedMs   int64              `json:"locked_ms,omitempty"`
	LastError  *topology.JobError `json:"last_error,omitempty"`
	Advice     string             `json:"advice,omitempty"` // what to do
}

func (s *Stall) String() string {
	text := fmt.Sprintf("no progress for %v", time.Duration(s.ForMs)*time.Millisecond)
	if s.Silent != "" {
		text += fmt.Sprintf("; the %s does not answer, for %v", s.Silent, time.Duration(s.SilentMs)*time.Millisecond)
	}
	if s.OldestLock != "" {
		text += fmt.Sprintf("; key %q has been locked for %v", s.OldestLock, time.Duration(s.LockedMs)*time.Millisecond)
	}
	if e := s.LastError; e != nil {
		text += fmt.Sprintf("; last error: %s %s: %s", e.Origin, e.Code, e.Text)
	}
	if s.Advice != "" {
		text += "; " + s.Advice
	}
	return text
}

// watched reports whether a job in this phase is expected to get on. What an operator or
// a reason holds is not, nor what has failed.
func watched(p topology.Phase) bool {
	switch p {
	case topology.Paused, topology.Failed:
		return false
	}
	return !p.Ended()
}

// stall says that the job makes no progress, and why; nil: it does. Manager.mu is held.
//
// Progress is a key that was moved, a pass that got further than any before it, or a transition
// that is no failure. A job that does the same in vain again and again makes none, however busy
// it is; one that rests between slices is not held to be stalled for that.
func (r *runner) stall(now time.Time) *Stall {
	if !watched(r.job.Phase) {
		return nil
	}
	last := time.UnixMilli(r.progressMs.Load())
	if r.mover != nil {
		last = later(last, time.UnixMilli(r.mover.stats.lastProgress.Load()))
	}
	if now.Sub(last) < r.m.cfg.StalledAfter {
		return nil
	}
	s := &Stall{ForMs: now.Sub(last).Milliseconds()}
	_, s.LastError, _ = r.errs.peek()
	if s.LastError == nil {
		s.LastError = r.job.LastError
	}
	defer s.advise()
	if since := r.storingMs.Load(); since > 0 && now.UnixMilli()-since > flow.SilentFor.Milliseconds() {
		s.Silent, s.SilentMs = joberr.Store, now.UnixMilli()-since
		return s
	}
	if r.mover == nil {
		return s
	}
	if end, since := r.mover.gov.Silent(now); end != "" {
		s.Silent, s.SilentMs = end, now.Sub(since).Milliseconds()
	}
	if key, since := r.mover.open.oldestLock(); key != "" {
		s.OldestLock, s.LockedMs = key, now.Sub(since).Milliseconds()
	}
	return s
}

// later is the newer of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// watch tells of jobs that stall, and that get on again.
func (m *Manager) watch(ctx context.Context) {
	t := time.NewTicker(progressEvery)
	defer t.Stop()
	stalled := make(map[string]bool)
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		for _, s := range m.Jobs() {
			if (s.Stalled != nil) == stalled[s.ID] {
				continue
			}
			stalled[s.ID] = s.Stalled != nil
			e := topology.JobEvent{Job: s.ID, AtMs: s.AtMs, Event: "goes-on", From: s.Phase, To: s.Phase, KeysMoved: s.KeysMoved, BytesMoved: s.BytesMoved}
			if s.Stalled != nil {
				e.Event, e.Reason, e.Error = "stalled", s.Stalled.String(), s.Stalled.LastError
				m.log.Warn("job is stalled", zap.String("job", s.ID), zap.String("phase", string(s.Phase)), zap.String("why", e.Reason))
			} else {
				delete(stalled, s.ID)
				m.log.Info("job goes on", zap.String("job", s.ID), zap.String("phase", string(s.Phase)))
			}
			m.record(ctx, e)
		}
	}
}
