package migrator

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/topology"
)

// Notice is what those who follow jobs are told.
type Notice struct {
	Kind  string             `json:"kind"` // "event": the job changed; "progress": only its numbers did
	Job   Status             `json:"job"`
	Event *topology.JobEvent `json:"event,omitempty"` // of Kind "event"
}

// subscribers are who hears notices. Any goroutine may send.
type subscribers struct {
	mu   sync.Mutex // protects subs; held for sends that never block
	subs map[*Subscription]struct{}
}

// Subscription delivers notices until it is closed. A reader that falls behind misses the
// oldest ones.
type Subscription struct {
	f  *subscribers
	ch chan Notice
}

// C is where notices come; it is closed by Close.
func (s *Subscription) C() <-chan Notice { return s.ch }

// Close ends the subscription. It may be called again.
func (s *Subscription) Close() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if _, ok := s.f.subs[s]; ok {
		delete(s.f.subs, s)
		close(s.ch)
	}
}

// Subscribe tells of every change of a job from now on, and of progress twice a second.
// buffer is how many notices may wait for the reader. Close must be called.
func (m *Manager) Subscribe(buffer int) *Subscription {
	s := &Subscription{f: &m.subscribers, ch: make(chan Notice, max(buffer, 1))}
	m.subscribers.mu.Lock()
	defer m.subscribers.mu.Unlock()
	if m.subscribers.subs == nil {
		m.subscribers.subs = make(map[*Subscription]struct{})
	}
	m.subscribers.subs[s] = struct{}{}
	return s
}

// idle spares who would send the work of making a notice for nobody.
func (f *subscribers) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.subs) == 0
}

// send never waits. Each reader has a buffer of its own, so that a slow one misses notices and
// holds up neither the job nor the others. In the worst case a reader empties its channel between
// the two selects, and the notice is sent in the next round.
func (f *subscribers) send(n Notice) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.subs {
		for sent := false; !sent; {
			select {
			case s.ch <- n:
				sent = true
			default:
				select { // the oldest gives way
				case <-s.ch:
				default:
				}
			}
		}
	}
}

const progressEvery = 500 * time.Millisecond

// tellProgress sends the numbers of the jobs that act, when they have changed.
func (m *Manager) tellProgress(ctx context.Context) {
	t := time.NewTicker(progressEvery)
	defer t.Stop()
	told := make(map[string]int64)
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		if m.subscribers.idle() {
			continue
		}
		for _, s := range m.Jobs() {
			if s.Live && told[s.ID] != s.KeysMoved+s.Scanned {
				told[s.ID] = s.KeysMoved + s.Scanned
				m.subscribers.send(Notice{Kind: "progress", Job: s})
			}
		}
	}
}

// record keeps an event in the job's history and tells the subscribers. The history helps
// people: that it can't be written is no reason to stop.
//
// The history and the notices say what happened, and decide nothing: a job goes on the same
// whether or not anybody has heard of it.
func (m *Manager) record(ctx context.Context, e topology.JobEvent) {
	if err := m.store.AppendEvent(ctx, e); err != nil && ctx.Err() == nil {
		m.log.Warn("a job's history could not be written", zap.String("job", e.Job), zap.Error(err))
	}
	m.announce(e)
}

// announce tells the subscribers.
func (m *Manager) announce(e topology.JobEvent) {
	if s, ok := m.JobStatus(e.Job); ok {
		m.subscribers.send(Notice{Kind: "event", Job: s, Event: &e})
	}
}

// History is every event of a job that is remembered, oldest first.
func (m *Manager) History(ctx context.Context, id string) ([]topology.JobEvent, error) {
	return m.store.Events(ctx, id)
}
