package observe

import (
	"slices"
	"strings"

	"keyferry/internal/topology"
	"keyferry/migrator"
)

// Point is one second of the history. Times are µs, rates per second.
type Point struct {
	T        int64   `json:"t"` // Unix ms
	Ops      float64 `json:"ops"`
	Errors   float64 `json:"errors"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	P999     float64 `json:"p999"`
	Clients  int64   `json:"clients"`
	Memory   uint64  `json:"memory"`
	In       float64 `json:"in"`
	Out      float64 `json:"out"`
	Moved    float64 `json:"moved"` // keys
	Parked   int64   `json:"parked"`
	InFlight int64   `json:"in_flight"`
}

// kept is how many points there are: fifteen minutes.
const kept = 900

// history is the newest points, in a ring.
type history struct {
	points []Point
	next   int
}

func (h *history) add(p Point) {
	if len(h.points) < kept {
		h.points = append(h.points, p)
		return
	}
	h.points[h.next] = p
	h.next = (h.next + 1) % kept
}

// History are the points of the last fifteen minutes, oldest first.
func (o *Observer) History() []Point {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Concat(o.history.points[o.history.next:], o.history.points[:o.history.next])
}

// JobPoint is one second of a job.
type JobPoint struct {
	T    int64   `json:"t"` // Unix ms
	Keys float64 `json:"keys"`
	P99  float64 `json:"p99"` // of all clients' commands, µs
}

// jobStory is what is remembered of a job beyond its status.
type jobStory struct {
	phase  topology.Phase
	errors map[string]int64 // as in its status
	keys   int64
	at     int64 // Unix ms of the last point
	points []JobPoint
}

// tell notes what has become of the jobs since the last snapshot. mu is held.
func (o *Observer) tell(s *Snapshot) {
	for id := range o.jobs {
		if !slices.ContainsFunc(s.Jobs, func(j migrator.Status) bool { return j.ID == id }) {
			delete(o.jobs, id)
		}
	}
	for _, j := range s.Jobs {
		x := o.jobs[j.ID]
		if x == nil {
			x = &jobStory{keys: j.KeysMoved, phase: j.Phase}
			o.jobs[j.ID] = x
		}
		o.tellJob(x, j, s)
	}
}

func (o *Observer) tellJob(x *jobStory, j migrator.Status, s *Snapshot) {
	for kind, n := range j.ErrorCounts {
		origin, code, _ := strings.Cut(kind, " ")
		if d := n - x.errors[kind]; d > 0 {
			o.errors[[2]string{origin, code}] += uint64(d)
		}
	}
	x.errors = j.ErrorCounts
	if x.phase == topology.Backoff && j.Phase != x.phase && j.Phase != topology.Paused && j.Phase != topology.Failed {
		o.retries++
	}
	x.phase = j.Phase
	now := s.At.UnixMilli()
	if j.Phase.Ended() && j.KeysMoved == x.keys || now-x.at < 1000 {
		return
	}
	if x.at > 0 {
		if len(x.points) == kept {
			x.points = append(x.points[:0], x.points[1:]...)
		}
		x.points = append(x.points, JobPoint{now, float64(j.KeysMoved-x.keys) / (float64(now-x.at) / 1000), s.Now.P99})
	}
	x.at, x.keys = now, j.KeysMoved
}

// Story is how fast one job was, oldest first; false if there is no such job.
func (o *Observer) Story(id string) (points []JobPoint, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	x := o.jobs[id]
	if x == nil {
		return nil, false
	}
	return slices.Clone(x.points), true
}
