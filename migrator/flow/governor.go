package flow

import (
	"cmp"
	"fmt"
	"math"
	"sync"
	"time"
)

// Governor decides how much of a job may be under way at once. It is steered as TCP is:
// what may be in flight grows by a constant while both ends are well, and is halved when
// one of them suffers. How much may be begun in a second follows from how long clients
// wait: see pace.
//
//	probe of either end late, against its own baseline ─┬─► share × ½ ──► at the floor of one key:
//	RESTORE late, against its own baseline ─────────────┘                 pauses between batches
//	none of these ──────────────────────────────────────► share + step
//
// For RESTORE the floor is leastBatch keys, and there are no pauses.
//
//	keys in flight ≤ share × workers × 3 × largest batch;  bytes in flight ≤ share × memory
//
// It has no clock and no goroutine: who asks says what time it is.
type Governor struct {
	mu sync.Mutex // protects all below

	keysMax  int   // keys in flight when nothing is wrong
	bytesMax int64 // … and bytes, as far as the size of keys can be foreseen

	share    float64 // of the above; in [floor, 1]
	rest     time.Duration
	reason   string // why share is below 1; "": it is not
	nextTick time.Time
	hold     time.Duration // target of lock holds: what a server may be busy with us anyway

	ends    [2]endHealth // source, target
	restore restoring
	pace    pace

	keys   int // in flight
	bytes  int64
	size   sizes
	memory memory // of the target
	names  ScanSize
	called [2]string // what the job calls the ends
	freed  chan struct{}
}

const (
	TickEvery    = 100 * time.Millisecond
	shareStep    = 0.02                   // of a tick: from nothing to all in 5 s
	lateFactor   = 4                      // times its baseline is late
	lateAtLeast  = 20 * time.Millisecond  // less is the scheduler of a busy machine
	SilentFor    = 250 * time.Millisecond // a probe without an answer for so long is late whatever it will say
	longestRest  = 200 * time.Millisecond
	oldNews      = 300 * time.Millisecond
	staleNews    = time.Second // RESTOREs that come at once are not told of
	firstRest    = 10 * time.Millisecond
	probesMedian = 5
)

// latency is a smoothed duration with its baseline: the least that was seen, which rises
// slowly so that one lucky measurement does not stand for ever.
type latency struct {
	now, base time.Duration
}

func (l *latency) add(d time.Duration) {
	if l.base == 0 {
		l.now, l.base = d, d
		return
	}
	l.now += (d - l.now) / 4
	l.base = min(l.base+l.base/256, d)
	l.base = max(l.base, time.Microsecond)
}

// endHealth is what probes say of one end.
type endHealth struct {
	recent  [probesMedian]time.Duration
	n       int
	base    time.Duration
	pending time.Time // when the probe was sent that has no answer yet; zero: none
	answer  time.Time // of the last one
}

func (e *endHealth) median() time.Duration {
	n := min(e.n, probesMedian)
	if n == 0 {
		return 0
	}
	s := e.recent
	for i := 1; i < n; i++ {
		for j := i; j > 0 && s[j] < s[j-1]; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
	return s[n/2]
}

// What the ends are called in a job's status.
const (
	source = "source"
	target = "target"
)

// NewGovernor is a governor that lets so many keys and bytes be in flight when both ends are
// well. hold is how long the mover's own batches may keep a server busy.
func NewGovernor(keysMax int, bytesMax int64, hold time.Duration) *Governor {
	return &Governor{keysMax: max(keysMax, 1), bytesMax: max(bytesMax, 1), share: 1, hold: hold, called: [2]string{source, target}, memory: memory{room: -1}, freed: make(chan struct{}), pace: pace{most: -1}}
}

// Back says that keys go from the job's target to its source. Before the governor is used.
func (g *Governor) Back() { g.called = [2]string{target, source} }

// PingSent tells that a probe has been sent to an end; PingAnswered, that its answer has come.
func (g *Governor) PingSent(end int, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := &g.ends[end]; e.pending.IsZero() {
		e.pending = now
	}
}

// PingAnswered: see PingSent.
func (g *Governor) PingAnswered(end int, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := &g.ends[end]
	d := now.Sub(e.pending)
	e.pending, e.answer = time.Time{}, now
	e.recent[e.n%probesMedian] = d
	e.n++
	if e.base == 0 || d < e.base {
		e.base = max(d, time.Microsecond)
	} else {
		e.base += e.base / 1024
	}
}

// unitBytes of a DUMP are about as much work for the target as one key more.
const unitBytes = 4096

// Clients tells the p99 of the clients' commands since the last time; 0: of next to nothing.
func (g *Governor) Clients(now time.Time, p99 time.Duration) {
	g.mu.Lock()
	g.pace.heard(now, p99)
	g.mu.Unlock()
}

// Bound changes the ceilings. maxP99 is as in pace.
func (g *Governor) Bound(keysMax int, maxP99 time.Duration) {
	g.mu.Lock()
	g.keysMax = max(keysMax, 1)
	g.pace.begins(maxP99)
	g.wake()
	g.mu.Unlock()
}

// trouble names what suffers at the moment; "": nothing does. silent: it is an end that answers
// nobody in time, so that least is what the share may come down to, and pauses help.
//
// While the target restores a large value of ours, that is what probes wait for.
func (g *Governor) trouble(now time.Time) (reason string, silent bool) {
	for i, name := range g.called {
		e := &g.ends[i]
		if i == 1 && g.restore.large > 0 {
			continue
		}
		if !e.pending.IsZero() && now.Sub(e.pending) > SilentFor {
			return fmt.Sprintf("%s does not answer probes for %v", name, now.Sub(e.pending).Round(10*time.Millisecond)), true
		}
		if d := e.median(); d > g.lateBound(e.base) {
			return fmt.Sprintf("%s answers probes in %v, its baseline is %v", name, d.Round(10*time.Microsecond), e.base.Round(time.Microsecond)), true
		}
	}
	if each := &g.restore.each; g.restore.suffers(now) {
		return fmt.Sprintf("%s takes %v for the RESTORE of a small key, its baseline is %v", g.called[1], each.now.Round(time.Microsecond), each.base.Round(time.Microsecond)), false
	}
	return "", false
}

// lateBound is what a probe of an end may take: the mover's own batches keep a server busy
// for about the lock hold target.
func (g *Governor) lateBound(base time.Duration) time.Duration {
	return max(lateFactor*base, base+lateAtLeast+2*g.hold)
}

// Tick steers; who asks to move something calls it.
func (g *Governor) Tick(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.nextTick) {
		return
	}
	g.nextTick = now.Add(TickEvery)
	reason, silent := g.trouble(now)
	floor := 1 / float64(g.keysMax)
	if !silent { // the smaller a round, the more of its time is not RESTORE's: less would prove nothing
		floor = math.Min(leastBatch*floor, 1)
	}
	switch {
	case reason != "" && !silent && g.share <= floor:
		g.share, g.rest, g.reason = floor, 0, reason
	case reason != "" && g.share <= floor:
		g.share, g.rest = floor, min(max(2*g.rest, firstRest), longestRest)
		g.reason = reason
	case reason != "":
		g.share, g.reason = math.Max(g.share/2, floor), reason
	case g.rest > 0:
		if g.rest /= 2; g.rest < firstRest {
			g.rest = 0
		}
	default:
		if g.share = math.Min(g.share+shareStep, 1); g.share == 1 {
			g.reason = ""
		}
	}
	g.wake()
}

// wake lets those who wait look again. mu is held.
func (g *Governor) wake() {
	close(g.freed)
	g.freed = make(chan struct{})
}

// Batch is how many keys one worker may take at once.
func (g *Governor) Batch(workers int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.share * float64(g.keysMax)
	if g.size.most >= 1 {
		n = math.Min(n, g.share*float64(g.bytesMax)/g.size.most)
	}
	if m := g.memory.most(g.size.most); m >= 0 {
		n = math.Min(n, m)
	}
	n /= float64(max(workers, 1))
	if most := g.pace.batch(); most > 0 {
		n = math.Min(n, most/g.work(1))
	}
	return max(1, int(n))
}

// Grant is the answer to who wants keys to be under way.
type Grant struct {
	OK    bool
	Bytes int64           // what Release must be given back
	Rest  time.Duration   // a pause that is due first
	Short bool            // refused: the target's memory has to be asked for first
	Freed <-chan struct{} // refused: closed when it is worth to ask again
}

// Grant lets n keys be under way, or says for what to wait. stay: none of them comes to the
// target.
func (g *Governor) Grant(now time.Time, n int, stay bool) Grant {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.grant(now, n, stay)
}

// TryGrant is Grant for who can't wait: what is refused counts for nothing.
func (g *Governor) TryGrant(now time.Time, n int, stay bool) Grant {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rest > 0 || !g.pace.due(now) {
		return Grant{}
	}
	return g.grant(now, n, stay)
}

// grant is Grant. mu is held.
func (g *Governor) grant(now time.Time, n int, stay bool) Grant {
	if !stay && g.memory.short(n, g.size.most) {
		return Grant{Short: true}
	}
	bytes := int64(float64(n) * g.size.most)
	keysMax, bytesMax := int(g.share*float64(g.keysMax)), int64(g.share*float64(g.bytesMax))
	if g.keys > 0 && (g.keys+n > max(keysMax, 1) || g.bytes+bytes > bytesMax) {
		return Grant{Freed: g.freed}
	}
	g.keys += n
	g.bytes += bytes
	if !stay {
		g.memory.spend(n, g.size.most)
	}
	return Grant{OK: true, Bytes: bytes, Rest: max(g.rest, g.pace.begin(now, g.work(n)))}
}

// Release gives back what a Grant of n keys has taken.
func (g *Governor) Release(n int, bytes int64) {
	g.mu.Lock()
	g.keys -= n
	g.bytes -= bytes
	g.wake()
	g.mu.Unlock()
}

// Status is what the governor knows, for the status of its job.
type Status struct {
	Share       float64 `json:"share"` // of what may be in flight at most; 1: nothing is held back
	Reason      string  `json:"throttle_reason,omitempty"`
	RestMs      int64   `json:"rest_ms,omitempty"` // pause between batches, when share is at its floor
	Keys        int     `json:"keys_in_flight"`
	KeysMax     int     `json:"keys_in_flight_max"`
	Bytes       int64   `json:"bytes_in_flight"` // as foreseen
	BytesMax    int64   `json:"bytes_in_flight_max"`
	SourceUs    int64   `json:"source_probe_us"`
	SourceBase  int64   `json:"source_probe_baseline_us"`
	TargetUs    int64   `json:"target_probe_us"`
	TargetBase  int64   `json:"target_probe_baseline_us"`
	RestoreUs   int64   `json:"restore_us"` // for each small key
	RestoreBase int64   `json:"restore_baseline_us"`
	ClientP99us int64   `json:"client_p99_us,omitempty"`       // smoothed; 0: there are next to none
	ClientBound int64   `json:"client_p99_bound_us,omitempty"` // above which the mover makes way; 0: none
	WorkPerS    float64 `json:"work_per_s,omitempty"`          // keys and units of 4096 bytes that it then may move in a second; 0: any
}

// Status may be asked for at any time.
func (g *Governor) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	src, dst := &g.ends[0], &g.ends[1]
	if g.called[0] == target {
		src, dst = dst, src
	}
	return Status{Share: g.share, Reason: cmp.Or(g.reason, g.pace.reason()), RestMs: g.rest.Milliseconds(), Keys: g.keys, KeysMax: int(math.Max(1, g.share*float64(g.keysMax))),
		Bytes: g.bytes, BytesMax: int64(g.share * float64(g.bytesMax)),
		SourceUs: src.median().Microseconds(), SourceBase: src.base.Microseconds(), TargetUs: dst.median().Microseconds(), TargetBase: dst.base.Microseconds(),
		RestoreUs: g.restore.each.now.Microseconds(), RestoreBase: g.restore.each.base.Microseconds(), ClientP99us: g.pace.p99.Microseconds(),
		ClientBound: g.pace.bound().Microseconds(), WorkPerS: math.Round(g.pace.perS)}
}

// Silent names the end that does not answer, and since when; "" when both do.
func (g *Governor) Silent(now time.Time) (end string, since time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, name := range g.called {
		if p := g.ends[i].pending; !p.IsZero() && now.Sub(p) > SilentFor && (since.IsZero() || p.Before(since)) {
			end, since = name, p
		}
	}
	return end, since
}
