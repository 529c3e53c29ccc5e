package observe

import (
	"runtime"
	"slices"
	"strings"
	"time"

	"keyferry/internal/metrics"
	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/proxy/stats"
)

// endedShown is how many ended jobs have series of their own.
const endedShown = 10

// values gathers the points of one page of /metrics.
type values struct{ list []metrics.Value }

// put adds a point. It may change labels: one that is no UTF-8 Prometheus refuses.
func (v *values) put(s *metrics.Series, n float64, labels ...string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "?")
	}
	v.list = append(v.list, metrics.Value{Of: s, V: n, Labels: labels})
}

func (v *values) hist(s *metrics.Series, h *metrics.Histogram, labels ...string) {
	v.list = append(v.list, metrics.Value{Of: s, H: h, Labels: labels})
}

// Values is the newest snapshot as metrics. It does not block.
func (o *Observer) Values() []metrics.Value {
	s := o.Last()
	v := &values{}
	v.put(metrics.BuildInfo, 1, o.c.Version, o.c.Name, runtime.Version())
	v.put(metrics.StartTime, float64(o.started.UnixMilli())/1000)
	v.put(metrics.SampleAge, time.Since(s.At).Seconds())
	v.clients(&s.Plane)
	v.groups(s)
	v.jobs(s.Jobs)
	v.gateways(s.Peers)
	o.mu.Lock()
	defer o.mu.Unlock()
	for k, n := range o.errors {
		v.put(metrics.MigrationErrors, float64(n), k[0], k[1])
	}
	v.put(metrics.MigrationRetries, float64(o.retries))
	return v.list
}

func (v *values) clients(p *stats.Sample) {
	for m, row := range stats.Table {
		if row.Series != nil {
			v.put(row.Series, float64(p.Counts[m]), slices.Clone(row.Labels)...)
		}
	}
	v.put(metrics.ClientsBlocked, float64(p.Blocked))
	v.put(metrics.ClientBuffers, float64(p.Buffers))
	v.put(metrics.SlowCommands, float64(p.Slow))
	v.hist(metrics.LockWaitSeconds, &p.LockWaits)
	for i := range p.Classes {
		v.hist(metrics.CommandSeconds, &p.Classes[i], stats.ClassNames[i])
	}
	for _, c := range p.Commands {
		v.put(metrics.Commands, float64(c.Calls), c.Name)
		v.put(metrics.CommandsFailed, float64(c.Failed), c.Name)
		v.put(metrics.CommandsRejected, float64(c.Rejected), c.Name)
	}
	for code, n := range p.Errors {
		v.put(metrics.ErrorReplies, float64(n), code)
	}
}

func (v *values) groups(s *Snapshot) {
	for _, g := range s.Groups {
		v.put(metrics.GroupUp, flag(g.Up), g.ID)
		v.put(metrics.GroupSlots, float64(g.Slots), g.ID)
		if g.SeenMs == 0 {
			continue
		}
		v.put(metrics.GroupPing, g.PingUs/1e6, g.ID)
		v.put(metrics.GroupMemory, float64(g.Memory), g.ID)
		v.put(metrics.GroupMemoryMax, float64(g.Limit), g.ID)
		v.put(metrics.GroupKeys, float64(g.Keys), g.ID)
		v.put(metrics.GroupClients, float64(g.Clients), g.ID)
		v.put(metrics.GroupStrangers, float64(g.Direct), g.ID)
		v.put(metrics.GroupCommands, float64(g.Total), g.ID)
		v.put(metrics.GroupReplicas, float64(len(g.Replicas)), g.ID)
	}
	v.put(metrics.Epoch, float64(s.State.Epoch))
	v.put(metrics.EpochAcked, float64(s.Acked))
	refused := 0.0
	if s.Refusal != "" {
		refused = 1
	}
	v.put(metrics.WritesRefused, refused)
	v.put(metrics.SlotsUnassigned, float64(topology.CountSlots(s.State.Unassigned())))
	v.put(metrics.SlotsMoving, float64(s.State.SlotsMoving()))
}

func (v *values) gateways(all []Gateway) {
	for _, g := range all {
		v.put(metrics.GatewayUp, flag(g.State == Serving || g.State == Draining), g.Name)
		v.put(metrics.GatewayEpoch, float64(g.Epoch), g.Name)
		v.put(metrics.GatewayJobs, float64(g.Jobs), g.Name)
	}
}

// AllPhases are shown with 0 too, so that an alert on a phase has something to compare.
var AllPhases = []topology.Phase{topology.Queued, topology.Preflight, topology.Preparing, topology.Bulk, topology.Tail, topology.Verifying,
	topology.Backoff, topology.Paused, topology.Done, topology.Failed, topology.Reverting, topology.Reverted, topology.Cancelled}

func (v *values) jobs(jobs []migrator.Status) {
	in := make(map[topology.Phase]int)
	for _, p := range AllPhases {
		in[p] = 0
	}
	ended := 0
	for i := len(jobs) - 1; i >= 0; i-- {
		j := &jobs[i]
		in[j.Phase]++
		if j.Phase.Ended() {
			ended++
		}
		if !j.Phase.Ended() || ended <= endedShown {
			v.job(j)
		}
	}
	for p, n := range in {
		v.put(metrics.Jobs, float64(n), string(p))
	}
}

func (v *values) job(j *migrator.Status) {
	v.put(metrics.JobPhase, 1, j.ID, j.Source, j.Target, string(j.Phase))
	v.put(metrics.JobKeys, float64(j.KeysMoved), j.ID)
	v.put(metrics.JobBytes, float64(j.BytesMoved), j.ID)
	v.put(metrics.JobTouched, float64(j.Touched), j.ID)
	v.put(metrics.JobBigKeys, float64(j.BigKeys), j.ID)
	v.put(metrics.JobWaiting, float64(j.Waiting), j.ID)
	v.put(metrics.JobInDoubt, float64(len(j.InDoubt)), j.ID)
	v.put(metrics.JobAttempts, float64(j.Attempt), j.ID)
	v.put(metrics.JobRateLimit, j.RateKeysPerS, j.ID)
	v.put(metrics.JobRate, flag(j.Live)*float64(j.RateNow), j.ID)
	v.put(metrics.JobStalled, flag(j.Stalled != nil), j.ID)
	if j.Slice.Work > 0 || j.Slices > 0 {
		v.put(metrics.JobSlices, float64(j.Slices), j.ID)
	}
	if j.Live {
		v.put(metrics.JobSpeed, j.Flow.Share, j.ID)
		v.put(metrics.JobPace, j.Flow.WorkPerS, j.ID)
	}
	if j.KeysLeft >= 0 {
		v.put(metrics.JobKeysLeft, float64(j.KeysLeft), j.ID)
	}
	if j.LastProgress > 0 {
		v.put(metrics.JobProgress, float64(j.LastProgress)/1000, j.ID)
	}
	for _, x := range []struct {
		stat string
		us   int64
	}{{"p50", j.HoldP50us}, {"p99", j.HoldP99us}, {"max", j.HoldMaxUs}} {
		v.put(metrics.JobHold, float64(x.us)/1e6, j.ID, x.stat)
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
