package observe

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/control"
	"keyferry/internal/metrics"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator"
	"keyferry/proxy"
	"keyferry/proxy/stats"
)

// Config is what an Observer looks at.
type Config struct {
	Control *control.Control
	Manager *migrator.Manager
	Proxy   *proxy.Server
	Name    string // of the gateway
	Version string
	Dialer  *upstream.Dialer
	Log     *zap.Logger
}

const (
	interval = 500 * time.Millisecond
	// sampleBound is how long a loop may take to answer: one that takes longer is missing
	// in one snapshot.
	sampleBound = 200 * time.Millisecond
	perPoint    = 2 // snapshots for each point of the history
)

// Observer takes snapshots of a gateway until its Run ends.
type Observer struct {
	c       Config
	started time.Time
	last    atomic.Pointer[Snapshot]

	mu      sync.Mutex // protects what follows
	news    chan struct{}
	history history
	jobs    map[string]*jobStory
	errors  map[[2]string]uint64 // failed attempts by origin and code
	retries uint64
	probes  map[string]*probe
	wg      sync.WaitGroup

	outages *outages

	// Of the goroutine of Run alone.
	before metrics.Histogram // of all classes, at the last point
	count  stats.Sample      // at the last point
	at     time.Time         // … when it was
	heat   []float32
	slots  []uint32
	heatAt time.Time
}

// Snapshot is the gateway at one moment. It is never changed.
type Snapshot struct {
	Seq     uint64
	At      time.Time
	Plane   stats.Sample
	Whole   bool // every loop answered
	State   topology.State
	Acked   uint64
	Jobs    []migrator.Status
	Groups  []Group
	Peers   []Gateway // all gateways of the cluster, this one too
	Heat    []float32 // commands per second by slot, estimated; nil: not sampled
	Refusal string    // why no writes are served; "": they are
	Memory  uint64    // of the gateway's process, from the Go runtime
	Now     Point
}

// New makes an Observer with a first snapshot. It hears of each connection that the Dialer makes
// from then on, and the Manager has its word on the groups' servers.
func New(c Config) *Observer {
	o := &Observer{c: c, started: time.Now(), news: make(chan struct{}), jobs: make(map[string]*jobStory),
		errors: make(map[[2]string]uint64), probes: make(map[string]*probe), outages: newOutages(c.Log)}
	c.Dialer.Tried = func(to topology.Endpoint, err error) {
		o.outages.tried(to, err, time.Now(), func() []topology.Group { return c.Control.State().Groups })
	}
	c.Manager.SetSeen(o.Seen)
	o.last.Store(&Snapshot{At: o.started, State: c.Control.State(), Refusal: c.Manager.Refusal()})
	return o
}

// Run takes snapshots until ctx ends, and returns when nothing of it is left.
func (o *Observer) Run(ctx context.Context) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	defer o.wg.Wait()
	for n := uint64(1); ; n++ {
		o.take(ctx, n)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Started is when the Observer was made, which is when the gateway started.
func (o *Observer) Started() time.Time { return o.started }

// Last is the newest snapshot.
func (o *Observer) Last() *Snapshot { return o.last.Load() }

// Changed is closed when there is a newer snapshot than Last gave before the call.
func (o *Observer) Changed() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.news
}

func (o *Observer) take(ctx context.Context, n uint64) {
	c, cancel := context.WithTimeout(ctx, sampleBound)
	defer cancel()
	s := &Snapshot{Seq: n, At: time.Now(), State: o.c.Control.State(), Acked: o.c.Control.Epoch(), Jobs: o.c.Manager.Jobs(), Peers: Gateways(o.c.Control), Refusal: o.c.Manager.Refusal()}
	s.Plane, s.Whole = o.c.Proxy.Sample(c)
	s.Now = o.Last().Now
	if n%perPoint == 1 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		s.Memory = m.Sys - m.HeapReleased
	} else {
		s.Memory = o.Last().Memory
	}
	if s.Whole {
		o.warm(s)
	} else {
		s.Heat = o.Last().Heat
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.follow(ctx, s.State.Groups)
	o.outages.keep(s.State.Groups)
	for _, g := range s.State.Groups {
		s.Groups = append(s.Groups, o.probes[g.ID].view(g, &s.State, s.Plane.Links[g.ID]))
	}
	o.tell(s)
	if n%perPoint == 1 && s.Whole {
		s.Now = o.point(s)
		o.history.add(s.Now)
	}
	o.last.Store(s)
	close(o.news)
	o.news = make(chan struct{})
}

// heatHalf is in how much time the rate of a slot follows half of a change.
const heatHalf = 4.0 // s

// warm estimates the rates of slots.
func (o *Observer) warm(s *Snapshot) {
	now := s.Plane.SlotOps
	if now == nil {
		return
	}
	if len(o.slots) != len(now) {
		o.heat, o.slots, o.heatAt = make([]float32, len(now)), now, s.At
		return
	}
	d := s.At.Sub(o.heatAt).Seconds()
	if d <= 0 {
		return
	}
	weight := float32(min(1, d/heatHalf*0.69))
	heat := make([]float32, len(now))
	for i, n := range now {
		rate := float32(n-o.slots[i]) * float32(s.Plane.OpsEach) / float32(d)
		heat[i] = o.heat[i] + weight*(rate-o.heat[i])
	}
	o.heat, o.slots, o.heatAt = heat, now, s.At
	s.Heat = heat
}

// point is what came to pass since the last one.
func (o *Observer) point(s *Snapshot) Point {
	var all metrics.Histogram
	for i := range s.Plane.Classes {
		if c := stats.Class(i); c != stats.Blocking && c != stats.Others {
			all.Add(&s.Plane.Classes[i])
		}
	}
	d := s.At.Sub(o.at).Seconds()
	n, before := &s.Plane.Counts, &o.count.Counts
	p := Point{T: s.At.UnixMilli(), Clients: int64(n[stats.Clients]), Memory: s.Memory, Parked: int64(n[stats.Parked]), InFlight: int64(n[stats.InFlight])}
	if !o.at.IsZero() && d > 0 {
		p.Ops = rate(n[stats.Commands], before[stats.Commands], d)
		p.Errors = rate(n[stats.ErrorReplies], before[stats.ErrorReplies], d)
		p.In = rate(n[stats.BytesIn], before[stats.BytesIn], d)
		p.Out = rate(n[stats.BytesOut], before[stats.BytesOut], d)
		fresh := all.Since(&o.before)
		p.P50, p.P99, p.P999 = us(fresh.Quantile(0.5)), us(fresh.Quantile(0.99)), us(fresh.Quantile(0.999))
	}
	for _, j := range s.Jobs {
		if j.Live {
			p.Moved += float64(j.RateNow)
		}
	}
	o.before, o.count, o.at = all, s.Plane, s.At
	return p
}

// rate is the growth of a counter per second; one that was reset has grown from 0.
func rate(now, before uint64, seconds float64) float64 {
	if now < before {
		before = 0
	}
	return float64(now-before) / seconds
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
