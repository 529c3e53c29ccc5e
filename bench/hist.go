package bench

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Percentiles sum up a latency distribution, in milliseconds.
type Percentiles struct {
	MeanMS float64 `json:"mean_ms"`
	P50MS  float64 `json:"p50_ms"`
	P99MS  float64 `json:"p99_ms"`
	P999MS float64 `json:"p999_ms"`
	MaxMS  float64 `json:"max_ms"`
}

const (
	histMaxUS  = int64(10 * time.Minute / time.Microsecond) // longer ones are recorded as this
	histDigits = 3
)

// newHist makes a histogram of microseconds.
func newHist() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, histMaxUS, histDigits)
}

func record(h *hdrhistogram.Histogram, latency time.Duration) {
	// The only error is "out of range", which the clamp rules out.
	_ = h.RecordValue(min(max(latency.Microseconds(), 0), histMaxUS))
}

func percentiles(h *hdrhistogram.Histogram) Percentiles {
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return Percentiles{
		MeanMS: h.Mean() / 1000,
		P50MS:  ms(h.ValueAtPercentile(50)),
		P99MS:  ms(h.ValueAtPercentile(99)),
		P999MS: ms(h.ValueAtPercentile(99.9)),
		MaxMS:  ms(h.Max()),
	}
}

func milliseconds(d time.Duration) float64 {
	return float64(d) / float64(time.Millisecond)
}

// PhaseStats is what one phase of an oracle's run measured.
type PhaseStats struct {
	Name           string      `json:"name"`
	Seconds        float64     `json:"seconds"`
	Ops            int64       `json:"ops"`
	OpsPerS        float64     `json:"ops_per_s"`
	Latency        Percentiles `json:"latency"`
	LongestStallMS float64     `json:"longest_stall_ms"`
}

type phase struct {
	name  string
	begun time.Time
	ended time.Time // zero while it lasts
	hist  *hdrhistogram.Histogram
	stall time.Duration
}

// recorder collects the latencies of all clients, by phase and by second. The
// two second-histograms take turns: one fills, the other is the last full one.
type recorder struct {
	mu       sync.Mutex // guards all below
	phases   []*phase
	second   int64 // the second, since start, that cur belongs to
	cur      *hdrhistogram.Histogram
	last     *hdrhistogram.Histogram
	lastFull bool // last is of the second just before cur
	start    time.Time
	stall    time.Duration // the longest of any phase
}

func newRecorder() *recorder {
	return &recorder{cur: newHist(), last: newHist(), start: time.Now()}
}

// setPhase ends the phase that lasts and begins the next.
func (r *recorder) setPhase(name string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endPhase(now)
	r.phases = append(r.phases, &phase{name: name, begun: now, hist: newHist()})
}

// begin begins a run: in the phase that was named for it, whose clock starts
// now, or in one called run.
func (r *recorder) begin(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.phases); n > 0 && r.phases[n-1].ended.IsZero() {
		r.phases[n-1].begun = now
		return
	}
	r.phases = append(r.phases, &phase{name: "run", begun: now, hist: newHist()})
}

// stop ends the phase that lasts; the next begins with the next setPhase.
func (r *recorder) stop(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endPhase(now)
}

func (r *recorder) endPhase(now time.Time) {
	if n := len(r.phases); n > 0 && r.phases[n-1].ended.IsZero() {
		r.phases[n-1].ended = now
	}
}

// add records the latencies of one batch and the longest time its client spent
// waiting for the socket.
func (r *recorder) add(now time.Time, latencies []time.Duration, stall time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(now)
	p := r.phases[len(r.phases)-1]
	for _, latency := range latencies {
		record(p.hist, latency)
		record(r.cur, latency)
	}
	p.stall = max(p.stall, stall)
	r.stall = max(r.stall, stall)
}

// turn swaps the second-histograms when a second is over.
func (r *recorder) turn(now time.Time) {
	second := int64(now.Sub(r.start) / time.Second)
	if second <= r.second {
		return
	}
	r.cur, r.last = r.last, r.cur
	r.lastFull = second == r.second+1
	r.cur.Reset()
	r.second = second
}

// lastSecond returns the number of replies and the p99 of the last full second;
// zeros when nothing was answered in it.
func (r *recorder) lastSecond(now time.Time) (ops int64, p99MS float64, stall time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(now)
	if r.lastFull {
		ops = r.last.TotalCount()
		p99MS = float64(r.last.ValueAtPercentile(99)) / 1000
	}
	return ops, p99MS, r.stall
}

func (r *recorder) phaseStats(now time.Time) []PhaseStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	stats := make([]PhaseStats, 0, len(r.phases))
	for _, p := range r.phases {
		end := p.ended
		if end.IsZero() {
			end = now
		}
		s := PhaseStats{
			Name: p.name, Seconds: end.Sub(p.begun).Seconds(), Ops: p.hist.TotalCount(),
			Latency: percentiles(p.hist), LongestStallMS: milliseconds(p.stall),
		}
		if s.Seconds > 0 {
			s.OpsPerS = float64(s.Ops) / s.Seconds
		}
		stats = append(stats, s)
	}
	return stats
}
